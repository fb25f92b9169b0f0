"""Several processes use one server: the first starts it, the last one stops it.

Files of a server's folder that take part:

- `lock` is the door: whoever starts or joins the server holds it meanwhile.
- `users` is a named pipe that every user has open; see `process.Users`.
- `running.lock` is inherited by the server itself, so it is held until the last process of the
  server ended, whatever became of its users. It names the process.
- `server.json` tells how to reach the server, from its first answer to its end.

All that is held is released by the kernel when its holders die.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
from filelock import BaseFileLock, FileLock, Timeout, lock_descriptor

from collector.local.leftovers import end_process, find_process, holds_within, until
from collector.local.process import Users, ends_within
from collector.local.records import (
    PRIVATE_FILE_MODE,
    LocalServerError,
    Record,
    from_json,
    to_json,
    write_private,
)

logger = logging.getLogger("collector.local")

# Above the sum of a slow stop and a start with recovery; a longer wait has no end in sight.
TURN_SECONDS = 180.0
# A server whose users died is stopped by its warden; after this time it is stopped from here.
LEFTOVER_SECONDS = 30.0
LEFTOVER_STOP_SECONDS = 10.0
# While a server that runs does not answer, its users may leave and its warden stop it.
ANSWER_PAUSE_SECONDS = 0.05
# A pid and a time, generously.
HOLDER_BYTES = 1024
# Others may pass through, which the unprivileged server has to; the files in it are private.
FOLDER_MODE = 0o711


class Running:
    """The lock that a server inherits: held for as long as any of its processes lives."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def name(self, pid: int) -> None:
        """Write down which process holds the lock, for whoever finds it left over."""
        if process := find_process(pid):
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, json.dumps([pid, process.create_time()]).encode(), 0)

    def is_free(self) -> bool:
        """Take the lock if nobody holds it."""
        return lock_descriptor(self.descriptor, blocking=False)

    async def end_leftover(self, name: str) -> None:
        """Take the lock: wait until an earlier server is gone, and end it if nobody else does."""
        if await holds_within(LEFTOVER_SECONDS, self.is_free):
            return
        await self.end_holder(name)
        if not await holds_within(LEFTOVER_STOP_SECONDS, self.is_free):
            raise LocalServerError(name, "an earlier server still runs, and cannot be stopped")

    async def end_holder(self, name: str) -> None:
        """End the process that was written down, which its warden did not end."""
        if holder := os.pread(self.descriptor, HOLDER_BYTES, 0):
            pid, created = json.loads(holder)
            if process := find_process(pid, created):
                logger.warning("%s: stopping process %d, which is left over", name, pid)
                await end_process(process, signal.SIGINT, LEFTOVER_STOP_SECONDS)


@contextmanager
def open_running(folder: Path) -> Iterator[Running]:
    descriptor = os.open(folder / "running.lock", os.O_RDWR | os.O_CREAT, PRIVATE_FILE_MODE)
    try:
        yield Running(descriptor)
    finally:
        os.close(descriptor)


def users_of(folder: Path) -> Users:
    return Users(folder / "users", folder / "lock")


def is_running(folder: Path) -> bool:
    """Whether any process of the server in `folder` lives, or is being started."""
    if not (folder / "running.lock").exists():
        return False
    with open_running(folder) as running:
        return not running.is_free()


async def wait_stopped(folder: Path) -> None:
    """Return once no process of the server in `folder` is left."""
    await until(lambda: not is_running(folder))


class Server(Protocol[Record]):
    """What this module needs to know about a kind of server.

    `name` is what people call it, `folder` where it keeps the files named above, `record` what
    tells how to reach it, and `stop_seconds` how long a stop may take before it is killed.
    """

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def record(self) -> type[Record]: ...
    @property
    def stop_seconds(self) -> float: ...

    async def answers(self, record: Record) -> bool:
        """Whether the server that `record` describes serves requests now."""

    async def start(self, running: Running, seat: ExitStack) -> Record:
        """Start the server, for as long as `seat` is open; return once it answers."""


@asynccontextmanager
async def shared_server(server: Server[Record]) -> AsyncIterator[Record]:
    """Use the server of `server.folder`: the one that runs, or else one started here.

    On leaving, also by error or cancellation, the last user waits until the server has stopped.
    Raises LocalServerError if it cannot be started or reached.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_wait_unless_used, server)
        try:
            server.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            record = await _use(server, stack)
        except OSError as error:
            problem = f"cannot use {server.folder}: {error or type(error).__name__}"
            raise LocalServerError(server.name, problem) from error
        yield record


async def _wait_unless_used(server: Server[Record]) -> None:
    """Wait for the server's end, if this was its last user."""
    users = users_of(server.folder)

    def is_over() -> bool:
        return users.are_there() or not is_running(server.folder)

    with suppress(OSError):  # of a folder that cannot be used
        if not await ends_within(server.stop_seconds, server.name, partial(until, is_over)):
            with open_running(server.folder) as running:
                await running.end_holder(server.name)


async def _use(server: Server[Record], stack: AsyncExitStack) -> Record:
    with anyio.move_on_after(TURN_SECONDS):
        while True:
            with ExitStack() as seat:
                async with _door(server.folder):
                    record = await _start_or_join(server, seat)
                if record is not None:
                    stack.enter_context(seat.pop_all())
                    return record
            await anyio.sleep(ANSWER_PAUSE_SECONDS)
    problem = f"another process holds {server.folder / 'lock'}, or its server does not answer"
    raise LocalServerError(server.name, problem)


@asynccontextmanager
async def _door(folder: Path) -> AsyncIterator[None]:
    path = users_of(folder).door
    door = FileLock(path, mode=PRIVATE_FILE_MODE, thread_local=False, fallback_to_soft=False)
    await until(partial(_is_taken, door))
    try:
        yield
    finally:
        door.release()


def _is_taken(door: BaseFileLock) -> bool:
    try:
        door.acquire(blocking=False)
    except Timeout:
        return False
    return True


async def _start_or_join(server: Server[Record], seat: ExitStack) -> Record | None:
    """Return None if the server that runs does not answer, or does not any more."""
    published = server.folder / "server.json"
    if (descriptor := users_of(server.folder).join()) is not None:
        seat.callback(os.close, descriptor)
        with suppress(FileNotFoundError):
            record = from_json(server.record, published.read_text())
            return record if await server.answers(record) else None
        return None
    published.unlink(missing_ok=True)
    with open_running(server.folder) as running:
        await running.end_leftover(server.name)
        record = await server.start(running, seat)
    write_private(published, to_json(record))
    return record
