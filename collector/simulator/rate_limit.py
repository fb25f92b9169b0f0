"""The rate limit of a profile: who has a window, and what the headers say of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime

from aiohttp import web

from collector.simulator.callers import key_of
from collector.simulator.limiter import FixedWindow, Grant, SlidingWindow
from collector.simulator.profile import Limit

# No date, no number; and a number that no client should believe: 31 years of seconds.
_NONSENSE = "soon"
_ABSURD_SECONDS = 999_999_999

_WINDOWS: dict[str, type[FixedWindow] | type[SlidingWindow]] = {
    "fixed": FixedWindow,
    "sliding": SlidingWindow,
}


class RateLimit:
    """Admits requests of each client, and writes the headers of answers and refusals."""

    def __init__(
        self, limit: Limit, clock: Callable[[], float], now: Callable[[], datetime]
    ) -> None:
        self._limit = limit
        self._now = now
        self._windows = _WINDOWS[limit.window](limit.requests, clock, limit.window_seconds)

    def ask(self, request: web.Request) -> Grant:
        """Count a request if its client's window has room."""
        client = request.remote or ""
        if self._limit.client == "key":
            client = key_of(request) or client
        return self._windows.ask(client)

    def headers(self, grant: Grant) -> dict[str, str]:
        """Return what every answer says of the limit."""
        if not self._limit.headers:
            return {}
        return {
            "X-RateLimit-Limit": str(grant.limit),
            "X-RateLimit-Remaining": str(grant.remaining),
        }

    def refusal_headers(self, grant: Grant) -> dict[str, str]:
        """Return what a 429 says of it; a date is rounded up to a full second."""
        now, seconds = self._now().timestamp(), grant.retry_after_seconds
        reopens = datetime.fromtimestamp(math.ceil(now + seconds), UTC)
        retry_after = {
            "seconds": str(seconds),
            "date": format_datetime(reopens, usegmt=True),
            "nonsense": _NONSENSE,
            "absurd": str(_ABSURD_SECONDS),
        }
        reset = {
            "epoch": str(int(now) + seconds),
            "nonsense": _NONSENSE,
            "absurd": str(int(now) + _ABSURD_SECONDS),
        }
        headers = self.headers(grant)
        if self._limit.retry_after in retry_after:
            headers["Retry-After"] = retry_after[self._limit.retry_after]
        if self._limit.headers and self._limit.reset in reset:
            headers["X-RateLimit-Reset"] = reset[self._limit.reset]
        return headers
