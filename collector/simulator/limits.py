"""The rate limit of a profile: who has a window, and what the headers say of it."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import Enum

from aiohttp import web

from collector.simulator.options import SimulatorOptions
from collector.simulator.profile import EVERY_KEY, WINDOW_SECONDS, Limit

# The number of a request of the API: 1 for the first one that arrives, whatever its answer.
NUMBER = web.RequestKey("number", int)


class Caller(Enum):
    """Nobody in particular, the holder of a valid key, or one whose key is not valid."""

    ANONYMOUS = "anonymous"
    KEYED = "keyed"
    REFUSED = "refused"


def key_of(request: web.Request) -> str | None:
    """Return the API key that a request carries, in its header or its address."""
    return request.headers.get("X-API-Key") or request.query.get("apikey") or None


class Callers:
    """Tells callers apart, by the keys that are valid."""

    def __init__(self, options: SimulatorOptions) -> None:
        account = options.profile.account
        self._keys = options.api_keys | set(account.keys)
        self._refused_from = account.refused_from_request

    def caller_of(self, request: web.Request) -> Caller:
        """Return who asks."""
        key = key_of(request)
        if key is None:
            return Caller.ANONYMOUS
        revoked = 0 < self._refused_from <= request[NUMBER]
        valid = key in self._keys or EVERY_KEY in self._keys
        return Caller.KEYED if valid and not revoked else Caller.REFUSED


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
