"""Who asks, told by the API key, and how often: the rate limit of a profile and its headers."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import Enum
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from collector.simulator import answers
from collector.simulator.options import SimulatorOptions
from collector.simulator.profile import EVERY_KEY, Limit

# The number of a request of the API: 1 for the first one that arrives, whatever its answer.
NUMBER = web.RequestKey("number", int)

# Neither a date nor a number; and a number that no client should believe: 31 years of seconds.
_NONSENSE = "soon"
_ABSURD_SECONDS = 999_999_999


class Caller(Enum):
    """A caller without a key, with a valid key, or with one that is not valid."""

    ANONYMOUS = "anonymous"
    KEYED = "keyed"
    REFUSED = "refused"


def key_of(request: web.Request) -> str | None:
    """Return the API key that a request carries, in its header or its address."""
    return request.headers.get("X-API-Key") or request.query.get("apikey") or None


def caller_of(request: web.Request, options: SimulatorOptions) -> Caller:
    """Return who sent a request, which must have its NUMBER."""
    key, account = key_of(request), options.profile.account
    if key is None:
        return Caller.ANONYMOUS
    revoked = 0 < account.refused_from_request <= request[NUMBER]
    valid = key in options.api_keys or key in account.keys or EVERY_KEY in account.keys
    return Caller.KEYED if valid and not revoked else Caller.REFUSED


class Grant(NamedTuple):
    """What the limit says to one request; seconds and counts as the headers carry them."""

    allowed: bool
    remaining: int
    retry_after_seconds: int  # until the window has room again, rounded up


class RateLimit:
    """Admits requests of each client, and writes the headers of answers and refusals.

    A fixed window begins with a client's first request, as the API's does; a sliding one is the
    seconds before each request. A refused request is not counted.
    """

    def __init__(
        self, limit: Limit, clock: Callable[[], float], now: Callable[[], datetime]
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._now = now
        # For each client, when each request that counts will count no more.
        self._ends: defaultdict[str, deque[float]] = defaultdict(deque)

    @web.middleware
    async def restrict(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request or refuse it; a limit of 0 counts nothing and adds no header."""
        if not self._limit.requests:
            return await handler(request)
        grant = self.ask(self._client(request))
        if not grant.allowed:
            headers = self._refusal_headers(grant)
            title = "Too many requests"
            return answers.html(429, f"{title} - wallhaven.cc", title, headers)
        response = await handler(request)
        response.headers.update(self._headers(grant))
        return response

    def ask(self, client: str) -> Grant:
        """Count one request of `client` if its window has room."""
        now, ends = self._clock(), self._ends[client]
        while ends and ends[0] <= now:
            ends.popleft()
        allowed = len(ends) < self._limit.requests
        if allowed:
            begun = bool(ends) and self._limit.window == "fixed"
            ends.append(ends[0] if begun else now + self._limit.window_seconds)
        return Grant(allowed, self._limit.requests - len(ends), math.ceil(ends[0] - now))

    def _client(self, request: web.Request) -> str:
        key = key_of(request) if self._limit.client == "key" else None
        return key or request.remote or ""

    def _headers(self, grant: Grant) -> dict[str, str]:
        if not self._limit.headers:
            return {}
        return {
            "X-RateLimit-Limit": str(self._limit.requests),
            "X-RateLimit-Remaining": str(grant.remaining),
        }

    def _refusal_headers(self, grant: Grant) -> dict[str, str]:
        """Return what a 429 says of the limit; a date is rounded up to a full second."""
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
        headers = self._headers(grant)
        if self._limit.retry_after in retry_after:
            headers["Retry-After"] = retry_after[self._limit.retry_after]
        if self._limit.headers and self._limit.reset in reset:
            headers["X-RateLimit-Reset"] = reset[self._limit.reset]
        return headers
