"""Ask the API: paced, retried, and told apart from item failures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from collector.core.errors import Edge, Outage, PayloadError, Refusal
from collector.core.pacing import announced_limit, pause_seconds
from collector.flow import Pacer
from collector.ports import Http, Reply
from collector.sources import ApiRequest

logger = logging.getLogger(__name__)

# A page is asked for this often before the run gives up: with the waits below it outlasts a
# restart of the site, and a longer trouble is an outage.
API_TRIES = 5
API_RETRY_MAX_WAIT_SECONDS = 20.0
# 429s do not count as tries, but a server that says nothing else any more must end the run some
# time: this many in a row.
MOST_RATE_LIMITED = 10

T = TypeVar("T")

_OK = 200
_RATE_LIMITED = 429


class _Temporary(Exception):
    """This answer was no answer; the next may be."""


class _Refused(Outage):
    """The API will not answer this run, however often it is asked."""

    def __init__(self, problem: str) -> None:
        super().__init__(Edge.API, problem)


class _KeyRefused(_Refused, Refusal):
    """The API does not know our key."""


class _NotThere(_Refused):
    """The API says that there is no such thing."""


class ApiClient:
    """GET API answers through one pacer; the single owner of retries of API calls."""

    def __init__(
        self,
        http: Http,
        pacer: Pacer,
        *,
        epoch_clock: Callable[[], float],
        retry_base_seconds: float,
    ) -> None:
        self._http = http
        self._pacer = pacer
        self._epoch_clock = epoch_clock
        self._retry_base_seconds = retry_base_seconds
        self._rate_limited = 0

    @property
    def requests_sent(self) -> int:
        """API requests that left, retries included."""
        return self._pacer.requests_sent

    async def find(self, request: ApiRequest, parse: Callable[[bytes], T]) -> T | None:
        """Return the parsed answer, None where the API says (404, in JSON) that there is none."""
        try:
            return await self.get(request, parse)
        except _NotThere:
            return None

    async def get(self, request: ApiRequest, parse: Callable[[bytes], T]) -> T:
        """Return the parsed answer; `parse` may raise PayloadError, which is retried.

        Raises Outage(api) where the API refuses us, or does not answer usefully in API_TRIES
        tries. A 429 pauses everybody and is no try.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Temporary),
            stop=stop_after_attempt(API_TRIES),
            wait=wait_random_exponential(
                multiplier=self._retry_base_seconds, max=API_RETRY_MAX_WAIT_SECONDS
            ),
            sleep=anyio.sleep,
            before_sleep=_say_what_comes,
            retry_error_callback=_give_up,
        )
        return await retrying(self._try, request, parse)

    async def _try(self, request: ApiRequest, parse: Callable[[bytes], T]) -> T:
        try:
            reply = await self._answered(request)
            _require_json(reply)
            return parse(reply.body)
        except _Refused:
            raise
        except (PayloadError, Outage) as error:
            raise _Temporary(error.problem) from None

    async def _answered(self, request: ApiRequest) -> Reply:
        while True:
            async with self._pacer.slot():
                reply = await self._http.get(request.url, request.headers)
            limit = announced_limit(reply.headers)
            if limit is not None:
                self._pacer.lower(limit)
            if reply.status != _RATE_LIMITED:
                self._rate_limited = 0
                return reply
            self._note_rate_limit(reply)

    def _note_rate_limit(self, reply: Reply) -> None:
        # Several requests may be out when the limit is hit: all their 429s are one round.
        if self._pacer.pause(pause_seconds(reply.headers, self._epoch_clock())):
            self._rate_limited += 1
        if self._rate_limited > MOST_RATE_LIMITED:
            raise _Refused(f"rate limited {self._rate_limited} times in a row")


def _require_json(reply: Reply) -> None:
    if reply.status == 401:
        raise _KeyRefused("the API key was refused (HTTP 401); check WALLHAVEN_API_KEY")
    if reply.status == 403:
        raise _Refused("the API blocks us (HTTP 403)")
    if reply.status == 404:
        is_json = "json" in reply.headers.get("Content-Type", "").lower()
        kind = _NotThere if is_json else _Refused
        raise kind("the API has nothing there (HTTP 404); is the collection named rightly?")
    if 300 <= reply.status < 500:
        raise _Refused(f"the API refused the request (HTTP {reply.status})")
    if reply.status != _OK:
        raise PayloadError(f"HTTP {reply.status}")
    if "html" in reply.headers.get("Content-Type", "").lower():
        raise PayloadError("a page came instead of JSON")


def _say_what_comes(state: RetryCallState) -> None:
    request: ApiRequest = state.args[0]
    logger.info(
        "[draenei] api: try %d of %d failed: %s; asking again in %.1f s for %s",
        state.attempt_number,
        API_TRIES,
        _problem(state),
        state.upcoming_sleep,
        request.url,
    )


def _give_up(state: RetryCallState) -> None:
    raise Outage(Edge.API, f"no usable answer in {state.attempt_number} tries: {_problem(state)}")


def _problem(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
