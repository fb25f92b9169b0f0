"""Outages of a profile: pages of HTML that answer in place of the API."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp import web

from collector.simulator import answers
from collector.simulator.journal import kind_of
from collector.simulator.profile import OUTAGE_STATUSES, Outage


class Outages:
    """Knows which requests meet an outage; seconds count from the first request."""

    def __init__(self, outages: Sequence[Outage], clock: Callable[[], float]) -> None:
        self._outages = outages
        self._clock = clock
        self._started_at: float | None = None

    def answer(self, request: web.Request, number: int) -> web.Response | None:
        """Return what request `number` gets in place of its answer, None if that is to come.

        Where outages overlap, the first one of the profile counts.
        """
        now = self._clock()
        if self._started_at is None:
            self._started_at = now
        seconds, endpoint = now - self._started_at, kind_of(request.path)
        for outage in self._outages:
            concerned = not outage.endpoints or endpoint in outage.endpoints
            if concerned and _is_on(outage, number, seconds):
                return _page(outage)
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
        return answers.challenge(status)
    return answers.html_in_place_of_json() if status == 200 else answers.outage(status)
