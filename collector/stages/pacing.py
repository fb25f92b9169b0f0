"""The I/O half of `collector/core/pacing.py`: requests leave as the shared budget allows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from collector.core.errors import Outage
from collector.core.pacing import ASK_AGAIN_SECONDS, Announcement, Slot, Wait
from collector.flow import CLEANUP_SECONDS
from collector.logs import logger
from collector.ports import RequestBudget

# Shorter waits are not logged.
SILENT_WAIT_SECONDS = 5.0
# A wait is logged again only if its end has moved by more than this.
LOG_AGAIN_SECONDS = 30.0


class Turn:
    """The right to send a request now. Set `announced` to the limit that its answer announces."""

    announced: Announcement | None = None


class Pacer:
    """Send the requests of this process one after another, as the shared budget allows.

    `clock` is monotonic seconds. A cancelled waiter takes no slot.
    """

    def __init__(self, budget: RequestBudget, clock: Callable[[], float]) -> None:
        self._budget = budget
        self._clock = clock
        self._turnstile = anyio.Lock()
        self._paused_until = float("-inf")
        self.requests_sent = 0

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Turn]:
        """Wait for a slot, hold it while the request is in flight. Raises Outage(database)."""
        async with self._turnstile:
            slot = await self._wait_for_slot()
            self.requests_sent += 1
        turn = Turn()
        try:
            yield turn
        finally:
            await self._end(slot, turn.announced)

    async def pause(self, seconds: float) -> bool:
        """Pause all processes for `seconds`. Raises Outage(database).

        Returns whether this process was not paused yet: of several 429s that come back together,
        the first is a new pause.
        """
        now = self._clock()
        is_new = now >= self._paused_until
        self._paused_until = max(self._paused_until, now + seconds)
        await self._budget.pause(seconds)
        return is_new

    async def _wait_for_slot(self) -> Slot:
        logged_until, grown_by = self._clock(), SILENT_WAIT_SECONDS
        while isinstance(granted := await self._budget.take(), Wait):
            until = self._clock() + granted.seconds
            if until - logged_until > grown_by:
                logger.info("api: waiting %.0f s for the rate limit", granted.seconds)
                logged_until, grown_by = until, LOG_AGAIN_SECONDS
            await anyio.sleep(min(granted.seconds, ASK_AGAIN_SECONDS))
        return granted

    async def _end(self, slot: Slot, announced: Announcement | None) -> None:
        # If this fails, the slot is free when its lease ends.
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
            try:
                await self._budget.end(slot, announced)
            except Outage as problem:
                logger.warning("api: a slot could not be returned, its lease ends it: %s", problem)
