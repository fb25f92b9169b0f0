"""API calls: paced, retried as long as it helps, and an outage where it does not answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_budget import MemoryBudget
from virtual_time import virtual_time

from collector.core.errors import Edge, Outage, PayloadError, Refusal, Unreadable
from collector.core.pacing import (
    DEFAULT_PAUSE_SECONDS,
    WINDOW_SECONDS,
    Announcement,
    Priority,
    Slot,
    Wait,
)
from collector.core.retry import OutagePolicy
from collector.flow import CLEANUP_SECONDS
from collector.ports import Body, Http, Reply
from collector.sources import ApiRequest
from collector.stages.api_client import (
    API_RETRY_MAX_WAIT_SECONDS,
    MAX_API_ATTEMPTS,
    MAX_RATE_LIMITED,
    ApiClient,
)
from collector.stages.pacing import LOG_AGAIN_SECONDS, SILENT_WAIT_SECONDS, Pacer

KEY = "SECRETkey"
REQUEST = ApiRequest("https://wallhaven.cc/api/v1/search?page=1", {"X-API-Key": KEY})
EPOCH_SECONDS = 1_790_000_000.0
BASE_SECONDS = 5.0
POLICY = OutagePolicy.of(BASE_SECONDS)

Answer = Reply | Exception


def reply(status: int = 200, body: bytes = b'{"data": []}', **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"Content-Type": "application/json"} | named, body)


GOOD = reply()
BAD_GATEWAY = reply(502, b"<html>", Content_Type="text/html")
PAGE = reply(200, b"<html>", Content_Type="text/html; charset=UTF-8")


def too_many(**headers: str) -> Reply:
    return reply(429, b"<html>Too many requests", Content_Type="text/html", **headers)


class ScriptedHttp:
    """The Http port: answers by a script, whose last answer repeats, after `latency_seconds`."""

    def __init__(self, *script: Answer, latency_seconds: float = 0.0) -> None:
        self._script = list(script)
        self._latency_seconds = latency_seconds
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        self.seconds: list[float] = []

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        self.requests.append((url, headers))
        self.seconds.append(anyio.current_time())
        answer = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        await anyio.sleep(self._latency_seconds)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def open(self, url: str) -> AbstractAsyncContextManager[Body]:
        raise AssertionError(f"{url} is no API call")


def client(http: Http, *, limit: int = 1000, base_seconds: float = BASE_SECONDS) -> ApiClient:
    return ApiClient(
        http,
        Pacer(MemoryBudget(limit, anyio.current_time).caller(), anyio.current_time),
        epoch_clock=lambda: EPOCH_SECONDS + anyio.current_time(),
        retry_base_seconds=base_seconds,
    )


async def outage(api: ApiClient, parse: Callable[[bytes], object] = json.loads) -> Outage:
    with pytest.raises(Outage) as caught:
        await api.get(REQUEST, parse)
    assert caught.value.edge is Edge.API
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@virtual_time
async def test_an_answer_is_parsed() -> None:
    http = ScriptedHttp(GOOD)
    api = client(http)
    assert await api.get(REQUEST, json.loads) == {"data": []}
    assert http.requests == [(REQUEST.url, REQUEST.headers)]
    assert api.requests_sent == 1


@virtual_time
async def test_an_answer_that_cannot_be_understood_is_asked_again() -> None:
    parsed: list[bytes] = []

    def parse(body: bytes) -> str:
        parsed.append(body)
        if body == b"bad":
            raise PayloadError("no list")
        return "understood"

    http = ScriptedHttp(reply(200, b"bad"), reply(200, b"bad"), reply(200, b"good"))
    assert await client(http).get(REQUEST, parse) == "understood"
    assert parsed == [b"bad", b"bad", b"good"]


@virtual_time
async def test_an_answer_that_is_never_understood_is_an_outage() -> None:
    def refuse(_: bytes) -> None:
        raise PayloadError("no list")

    http = ScriptedHttp(GOOD)
    error = await outage(client(http), refuse)
    assert isinstance(error, Unreadable)
    assert "no list" in error.problem
    assert len(http.requests) == MAX_API_ATTEMPTS


@virtual_time
async def test_a_defect_of_the_parser_is_not_hidden() -> None:
    def fail(_: bytes) -> None:
        raise ZeroDivisionError

    http = ScriptedHttp(GOOD)
    with pytest.raises(ZeroDivisionError):
        await client(http).get(REQUEST, fail)
    assert len(http.requests) == 1


REFUSALS = [
    *((status, "application/json") for status in (400, 401, 403, 404, 410, 422, 301, 302, 308)),
    *((status, "text/html") for status in (400, 401, 404, 410, 422, 301, 302, 308)),
]


@pytest.mark.parametrize(("status", "media_type"), REFUSALS)
@virtual_time
async def test_a_refusal_ends_it_with_one_request(status: int, media_type: str) -> None:
    http = ScriptedHttp(reply(status, Content_Type=media_type))
    api = client(http)
    error = await outage(api)
    assert f"HTTP {status}" in error.problem
    assert f"stopped at {REQUEST.url}" in error.problem
    assert ("WALLHAVEN_API_KEY" in error.problem) == (status == 401)
    assert ("nothing there" in error.problem) == (status == 404)
    assert "collection" not in error.problem
    assert isinstance(error, Refusal) == (status == 401)
    assert isinstance(error, Unreadable) == (status != 401), "another page may be answered"
    assert api.outage_seconds == 0.0
    assert len(http.requests) == api.requests_sent == 1


@virtual_time
async def test_tries_of_an_answer_wait_with_a_bound() -> None:
    http = ScriptedHttp(PayloadError("the answer broke off"))
    await outage(client(http, base_seconds=1000.0))
    waits = [after - before for before, after in pairwise(http.seconds)]
    assert any(waits)
    assert all(0.0 <= seconds <= API_RETRY_MAX_WAIT_SECONDS for seconds in waits)


@virtual_time
async def test_a_wait_before_the_next_try_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "collector")
    broken = PayloadError("the answer broke off")
    http = ScriptedHttp(broken, broken, GOOD)
    await client(http, base_seconds=10.0).get(REQUEST, json.loads)
    assert caplog.messages == [
        f"api: attempt {number} of {MAX_API_ATTEMPTS} failed: {broken};"
        f" retrying in {after - before:.1f} s: {REQUEST.url}"
        for number, (before, after) in enumerate(pairwise(http.seconds), start=1)
    ]


# --- 404 as an answer -----------------------------------------------------------------------------

NOTHING_HERE = reply(404, b'{"error": "Nothing here"}')


@virtual_time
async def test_a_404_of_a_collection_asks_for_its_name() -> None:
    request = ApiRequest("https://wallhaven.cc/api/v1/collections/me/7?page=1", {})
    with pytest.raises(Outage, match=r"nothing there .HTTP 404.; check the name of the collection"):
        await client(ScriptedHttp(NOTHING_HERE)).get(request, json.loads)


@pytest.mark.parametrize("answer", [NOTHING_HERE, reply(404, b'{"error": "nothing HERE"}')])
@virtual_time
async def test_what_is_not_there_is_found_to_be_none(answer: Reply) -> None:
    http = ScriptedHttp(answer)
    assert await client(http).find(REQUEST, json.loads) is None
    assert len(http.requests) == 1


@virtual_time
async def test_what_is_there_is_found() -> None:
    assert await client(ScriptedHttp(GOOD)).find(REQUEST, json.loads) == {"data": []}


@pytest.mark.parametrize(
    "answer",
    [
        reply(404, b"<html>", Content_Type="text/html"),
        reply(404, b"<html>"),
        reply(404, b""),
        *(reply(404, body) for body in (b"[]", b"{}", b'{"error": ["Nothing here"]}')),
        reply(410, b'{"error": "Gone"}'),
        reply(401, b'{"error": "Unauthorized"}'),
    ],
)
@virtual_time
async def test_nothing_else_means_that_something_is_not_there(answer: Reply) -> None:
    http = ScriptedHttp(answer)
    with pytest.raises(Outage, match=f"HTTP {answer.status}"):
        await client(http).find(REQUEST, json.loads)
    assert len(http.requests) == 1


@virtual_time
async def test_a_route_that_has_moved_is_no_answer_about_an_item() -> None:
    http = ScriptedHttp(reply(404, b'{"error": "Not Found"}'))
    with pytest.raises(Outage, match=r"knows no such address .HTTP 404.; stopped at"):
        await client(http).find(REQUEST, json.loads)


# --- 429 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry_After": "7"}, 7.0),
        ({"Retry_After": "7", "X_RateLimit_Reset": str(int(EPOCH_SECONDS) + 28)}, 28.0),
        ({"Retry_After": "nan"}, DEFAULT_PAUSE_SECONDS),
        ({}, DEFAULT_PAUSE_SECONDS),
    ],
    ids=str,
)
@virtual_time
async def test_a_429_pauses_as_long_as_it_says(headers: dict[str, str], seconds: float) -> None:
    http = ScriptedHttp(too_many(**headers), GOOD)
    api = client(http)
    assert await api.get(REQUEST, json.loads) == {"data": []}
    assert http.seconds == [0.0, seconds]
    assert api.requests_sent == 2


@virtual_time
async def test_a_429_is_no_try() -> None:
    busy, broken = too_many(Retry_After="1"), PayloadError("the answer broke off")
    http = ScriptedHttp(*[busy, broken] * (MAX_API_ATTEMPTS - 1), busy, GOOD)
    assert await client(http).get(REQUEST, json.loads) == {"data": []}
    assert len(http.requests) == 2 * MAX_API_ATTEMPTS


@virtual_time
async def test_a_429_pauses_everybody() -> None:
    http = ScriptedHttp(too_many(Retry_After="30"), GOOD, latency_seconds=1.0)
    api = client(http, limit=1000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(api.get, REQUEST, json.loads)
        await anyio.sleep(2)
        tasks.start_soon(api.get, REQUEST, json.loads)
    assert http.seconds == [0.0, 31.0, 31.0]


@virtual_time
async def test_endless_429s_are_an_outage() -> None:
    http = ScriptedHttp(too_many(Retry_After="1"))
    error = await outage(client(http))
    assert not isinstance(error, Unreadable), "all requests are concerned"
    assert "rate limited" in error.problem
    assert len(http.requests) == MAX_RATE_LIMITED + 1


@virtual_time
async def test_429s_now_and_then_end_no_long_run() -> None:
    http = ScriptedHttp(*[*[too_many(Retry_After="1")] * MAX_RATE_LIMITED, GOOD] * 3)
    api = client(http)
    for _ in range(3):
        assert await api.get(REQUEST, json.loads) == {"data": []}
    assert api.requests_sent == 3 * (MAX_RATE_LIMITED + 1)


@virtual_time
async def test_a_lower_limit_that_is_announced_is_obeyed() -> None:
    http = ScriptedHttp(reply(200, X_RateLimit_Limit="2"))
    api = client(http, limit=45)
    for _ in range(5):
        await api.get(REQUEST, json.loads)
    assert http.seconds == [0.0, 0.0, 60.0, 60.0, 120.0]


@pytest.mark.parametrize("limit", ["45000", "0", "-2", "2.5", "two"])
@virtual_time
async def test_no_other_limit_is_obeyed(limit: str) -> None:
    http = ScriptedHttp(reply(200, X_RateLimit_Limit=limit))
    api = client(http, limit=3)
    for _ in range(4):
        await api.get(REQUEST, json.loads)
    assert http.seconds == [0.0, 0.0, 0.0, 60.0]


@virtual_time
async def test_cancellation_passes_through_and_sends_nothing_more() -> None:
    http = ScriptedHttp(too_many(Retry_After="100"))
    with anyio.move_on_after(50) as scope:
        await client(http).get(REQUEST, json.loads)
    assert scope.cancelled_caught
    assert len(http.requests) == 1


def pacer(limit: int) -> Pacer:
    return Pacer(MemoryBudget(limit, anyio.current_time).caller(), anyio.current_time)


# Eighths of a second are exact in binary: no tolerance is needed.
latencies = st.integers(0, 8 * 90).map(lambda count: count / 8)


@given(st.integers(1, 4), st.lists(st.tuples(latencies, latencies, st.floats(0, 1)), max_size=15))
@virtual_time
async def test_no_window_of_the_server_holds_more_than_the_limit(
    limit: int, plan: list[tuple[float, float, float]]
) -> None:
    paced = pacer(limit)
    arrived: list[float] = []
    in_flight = peak = 0

    async def request(wanted_at: float, latency_seconds: float, share: float) -> None:
        nonlocal in_flight, peak
        await anyio.sleep(wanted_at)
        async with paced.slot():
            in_flight += 1
            peak = max(peak, in_flight)
            arrived.append(anyio.current_time() + latency_seconds * share)
            await anyio.sleep(latency_seconds)
            in_flight -= 1

    async with anyio.create_task_group() as tasks:
        for one in plan:
            tasks.start_soon(request, *one)
    assert paced.requests_sent == len(arrived) == len(plan)
    assert peak <= limit
    for start in arrived:
        assert sum(start <= time < start + WINDOW_SECONDS for time in arrived) <= limit


@virtual_time
async def test_requests_leave_in_turn_as_early_as_the_window_allows() -> None:
    paced = pacer(2)
    left: list[tuple[int, float]] = []

    async def request(number: int) -> None:
        async with paced.slot():
            left.append((number, anyio.current_time()))
            await anyio.sleep(1)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(request, number)
    assert left == [(0, 0.0), (1, 0.0), (2, 61.0), (3, 61.0), (4, 122.0)]


@virtual_time
async def test_a_cancelled_waiter_takes_no_slot_and_blocks_nobody() -> None:
    paced = pacer(1)
    async with paced.slot():
        with anyio.move_on_after(5) as waiting:
            async with paced.slot():
                pytest.fail("there is one slot")
        assert waiting.cancelled_caught
        assert paced.requests_sent == 1
    with anyio.move_on_after(10):
        async with paced.slot():
            pytest.fail("the window is full")
    async with paced.slot():
        assert anyio.current_time() == 65.0
    assert paced.requests_sent == 2


@virtual_time
async def test_a_cancelled_or_failed_request_gives_its_slot_back() -> None:
    paced = pacer(1)
    with anyio.move_on_after(3):
        async with paced.slot():
            await anyio.sleep_forever()
    with pytest.raises(ZeroDivisionError):
        async with paced.slot():
            _ = 1 / (anyio.current_time() - 63.0)
    async with paced.slot():
        assert anyio.current_time() == 123.0


async def _cancel_after(steps: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Cancel `work()` when the loop has turned `steps` times since it began."""
    task = asyncio.create_task(work())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("steps", range(8))
