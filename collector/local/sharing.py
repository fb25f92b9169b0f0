"""One owner runs a server, others use it while it runs.

Files of a server's folder that take part:

- `lock` is held by the owner, and by nobody else. Free means: whoever takes it starts the server.
- `running.lock` is inherited by the server itself, so it is held until the last process of the
  server ended, whatever became of the owner. It names the process and its command.
- `server.json` tells how to reach the server. It is new with each start and appears once the
  server answers. Users hold a shared lock on it; the owner locks it for itself before it stops
  the server, and so waits for its users.

All three are released by the kernel when their holders die.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    suppress,
)
from pathlib import Path
from typing import Protocol

import anyio

from collector.local.errors import LocalServerError
from collector.local.files import write_private
from collector.local.locks import is_locked, lock_file, try_lock
from collector.local.pids import end_process
from collector.local.polling import POLL_SECONDS, holds_within, until
from collector.local.records import Record, from_json, to_json

logger = logging.getLogger("collector.local")

# Above the sum of a slow stop and a start with recovery; a longer wait has no end in sight.
TURN_SECONDS = 180.0
# A server whose owner died is stopped by its warden; after this time it is stopped from here.
LEFTOVER_SECONDS = 30.0
LEFTOVER_STOP_SECONDS = 10.0
# A pid and a command line, generously.
RUNNING_BYTES = 64 * 1024
RECORD_BYTES = 16 * 1024
# Others may pass through, which the unprivileged server has to; the files in it are private.
FOLDER_MODE = 0o711


class Running:
    """The lock that a server inherits: held for as long as any of its processes lives."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def name(self, pid: int, argv: Sequence[str]) -> None:
        """Write down which process holds the lock, for an owner that finds it left over."""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, json.dumps({"pid": pid, "argv": list(argv)}).encode(), 0)

    def holder(self) -> tuple[int, list[str]] | None:
        """Return process and command that `name` wrote, or None before the first."""
        text = os.pread(self.descriptor, RUNNING_BYTES, 0)
        if not text:
            return None
        held = json.loads(text)
        return held["pid"], held["argv"]


class Server(Protocol[Record]):
    """What this module needs to know about a kind of server."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def folder(self) -> Path:
        """Where its lock files, and what else it keeps, are."""

    @property
    def record(self) -> type[Record]:
        """What tells how to reach it."""

    async def answers(self, record: Record) -> bool:
        """Whether the server that `record` describes serves requests now."""

    def run(self, running: Running) -> AbstractAsyncContextManager[Record]:
        """Start the server, wait until it answers; stop it at the end."""


@asynccontextmanager
async def shared_server(server: Server[Record]) -> AsyncIterator[Record]:
    """Use the server of `server.folder`: the one that runs, or else one started here.

    Who starts it owns it: leaving waits for the other users, unless by cancellation, and stops
    it. Raises LocalServerError where it cannot be started or reached.
    """
    async with AsyncExitStack() as stack:
        try:
            record = await _own_or_join(stack, server)
        except OSError as error:
            problem = f"cannot use {server.folder}: {error or type(error).__name__}"
            raise LocalServerError(server.name, problem) from error
        yield record


async def _own_or_join(stack: AsyncExitStack, server: Server[Record]) -> Record:
    server.folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    deadline = anyio.current_time() + TURN_SECONDS
    while anyio.current_time() < deadline:
        if _take(stack, server.folder / "lock"):
            return await stack.enter_async_context(_owned(server))
        if (record := await _join(stack, server)) is not None:
            return record
        await anyio.sleep(POLL_SECONDS)
    raise LocalServerError(
        server.name, f"another process holds {server.folder / 'lock'} and its server is not ready"
    )


def _take(stack: AsyncExitStack, path: Path) -> bool:
    with ExitStack() as attempt:
        if not try_lock(attempt.enter_context(lock_file(path))):
            return False
        stack.enter_context(attempt.pop_all())
    return True


async def _join(stack: AsyncExitStack, server: Server[Record]) -> Record | None:
    """Take a seat among the users, if the owner has published a server that answers."""
    published = server.folder / "server.json"
    with suppress(FileNotFoundError), ExitStack() as attempt:
        seat = attempt.enter_context(lock_file(published, create=False))
        if not try_lock(seat, shared=True):
            return None
        record = from_json(server.record, os.pread(seat, RECORD_BYTES, 0).decode())
        if await server.answers(record) and _is_current(seat, published):
            stack.enter_context(attempt.pop_all())
            return record
    return None


def _is_current(descriptor: int, path: Path) -> bool:
    return os.path.samestat(os.fstat(descriptor), path.stat())


@asynccontextmanager
async def _owned(server: Server[Record]) -> AsyncIterator[Record]:
    published = server.folder / "server.json"
    published.unlink(missing_ok=True)
    async with AsyncExitStack() as stack:
        with lock_file(server.folder / "running.lock") as descriptor:
            running = Running(descriptor)
            await _end_leftover(server.name, running)
            record = await stack.enter_async_context(server.run(running))
        write_private(published, to_json(record))
        async with _seats(server.name, published):
            yield record


async def _end_leftover(name: str, running: Running) -> None:
    """Wait until a server of an owner that died is gone, and end it if nobody else does."""

    def free() -> bool:
        return try_lock(running.descriptor)

    if await holds_within(LEFTOVER_SECONDS, free):
        return
    if (holder := running.holder()) is not None:
        pid, argv = holder
        logger.warning("%s: stopping process %d, whose owner died", name, pid)
        await end_process(pid, argv, stop_signal=signal.SIGINT, stop_seconds=LEFTOVER_STOP_SECONDS)
    if not await holds_within(LEFTOVER_STOP_SECONDS, free):
        raise LocalServerError(name, f"an earlier server still runs: {holder}")


@asynccontextmanager
async def _seats(name: str, published: Path) -> AsyncIterator[None]:
    """Let others use the server during the body, then take no more and wait for them.

    A body that was cancelled waits for nobody.
    """
    with lock_file(published) as seats:
        try:
            yield
        except Exception:
            await _wait_for_users(name, seats)
            raise
        else:
            await _wait_for_users(name, seats)
        finally:
            published.unlink(missing_ok=True)


async def _wait_for_users(name: str, seats: int) -> None:
    if try_lock(seats):
        return
    logger.info("%s: other commands still use it; waiting for them", name)
    await until(lambda: try_lock(seats))


async def wait_stopped(folder: Path) -> None:
    """Return once no process of the server in `folder` is left."""
    await until(lambda: not is_locked(folder / "running.lock"))
