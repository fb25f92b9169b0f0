"""Bounded concurrency: a pacer for requests, a supply of work, a budget for bytes. anyio only."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from collector.core.errors import CollectorError, ItemError
from collector.core.pacing import SlidingWindow

logger = logging.getLogger(__name__)

# A shorter wait is over before anybody wonders.
SILENT_WAIT_SECONDS = 5.0


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


class Pacer:
    """Let requests leave in turn, never more than the window allows.

    `clock` is monotonic seconds. A cancelled waiter takes no slot.
    """

    def __init__(self, window: SlidingWindow, clock: Callable[[], float]) -> None:
        self._window = window
        self._clock = clock
        self._turnstile = anyio.Lock()
        self._changed = anyio.Event()
        self.requests_sent = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot, hold it while the request is out."""
        async with self._turnstile:
            await self._wait_for_slot()
            self._window.begin()
            self.requests_sent += 1
        try:
            yield
        finally:
            self._window.end(self._clock())
            self._wake()

    def pause(self, seconds: float) -> bool:
        """Hold everybody back for `seconds`; return whether nobody had been held back before."""
        is_first = not self._window.is_paused(self._clock())
        self._window.pause(self._clock(), seconds)
        self._wake()
        return is_first

    def lower(self, limit: int) -> None:
        """Obey a lower limit that the server announced."""
        self._window.lower(limit)

    async def _wait_for_slot(self) -> None:
        told_until = self._clock()
        while (delay_seconds := self._window.delay_seconds(self._clock())) != 0.0:
            changed = self._changed
            told_until = self._say_how_long(delay_seconds or 0.0, told_until)
            with anyio.move_on_after(delay_seconds):
                await changed.wait()

    def _say_how_long(self, delay_seconds: float, told_until: float) -> float:
        """Say it where it is long, and again where it has grown; return until when it was told."""
        until = self._clock() + delay_seconds
        if until - told_until <= SILENT_WAIT_SECONDS:
            return told_until
        logger.info("[draenei] api: waiting %.0f s for the rate limit", delay_seconds)
        return until

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


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
        async with self._turnstile:
            while self.held_bytes + size_bytes > self.limit_bytes:
                await self._freed.wait()
            self.held_bytes += size_bytes
            self.peak_bytes = max(self.peak_bytes, self.held_bytes)
        try:
            yield
        finally:
            self.held_bytes -= size_bytes
            self._freed.set()
            self._freed = anyio.Event()
