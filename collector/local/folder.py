"""The files by which the processes that share a server coordinate, in the server's folder.

- `lock`: a process holds it while it starts or joins the server.
- `users`: a named pipe that every user of the server has open.
- `running.lock`: the server inherits it, so it stays locked until the server's last process has
  ended, whatever happens to its users. It names the process.
- `server.json`: how to reach the server, from its first answer to its end.

The kernel releases all of them when their holders die.
"""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import lock_descriptor

from collector.local.leftovers import end_process, find_process, holds_within
from collector.local.records import PRIVATE_FILE_MODE, LocalServerError, logger

# Its warden stops a server whose users died. After this time another process stops it.
LEFTOVER_SECONDS = 30.0
LEFTOVER_STOP_SECONDS = 10.0
# Generous for a pid and a time.
HOLDER_BYTES = 1024


def record_path(folder: Path) -> Path:
    return folder / "server.json"


@dataclass(frozen=True, slots=True)
class Users:
    """The processes that use the server of `folder`: each has the pipe open for writing.

    A process joins while it holds `lock`, so none joins a server that its warden has begun to stop.
    """

    folder: Path

    @property
    def pipe(self) -> Path:
        return self.folder / "users"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    def join(self) -> int | None:
        """Return a descriptor that keeps the server running while it is open; None: no server."""
        try:
            return os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENXIO):
                return None
            raise

    def exist(self) -> bool:
        """Whether any process uses the server now."""
        try:
            reader = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            return os.read(reader, 1) != b""
        except BlockingIOError:
            return True
        finally:
            os.close(reader)

    def make_pipe(self) -> tuple[int, int]:
        """Make a new pipe and return its two ends: for the warden, and for the first user."""
        self.pipe.unlink(missing_ok=True)
        os.mkfifo(self.pipe, PRIVATE_FILE_MODE)
        reader = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        return reader, os.open(self.pipe, os.O_WRONLY)


@dataclass(frozen=True, slots=True)
class RunningLock:
    """The lock that a server inherits: held for as long as any of its processes lives."""

    descriptor: int

    def write_holder(self, pid: int) -> None:
        """Write down which process holds the lock, so that a leftover server can be found."""
        if process := find_process(pid):
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, json.dumps([pid, process.create_time()]).encode(), 0)

    def try_acquire(self) -> bool:
        return lock_descriptor(self.descriptor, blocking=False)

    async def acquire(self, name: str) -> None:
        """Wait until an earlier server has ended, and end it if its warden does not.

        Raises LocalServerError if it survives; `name` is the server's in messages.
        """
        if await holds_within(LEFTOVER_SECONDS, self.try_acquire):
            return
        await self.end_holder(name)
        if not await holds_within(LEFTOVER_STOP_SECONDS, self.try_acquire):
            raise LocalServerError(name, "an earlier server still runs and cannot be stopped")

    async def end_holder(self, name: str) -> None:
        if holder := os.pread(self.descriptor, HOLDER_BYTES, 0):
            pid, created = json.loads(holder)
            if process := find_process(pid, created):
                logger.warning("%s: process %d was left running: stopping it", name, pid)
                await end_process(process, signal.SIGINT, LEFTOVER_STOP_SECONDS)


@contextmanager
def open_running_lock(folder: Path) -> Iterator[RunningLock]:
    descriptor = os.open(folder / "running.lock", os.O_RDWR | os.O_CREAT, PRIVATE_FILE_MODE)
    try:
        yield RunningLock(descriptor)
    finally:
        os.close(descriptor)


def is_running(folder: Path) -> bool:
    """Whether any process of the server in `folder` lives, or is being started."""
    if not (folder / "running.lock").exists():
        return False
    with open_running_lock(folder) as running:
        return not running.try_acquire()
