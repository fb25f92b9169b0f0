"""Several processes use one server: the first starts it, and it stops when the last one leaves."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
from filelock import AsyncFileLock

from collector.local.folder import (
    RunningLock,
    Users,
    is_running,
    open_running_lock,
    record_path,
)
from collector.local.leftovers import POLL_SECONDS, until
from collector.local.process import ends_within
from collector.local.records import (
    PASSABLE_FOLDER_MODE,
    PRIVATE_FILE_MODE,
    LocalServerError,
    Record,
    from_json,
    to_json,
    write_private,
)

# More than a slow stop and a start with recovery take together.
START_OR_JOIN_SECONDS = 180.0
# While a running server does not answer, its users may leave and its warden may stop it.
ANSWER_POLL_SECONDS = 0.05


class Server(Protocol[Record]):
    """What this module needs to know about a kind of server.

    `name` is for messages, `folder` keeps the files of `folder.py`, `record` is the class that
    says how to reach it, and `stop_seconds` is how long a stop may take before it is killed.
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

    async def start(self, running: RunningLock, lifeline: ExitStack) -> Record:
        """Start the server, for as long as `lifeline` is open; return once it answers."""


@asynccontextmanager
async def shared_server(server: Server[Record]) -> AsyncIterator[Record]:
    """Use the server of `server.folder`: join the running one, or else start it.

    On leaving, also by error or cancellation, the last user waits until the server has stopped.
    Raises LocalServerError if it cannot be started or reached.
    """
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_wait_unless_used, server)
        try:
            server.folder.mkdir(mode=PASSABLE_FOLDER_MODE, parents=True, exist_ok=True)
            record = await _use(server, stack)
        except OSError as error:
            problem = f"cannot use {server.folder}: {error or type(error).__name__}"
            raise LocalServerError(server.name, problem) from error
        yield record


async def _wait_unless_used(server: Server[Record]) -> None:
    """Wait until the server has stopped, unless it has other users."""
    users = Users(server.folder)
    is_over = partial(until, lambda: users.exist() or not is_running(server.folder))
    with suppress(OSError):  # the folder cannot be used
        if not await ends_within(server.stop_seconds, server.name, is_over):
            with open_running_lock(server.folder) as running:
                await running.end_holder(server.name)


async def _use(server: Server[Record], stack: AsyncExitStack) -> Record:
    lock = Users(server.folder).lock
    with anyio.move_on_after(START_OR_JOIN_SECONDS):
        while True:
            with ExitStack() as lifeline:
                async with _locked(lock):
                    record = await _start_or_join(server, lifeline)
                if record is not None:
                    stack.enter_context(lifeline.pop_all())
                    return record
            await anyio.sleep(ANSWER_POLL_SECONDS)
    problem = f"another process holds {lock}, or its server does not answer"
    raise LocalServerError(server.name, problem)


def _locked(lock: Path) -> AsyncFileLock:
    return AsyncFileLock(
        lock,
        mode=PRIVATE_FILE_MODE,
        poll_interval=POLL_SECONDS,
        fallback_to_soft=False,
        run_in_executor=False,
    )


async def _start_or_join(server: Server[Record], lifeline: ExitStack) -> Record | None:
    """Return None if a server runs but does not answer yet, or no longer answers."""
    published = record_path(server.folder)
    if (descriptor := Users(server.folder).join()) is not None:
        lifeline.callback(os.close, descriptor)
        with suppress(FileNotFoundError):
            record = from_json(server.record, published.read_text())
            return record if await server.answers(record) else None
        return None
    published.unlink(missing_ok=True)
    with open_running_lock(server.folder) as running:
        await running.acquire(server.name)
        record = await server.start(running, lifeline)
    write_private(published, to_json(record))
    return record