@virtual_time
async def test_no_moment_of_a_cancellation_loses_a_slot(steps: int) -> None:
    paced = pacer(1)

    async def request() -> None:
        async with paced.slot():
            await anyio.sleep(1)

    await _cancel_after(steps, request)
    async with paced.slot():
        assert anyio.current_time() == WINDOW_SECONDS * (paced.requests_sent - 1)


@virtual_time
async def test_a_pause_holds_back_who_waits_already() -> None:
    paced = pacer(9)
    await paced.pause(30)
    left: list[float] = []

    async def request() -> None:
        async with paced.slot():
            left.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        tasks.start_soon(request)
        await anyio.sleep(10)
        await paced.pause(60)
        await paced.pause(1)
        await anyio.sleep(59.5)
        assert left == []
    assert left == [70.0, 70.0]


@virtual_time
async def test_who_waits_for_an_answer_is_woken_by_it() -> None:
    paced = pacer(1)
    async with anyio.create_task_group() as tasks, paced.slot():
        tasks.start_soon(_expect_slot_at, paced, 100.0)
        await anyio.sleep(40)


async def _expect_slot_at(paced: Pacer, seconds: float) -> None:
    async with paced.slot():
        assert anyio.current_time() == seconds


@virtual_time
async def test_a_lowered_limit_holds_for_who_waits_already() -> None:
    paced = pacer(2)
    async with anyio.create_task_group() as tasks:
        async with paced.slot():
            await anyio.sleep(1)
        async with paced.slot() as turn:
            tasks.start_soon(_expect_slot_at, paced, 63.0)
            await anyio.sleep(2)
            turn.announced = Announcement(1)


