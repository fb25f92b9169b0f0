"""Wait for a slot of the budget that all processes share, one request at a time."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from collector.core.errors import Outage
from collector.core.pacing import ASK_AGAIN_SECONDS, Announcement, Slot, Wait
from collector.ports import RequestBudget

logger = logging.getLogger(__name__)

# A shorter wait is over before anybody wonders.
SILENT_WAIT_SECONDS = 5.0
# A wait that was told is told again only where it has grown by this.
TELL_AGAIN_SECONDS = 30.0
# A clean exit after SIGTERM has 4 s in all; giving slots back gets this share of it.
END_SECONDS = 1.0


class Turn:
    """A request that may leave now. Set `announced` to what its answer says of the limit."""

    announced: Announcement | None = None


class Pacer:
    """Let requests of this process leave in turn, as the shared budget allows.

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
        """Wait for a slot, hold it while the request is out. Raises Outage(database)."""
        async with self._turnstile:
            slot = await self._wait_for_slot()
            self.requests_sent += 1
        turn = Turn()
        try:
            yield turn
        finally:
            await self._end(slot, turn.announced)

    async def pause(self, seconds: float) -> bool:
        """Hold everybody back, in all processes, for `seconds`.

        Returns whether it is a new pause of this process, and not one of several 429s that came
        back together. Raises Outage(database).
        """
        now = self._clock()
        is_new = now >= self._paused_until
        self._paused_until = max(self._paused_until, now + seconds)
        await self._budget.pause(seconds)
        return is_new

    async def _wait_for_slot(self) -> Slot:
        told_until, grown_by = self._clock(), SILENT_WAIT_SECONDS
        while isinstance(granted := await self._budget.take(), Wait):
            until = self._clock() + granted.seconds
            if until - told_until > grown_by:
                logger.info("[draenei] api: waiting %.0f s for the rate limit", granted.seconds)
                told_until, grown_by = until, TELL_AGAIN_SECONDS
            await anyio.sleep(min(granted.seconds, ASK_AGAIN_SECONDS))
        return granted

    async def _end(self, slot: Slot, announced: Announcement | None) -> None:
        # Where it cannot be noted, the slot frees by itself when its lease ends.
        with anyio.move_on_after(END_SECONDS, shield=True):
            try:
                await self._budget.end(slot, announced)
            except Outage as problem:
                logger.warning("[draenei] api: a slot could not be given back: %s", problem)
