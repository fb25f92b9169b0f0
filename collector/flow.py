"""Bounded concurrency: tasks that fail as one, a supply of work, a budget for bytes. anyio only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from collector.core.errors import CollectorError, Edge, ItemError, Outage

T = TypeVar("T")

# A commit takes milliseconds; a database that needs this long is not there.
COMMIT_TIMEOUT_SECONDS = 10.0


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """Open a task group that raises what went wrong as it is, not wrapped in a group.

    Where several tasks failed, the gravest speaks: a defect before an outage, an outage before
    an item's failure. The others have been cancelled or have failed for the same reason.
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
    """Wait for a commit, whatever is cancelled meanwhile; raises Outage where no answer comes.

    Not to be cut in two: a claim that we never heard of could not be handed back, an outcome that
    lands after an outage's tries were given back would count against its item for ever, and a run
    that is entered must be ended.
    """
    try:
        with anyio.fail_after(COMMIT_TIMEOUT_SECONDS, shield=True):
            return await commit
    except TimeoutError:
        raise Outage(Edge.DATABASE, "a commit was not answered in time") from None


class Supply:
    """Says that there may be more to do, and when nothing more will come.

    Whoever looks for work notes `version` before, and waits with `after` where it found none: what
    is announced in between is not missed.
    """

    def __init__(self, *, is_over: bool = False) -> None:
        self.version = 0
        self.is_over = is_over
        self._changed = anyio.Event()

    def announce(self) -> None:
        """There may be more to do."""
        self.version += 1
        self._changed.set()
        self._changed = anyio.Event()

    def close(self) -> None:
        """Nothing more will come."""
        self.is_over = True
        self.announce()

    async def after(self, version: int) -> None:
        """Wait until something was announced since `version`."""
        while self.version == version:
            await self._changed.wait()

    async def over(self) -> None:
        """Wait until nothing more will come."""
        while not self.is_over:
            await self._changed.wait()


class ByteBudget:
    """Hand out bytes of one budget; who asks waits in turn until they are free.

    Bound: the sum of all reservations held at once never exceeds `limit_bytes`. A reservation
    larger than the limit is refused with ValueError, for it could never be granted.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.peak_bytes = 0
        self._turnstile = anyio.Lock()
        self._freed = anyio.Event()

    @asynccontextmanager
    async def reserve(self, size_bytes: int) -> AsyncIterator[None]:
        """Hold `size_bytes` while inside; they are free again on any exit."""
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