@virtual_time
async def test_a_raised_limit_is_noticed_within_a_second() -> None:
    budget = MemoryBudget(2, anyio.current_time)
    paced = Pacer(budget.caller(), anyio.current_time)
    async with paced.slot() as turn:
        turn.announced = Announcement(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_slot_at, paced, 10.0)
        await anyio.sleep(9.5)
        budget.announced_limit = None


@virtual_time
async def test_a_long_wait_is_told_once_and_again_where_it_grows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "collector")
    paced = pacer(9)
    await paced.pause(30)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_slot_at, paced, 100.0)
        await anyio.sleep(10)
        await paced.pause(90)
        await anyio.sleep(10)
        await paced.pause(1)
    assert caplog.messages == [
        f"api: waiting {seconds} s for the rate limit" for seconds in (30, 90)
    ]


@virtual_time
async def test_a_short_wait_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "collector")
    paced = pacer(1)
    await paced.pause(SILENT_WAIT_SECONDS)
    await _expect_slot_at(paced, SILENT_WAIT_SECONDS)
    assert caplog.messages == []


@virtual_time
async def test_a_wait_that_goes_on_is_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "collector")
    budget = MemoryBudget(9, anyio.current_time)
    enrichment = Pacer(budget.caller(Priority.ENRICHMENT), anyio.current_time)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_slot_at, enrichment, 100.0)
        for second in range(100):
            budget.wanted_until[Priority.RUN] = min(second + 3.0, 100.0)
            await anyio.sleep(1)
    assert 2 <= len(caplog.messages) <= 100 / LOG_AGAIN_SECONDS + 1


