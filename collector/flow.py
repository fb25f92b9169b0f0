"""Bounded concurrency with anyio: task groups, commits, a supply of work, a budget of bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from collector.core.errors import CollectorError, Edge, ItemError, Outage

T = TypeVar("T")

# A commit takes milliseconds; a database that needs longer than this is down.
COMMIT_TIMEOUT_SECONDS = 10.0
# After SIGTERM a process has 4 s to exit. Each last call to a server gets this share of them.
CLEANUP_SECONDS = 1.0


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """Open a task group that raises a single error, not a group of them.

    If several tasks failed, the gravest error is raised: a defect before an outage, an outage
    before an item's failure. The other tasks were cancelled or failed for the same reason.
    """
    try:
        async with anyio.create_task_group() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        raise min(_members(group), key=_gravity) from None


def _members(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for member in group.exceptions:
        if isinstance(member, BaseExceptionGroup):
            yield from _members(member)
        else:
            yield member


def _gravity(error: BaseException) -> int:
    order = (ItemError, CollectorError, Exception)
    matching = [rank for rank, kind in enumerate(order) if isinstance(error, kind)]
    return -min(matching, default=len(order))


async def committed(commit: Awaitable[T]) -> T:
    """Wait for a commit even if the caller is cancelled; raise Outage if no answer comes.

    A cancelled commit may still happen, unknown to the caller: a claim that cannot be released, an
    outcome that counts although its attempt was refunded, a run that is opened and never closed.
    """
    try:
        with anyio.fail_after(COMMIT_TIMEOUT_SECONDS, shield=True):
            return await commit
    except TimeoutError:
        raise Outage(Edge.DATABASE, "a commit was not answered in time") from None


class Supply:
    """Announces new work, and when no more will come.

    A consumer reads `version`, looks for work and, if it finds none, waits with `after(version)`:
    work that is announced in between is not missed.
    """

    def __init__(self, *, is_over: bool = False) -> None:
        self.version = 0
        self.is_over = is_over
        self._changed = anyio.Event()

    def announce(self) -> None:
        """Wake consumers: there may be new work."""
        self.version += 1
        self._changed.set()
        self._changed = anyio.Event()

    def close(self) -> None:
        """Wake consumers for the last time: no more work will come."""
        self.is_over = True
        self.announce()

    async def after(self, version: int) -> None:
        """Wait for an announcement later than `version`."""
        while self.version == version:
            await self._changed.wait()

    async def over(self) -> None:
        """Wait for `close`."""
        while not self.is_over:
            await self._changed.wait()


class ByteBudget:
    """A budget of bytes; reservations wait in turn until enough bytes are free.

    Bound: the sum of all reservations held at once never exceeds `limit_bytes`. A reservation
    larger than the limit raises ValueError.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.peak_bytes = 0
        self._turnstile = anyio.Lock()
        self._freed = anyio.Event()

    @asynccontextmanager
    async def reserve(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold `size_bytes` inside the context; any exit frees them."""
        if size_bytes > self.limit_bytes:
            raise ValueError(f"{size_bytes} bytes never fit a budget of {self.limit_bytes}")
        if self._turnstile.locked() or not self._fits(size_bytes):
            async with self._turnstile:
                while not self._fits(size_bytes):
                    await self._freed.wait()
                self._hold(size_bytes)
        else:
            self._hold(size_bytes)
        try:
            yield
        finally:
            self.held_bytes -= size_bytes
            self._freed.set()
            self._freed = anyio.Event()

    def _fits(self, size_bytes: int) -> bool:
        return self.held_bytes + size_bytes <= self.limit_bytes

    def _hold(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)
