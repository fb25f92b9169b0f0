"""What decides whether an API request reaches its endpoint: outages, rate limit, API key."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime
from enum import Enum
from typing import NamedTuple

from aiohttp import web
from aiohttp.typedefs import Handler

from collector.simulator import answers
from collector.simulator.options import SimulatorOptions
from collector.simulator.profile import EVERY_KEY, OUTAGE_STATUSES, Limit, Outage

# The number of an API request: 1 for the first one that arrives, whatever its answer.
NUMBER = web.RequestKey("number", int)

# The real firewall challenges a raw query that begins like this, in any case.
_CHALLENGED_QUERY = "q=like"


class Outages:
    """Answers in place of the API: the firewall's challenge, and the profile's outages."""

    def __init__(self, outages: Sequence[Outage]) -> None:
        self._outages = outages

    @web.middleware
    async def intercept(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer with HTML if the firewall or an outage stops the request.

        If outages overlap, the first one of the profile answers.
        """
        if request.raw_path.partition("?")[2].lower().startswith(_CHALLENGED_QUERY):
            return _challenge(403)
        for outage in self._outages:
            if _affects(outage, request[NUMBER]):
                return _page(outage)
        return await handler(request)


def _affects(outage: Outage, number: int) -> bool:
    since = number - outage.from_request
    if outage.every_requests and since >= 0:
        since %= outage.every_requests
    return 0 <= since < outage.requests


def _page(outage: Outage) -> web.Response:
    status = outage.status or OUTAGE_STATUSES[outage.answer][0]
    if outage.answer == "challenge":
        return _challenge(status)
    if outage.answer == "html":  # a page of the site in place of the API's JSON
        return answers.html(status, "Awesome Wallpapers - wallhaven.cc", "Maintenance")
    return answers.html(status, f"wallhaven.cc | {status}", f"Error {status}")


def _challenge(status: int) -> web.Response:
    """Return Cloudflare's challenge, which no API client can pass."""
    headers = {"cf-mitigated": "challenge"}
    return answers.html(status, "Just a moment...", "Checking your browser", headers)


class Caller(Enum):
    """A caller without a key, with a valid key, or with an invalid one."""

    ANONYMOUS = "anonymous"
    KEYED = "keyed"
    REFUSED = "refused"


def caller_of(request: web.Request, options: SimulatorOptions) -> Caller:
    """Return who sent a request, by the key in its header or its address."""
    key = request.headers.get("X-API-Key") or request.query.get("apikey")
    if not key:
        return Caller.ANONYMOUS
    keys = options.profile.account.keys
    valid = key in options.api_keys or key in keys or EVERY_KEY in keys
    return Caller.KEYED if valid else Caller.REFUSED


class Grant(NamedTuple):
    """The rate limit's answer to one request."""

    allowed: bool
    remaining: int
    retry_after_seconds: int  # until the window has room again, rounded up


class RateLimit:
    """Admits the requests of each client address, and writes the headers about the limit.

    A fixed window begins with a client's first request, as the real API's does; a sliding window
    is the seconds before each request. A refused request is not counted.
    """

    def __init__(
        self, limit: Limit, clock: Callable[[], float], now: Callable[[], datetime]
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._now = now
        # For each client, when each counted request stops counting.
        self._ends: defaultdict[str, deque[float]] = defaultdict(deque)

    @web.middleware
    async def restrict(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a request or refuse it; a limit of 0 counts nothing and adds no header."""
        if not self._limit.requests:
            return await handler(request)
        grant = self.ask(request.remote or "")
        if not grant.allowed:
            title = "Too many requests"
            headers = self._headers(grant) | self._refusal_headers(grant)
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

    def _headers(self, grant: Grant) -> dict[str, str]:
        if not self._limit.headers:
            return {}
        return {
            "X-RateLimit-Limit": str(self._limit.requests),
            "X-RateLimit-Remaining": str(grant.remaining),
        }

    def _refusal_headers(self, grant: Grant) -> dict[str, str]:
        now, seconds = self._now().timestamp(), grant.retry_after_seconds
        headers = {"Retry-After": str(seconds)}
        if self._limit.retry_after == "date":
            reopens = datetime.fromtimestamp(math.ceil(now + seconds), UTC)
            headers["Retry-After"] = format_datetime(reopens, usegmt=True)
        if self._limit.headers:
            headers["X-RateLimit-Reset"] = str(int(now) + seconds)
        return headers
