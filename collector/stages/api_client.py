"""API calls: paced and retried; an outage is told apart from a problem with one item."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential

from collector.core.errors import Edge, Outage, PayloadError, Refusal, Unreadable
from collector.core.pacing import Announcement, announced, pause_seconds
from collector.core.retry import OutagePolicy, Trouble
from collector.logs import logger
from collector.ports import Http, Reply
from collector.sources import ApiRequest
from collector.stages.outage import OutageWatch, Unanswered
from collector.stages.pacing import Pacer

# An unusable answer may have been cut short, or the site may be changing at this moment.
MAX_API_ATTEMPTS = 5
API_RETRY_MAX_WAIT_SECONDS = 20.0
# A 429 is no attempt, but a server that sends nothing else must end the run after so many in a row.
MAX_RATE_LIMITED = 10

# The API's error text for an id that is unknown, deleted or hidden, in any letter case. For a route
# that it does not have, it sends "Not Found".
NOTHING_HERE = "nothing here"

T = TypeVar("T")

_OK = 200
_UNKNOWN_KEY = 401
_FORBIDDEN = 403
_NOT_FOUND = 404
_RATE_LIMITED = 429


class ApiClient:
    """GET API answers through one pacer; the single owner of retries of API calls.

    `clock` is monotonic seconds, `epoch_clock` seconds since 1970, `jitter` uniform in [0, 1).
    """

    def __init__(
        self,
        http: Http,
        pacer: Pacer,
        *,
        epoch_clock: Callable[[], float],
        retry_base_seconds: float,
        clock: Callable[[], float] = anyio.current_time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._http = http
        self._pacer = pacer
        self._epoch_clock = epoch_clock
        self._retry_base_seconds = retry_base_seconds
        self._outages = OutageWatch(OutagePolicy.of(retry_base_seconds), clock, jitter)
        self._rate_limited = 0

    @property
    def requests_sent(self) -> int:
        """API requests sent, retries included."""
        return self._pacer.requests_sent

    @property
    def outage_seconds(self) -> float:
        """Total length of all outages of the API."""
        return self._outages.seconds

    async def get(
        self, request: ApiRequest, parse: Callable[[bytes], T], witness: ApiRequest | None = None
    ) -> T:
        """Return the parsed answer; `parse` may raise PayloadError, which is retried.

        Raises Outage(api), which names the request, if the API does not answer for as long as
        `OutagePolicy` allows, or rejects the key. Raises Unreadable if the API refuses the request,
        sends no usable answer in MAX_API_ATTEMPTS attempts, or answers the `witness` and not the
        request. A 429 pauses all processes and is no attempt.
        """
        return await self._ask(request, partial(_parse, request, parse=parse), witness)

    async def find(self, request: ApiRequest, parse: Callable[[bytes], T]) -> T | None:
        """Return the parsed answer, None if the API says (404, NOTHING_HERE) that there is none.

        Any other 404 says nothing about the item and raises Outage(api). Otherwise like `get`.
        """

        def parse_found(reply: Reply) -> T | None:
            if reply.status != _NOT_FOUND:
                return _parse(request, reply, parse=parse)
            if _is_nothing_here(reply):
                return None
            raise Outage(Edge.API, "the API knows no such address (HTTP 404)")

        return await self._ask(request, parse_found)

    async def _ask(
        self, request: ApiRequest, parse: Callable[[Reply], T], witness: ApiRequest | None = None
    ) -> T:
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(PayloadError),
            stop=stop_after_attempt(MAX_API_ATTEMPTS),
            wait=wait_random_exponential(
                multiplier=self._retry_base_seconds, max=API_RETRY_MAX_WAIT_SECONDS
            ),
            sleep=anyio.sleep,
            before_sleep=_log_retry,
            retry_error_callback=_give_up,
        )
        try:
            return await retrying(self._attempt, request, parse, witness)
        except Outage as outage:
            if outage.edge is not Edge.API:
                raise
            raise type(outage)(Edge.API, f"{outage.problem}; stopped at {request.url}") from None

    async def _attempt(
        self, request: ApiRequest, parse: Callable[[Reply], T], witness: ApiRequest | None
    ) -> T:
        send_witness = partial(self._send, witness) if witness else None
        return parse(await self._outages.outlast(partial(self._send, request), send_witness))

    async def _send(self, request: ApiRequest) -> Reply:
        """Return the API's own answer. Raises Unanswered, PayloadError, Outage."""
        while True:
            async with self._pacer.slot() as turn:
                try:
                    reply = await self._http.get(request.url, request.headers)
                except Outage as outage:
                    raise Unanswered(Trouble.SILENCE, outage.problem) from None
                heard = announced(reply.headers)
                if reply.status != _RATE_LIMITED:
                    _require_answer(reply)
                    turn.announced, self._rate_limited = heard, 0
                    return reply
                # Without `remaining`, which is 0 after a 429: the pause takes care of that.
                turn.announced = Announcement(heard.limit)
                await self._note_rate_limit(reply)

    async def _note_rate_limit(self, reply: Reply) -> None:
        # Several requests may be in flight when the limit is hit: their 429s count once.
        if await self._pacer.pause(pause_seconds(reply.headers, self._epoch_clock())):
            self._rate_limited += 1
        if self._rate_limited > MAX_RATE_LIMITED:
            raise Outage(Edge.API, f"rate limited {self._rate_limited} times in a row")


def _require_answer(reply: Reply) -> None:
    """Raise Unanswered if the answer is not the API's own, such as a page of a proxy before it."""
    is_page = "html" in reply.headers.get("Content-Type", "").lower()
    challenged = reply.headers.get("cf-mitigated", "").lower() == "challenge"
    if challenged or (reply.status == _FORBIDDEN and is_page):
        raise Unanswered(Trouble.BLOCK, f"HTTP {reply.status}, a challenge or a block")
    if reply.status == _OK and is_page:
        raise Unanswered(Trouble.PAGE, "a page came instead of JSON")
    if reply.status != _OK and not 300 <= reply.status < 500:
        raise Unanswered(Trouble.FAULT, f"HTTP {reply.status}")


def _parse(request: ApiRequest, reply: Reply, *, parse: Callable[[bytes], T]) -> T:
    if reply.status == _UNKNOWN_KEY:
        raise Refusal(Edge.API, "the API key was refused (HTTP 401); check WALLHAVEN_API_KEY")
    if reply.status == _NOT_FOUND:
        is_collection = "/collections/" in urlsplit(request.url).path
        advice = "; check the name of the collection" if is_collection else ""
        raise Unreadable(Edge.API, f"the API has nothing there (HTTP 404){advice}")
    if reply.status != _OK:
        raise Unreadable(Edge.API, f"the API refused the request (HTTP {reply.status})")
    return parse(reply.body)


def _is_nothing_here(reply: Reply) -> bool:
    if "json" not in reply.headers.get("Content-Type", "").lower():
        return False
    try:
        answer = json.loads(reply.body)
    except ValueError:
        return False
    error = answer.get("error") if isinstance(answer, dict) else None
    return isinstance(error, str) and error.casefold() == NOTHING_HERE


def _log_retry(state: RetryCallState) -> None:
    request: ApiRequest = state.args[0]
    logger.info(
        "api: attempt %d of %d failed: %s; retrying in %.1f s: %s",
        state.attempt_number,
        MAX_API_ATTEMPTS,
        _problem(state),
        state.upcoming_sleep,
        request.url,
    )


def _give_up(state: RetryCallState) -> None:
    problem = f"no usable answer in {state.attempt_number} attempts: {_problem(state)}"
    raise Unreadable(Edge.API, problem)


def _problem(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