@virtual_time
async def test_two_processes_share_one_window() -> None:
    budget = MemoryBudget(3, anyio.current_time)
    left: list[float] = []

    async def ask(paced: Pacer) -> None:
        for _ in range(4):
            async with paced.slot():
                left.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(ask, Pacer(budget.caller(), anyio.current_time))
    assert sorted(left) == [0.0] * 3 + [60.0] * 3 + [120.0] * 2


@virtual_time
async def test_several_429s_that_come_back_together_are_one_pause() -> None:
    paced = pacer(9)
    assert await paced.pause(30)
    assert not await paced.pause(40)
    await anyio.sleep(39)
    assert not await paced.pause(1)
    await anyio.sleep(1)
    assert await paced.pause(1)


class Broken:
    """A budget whose slots cannot be given back."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs

    async def take(self) -> Slot | Wait:
        return Slot(1, "me")

    async def end(self, slot: Slot, announced: Announcement | None) -> None:
        if self._hangs:
            await anyio.sleep_forever()
        raise Outage(Edge.DATABASE, "gone")

    async def pause(self, seconds: float) -> None:
        raise AssertionError("nobody pauses here")


@pytest.mark.parametrize("hangs", [False, True])
@virtual_time
async def test_a_slot_that_cannot_be_given_back_hides_nothing_and_holds_nobody_up(
    hangs: bool,
) -> None:
    paced = Pacer(Broken(hangs=hangs), anyio.current_time)
    with pytest.raises(ZeroDivisionError):
        async with paced.slot():
            raise ZeroDivisionError
    with anyio.move_on_after(1) as scope:
        async with paced.slot():
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert anyio.current_time() == 1 + 2 * CLEANUP_SECONDS * hangs
