"""The request budget in memory: the second implementation that the conformance suite holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from collector.core.pacing import WANTED_SECONDS, WINDOW_SECONDS, Announcement, Priority, Slot, Wait


@dataclass
class _Place:
    free_at: float = float("-inf")
    taken_at: float = float("-inf")
    holder: str | None = None


class MemoryBudget:
    """What callers of one process share; `clock` is monotonic seconds."""

    def __init__(
        self,
        requests: int,
        clock: Callable[[], float],
        window_seconds: float = WINDOW_SECONDS,
        lease_seconds: float = 2 * WINDOW_SECONDS,
    ) -> None:
        self.requests = requests
        self.clock = clock
        self.window_seconds = window_seconds
        self.lease_seconds = lease_seconds
        self.places = [_Place() for _ in range(requests)]
        self.announced_limit: int | None = None
        self.paused_until = float("-inf")
        self.wanted_until: dict[Priority, float] = {}

    def caller(self, priority: Priority = Priority.RUN) -> _Caller:
        """Return the budget as a caller of this priority sees it."""
        return _Caller(self, priority)

    @property
    def limit(self) -> int:
        """The ceiling, or less where the server said so."""
        return min(self.requests, self.announced_limit or self.requests)


class _Caller:
    def __init__(self, shared: MemoryBudget, priority: Priority) -> None:
        self._shared = shared
        self._priority = priority

    async def take(self) -> Slot | Wait:
        shared, now = self._shared, self._shared.clock()
        most = shared.limit - min(self._priority.reserved_slots, shared.limit // 2)
        wait_seconds = max(self._closed_until() - now, self._full_for(most, now))
        if wait_seconds > 0:
            shared.wanted_until[self._priority] = now + WANTED_SECONDS
            return Wait(wait_seconds)
        number = next(n for n, place in enumerate(shared.places) if place.free_at <= now)
        place = _Place(now + shared.lease_seconds, now, str(uuid4()))
        shared.places[number] = place
        return Slot(number + 1, place.holder or "")

    async def end(self, slot: Slot, announced: Announcement | None) -> None:
        shared, now = self._shared, self._shared.clock()
        place = shared.places[slot.number - 1]
        if announced is not None and announced.limit is not None:
            shared.announced_limit = announced.limit
        if place.holder != slot.holder:
            return
        place.free_at, place.holder = now + shared.window_seconds, None
        if announced is not None and announced.remaining is not None:
            known = sum(other.free_at > place.taken_at for other in shared.places)
            unseen = max(0, shared.limit - known - announced.remaining)
            for free in [it for it in shared.places if it.free_at <= now][:unseen]:
                free.free_at = now + shared.window_seconds

    async def pause(self, seconds: float) -> None:
        self._shared.paused_until = max(self._shared.paused_until, self._shared.clock() + seconds)

    def _closed_until(self) -> float:
        wanted = [at for kind, at in self._shared.wanted_until.items() if kind < self._priority]
        return max([self._shared.paused_until, *wanted])

    def _full_for(self, most: int, now: float) -> float:
        ends = [place.free_at for place in self._shared.places if place.free_at > now]
        return min(min(ends) - now, self._shared.window_seconds) if len(ends) >= most else 0.0
