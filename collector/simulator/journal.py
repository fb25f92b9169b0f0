"""A record of requests and answers, with which tests check limits."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Handler

from collector.simulator import answers

# Only the newest requests are kept in detail, about 2 KB each; counters cover all.
_MAX_VISITS = 10_000
# nginx logs this status if the client closes the connection early; no client sees it.
_CLIENT_LEFT = 499

_API = "/api/v1/"
_API_KINDS = {
    "search": "search",
    "w": "wallpaper",
    "tag": "tag",
    "settings": "settings",
    "collections": "collections",
}
_THUMBS = ("/lg/", "/orig/", "/small/")


@dataclass(slots=True)
class Visit:
    """One request: `at` is its arrival by the clock, `seconds` how long it took.

    `status` is 0 until the answer is complete, and 499 if the client left before that.
    """

    at: float
    kind: str
    path: str
    query: Mapping[str, str]
    status: int = 0
    seconds: float = 0.0


def kind_of(path: str) -> str:
    """Return search, wallpaper, tag, settings, collections, image, thumb or other."""
    if path.startswith(_API):
        return _API_KINDS.get(path.removeprefix(_API).partition("/")[0], "other")
    if path.startswith("/full/"):
        return "image"
    return "thumb" if path.startswith(_THUMBS) else "other"


@dataclass(slots=True)
class Journal:
    """The newest visits in order of arrival, and exact counters of all, by kind."""

    clock: Callable[[], float]
    visits: deque[Visit] = field(default_factory=lambda: deque(maxlen=_MAX_VISITS))
    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)
    peak_in_flight: Counter[str] = field(default_factory=Counter)

    def of(self, kind: str) -> list[Visit]:
        """Return the kept visits of one kind, oldest first."""
        return [visit for visit in self.visits if visit.kind == kind]

    @web.middleware
    async def record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Record a request from its arrival to the end of its answer, even if that fails."""
        visit = self._arrive(request)
        try:
            response = await _answered(request, handler)
            visit.status = response.status
        finally:
            self._leave(visit)
        return response

    def _arrive(self, request: web.Request) -> Visit:
        kind = kind_of(request.path)
        visit = Visit(self.clock(), kind, request.path, dict(request.query))
        self.visits.append(visit)
        self.requests[kind] += 1
        self.in_flight[kind] += 1
        self.peak_in_flight[kind] = max(self.peak_in_flight[kind], self.in_flight[kind])
        return visit

    def _leave(self, visit: Visit) -> None:
        visit.seconds = self.clock() - visit.at
        self.in_flight[visit.kind] -= 1
        self.statuses[visit.kind, visit.status] += 1


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException:
        return answers.missing_file()
    except ConnectionResetError:
        return web.Response(status=_CLIENT_LEFT)
