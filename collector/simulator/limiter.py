"""Windows that count the requests of each client: fixed as the API's, or sliding."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_SECONDS = 60.0  # observed on the live site in September 2026


@dataclass(frozen=True, slots=True)
class Grant:
    """What the limiter says to one request; seconds and counts as the headers carry them."""

    allowed: bool
    limit: int
    remaining: int
    retry_after_seconds: int  # until the window has room again, rounded up


@dataclass(slots=True)
class _Window:
    ends_at: float
    used: int = 0


class FixedWindow:
    """Counts requests in windows that begin with a client's first request.

    A refused request is not counted.
    """

    def __init__(
        self, limit: int, clock: Callable[[], float], window_seconds: float = WINDOW_SECONDS
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._window_seconds = window_seconds
        self._windows: dict[str, _Window] = {}

    def ask(self, client: str) -> Grant:
        """Count one request of `client` if its window has room."""
        now = self._clock()
        window = self._windows.get(client)
        if window is None or now >= window.ends_at:
            window = self._windows[client] = _Window(now + self._window_seconds)
        allowed = window.used < self._limit
        window.used += allowed
        return Grant(
            allowed, self._limit, self._limit - window.used, math.ceil(window.ends_at - now)
        )


class SlidingWindow:
    """Counts the requests of the seconds before each request.

    A refused request is not counted.
    """

    def __init__(
        self, limit: int, clock: Callable[[], float], window_seconds: float = WINDOW_SECONDS
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._window_seconds = window_seconds
        self._ends: defaultdict[str, deque[float]] = defaultdict(deque)

    def ask(self, client: str) -> Grant:
        """Count one request of `client` if its window has room."""
        now, ends = self._clock(), self._ends[client]
        while ends and ends[0] <= now:
            ends.popleft()
        allowed = len(ends) < self._limit
        if allowed:
            ends.append(now + self._window_seconds)
        return Grant(allowed, self._limit, self._limit - len(ends), math.ceil(ends[0] - now))
