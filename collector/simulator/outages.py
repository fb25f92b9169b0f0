"""What answers in place of the API: the firewall's challenge, and the outages of a profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web
from aiohttp.typedefs import Handler

from collector.simulator import answers
from collector.simulator.journal import kind_of
from collector.simulator.limits import NUMBER
from collector.simulator.profile import OUTAGE_STATUSES, Outage

# A query that begins like this, in any case, meets the firewall's challenge; q elsewhere not.
_CHALLENGED_QUERY = "q=like"


class Outages:
    """Knows which requests meet an outage; seconds count from the first request."""

    def __init__(self, outages: Sequence[Outage], clock: Callable[[], float]) -> None:
        self._outages = outages
        self._clock = clock
        self._started_at: float | None = None

    @web.middleware
    async def intercept(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer with a page of HTML if Cloudflare or an outage stops the request."""
        if request.raw_path.partition("?")[2].lower().startswith(_CHALLENGED_QUERY):
            return _challenge(403)
        outage = self._met_by(request)
        return await handler(request) if outage is None else _page(outage)

    def _met_by(self, request: web.Request) -> Outage | None:
        """Return the outage that a request meets: the first one of the profile if they overlap."""
        now = self._clock()
        if self._started_at is None:
            self._started_at = now
        seconds, endpoint = now - self._started_at, kind_of(request.path)
        for outage in self._outages:
            concerned = not outage.endpoints or endpoint in outage.endpoints
            if concerned and _is_on(outage, request[NUMBER], seconds):
                return outage
        return None


def _is_on(outage: Outage, number: int, seconds: float) -> bool:
    if outage.seconds:
        return 0 <= seconds - outage.from_second < outage.seconds
    since = number - outage.from_request
    if outage.every_requests and since >= 0:
        since %= outage.every_requests
    return 0 <= since < outage.requests


def _page(outage: Outage) -> web.Response:
    status = outage.status or OUTAGE_STATUSES[outage.answer][0]
    if outage.answer == "challenge":
        return _challenge(status)
    if outage.answer == "html":  # a page of the site where the API's JSON is expected
        return answers.html(status, "Awesome Wallpapers - wallhaven.cc", "Maintenance")
    return answers.html(status, f"wallhaven.cc | {status}", f"Error {status}")


def _challenge(status: int) -> web.Response:
    """Return the firewall's challenge, which no client of an API can pass."""
    headers = {"cf-mitigated": "challenge"}
    return answers.html(status, "Just a moment...", "Checking your browser", headers)
