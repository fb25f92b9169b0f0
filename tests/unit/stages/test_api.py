"""API calls: paced, retried as long as it helps, and an outage where it does not."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

import anyio
import pytest
from virtual_time import virtual_time

from collector.core.errors import Edge, Outage, PayloadError
from collector.core.pacing import DEFAULT_PAUSE_SECONDS, SlidingWindow
from collector.flow import Pacer
from collector.ports import Body, Reply
from collector.sources import ApiRequest
from collector.stages.api import (
    API_RETRY_MAX_WAIT_SECONDS,
    API_TRIES,
    MOST_RATE_LIMITED,
    ApiClient,
)

KEY = "SECRETkey"
REQUEST = ApiRequest("https://wallhaven.cc/api/v1/search?page=1", {"X-API-Key": KEY})
EPOCH_SECONDS = 1_790_000_000.0

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


def client(http: ScriptedHttp, *, limit: int = 1000, base_seconds: float = 0.0) -> ApiClient:
    return ApiClient(
        http,
        Pacer(SlidingWindow(limit), anyio.current_time),
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


@pytest.mark.parametrize(
    "trouble",
    [
        *(reply(status) for status in (500, 502, 503, 520, 522, 204, 206)),
        *(BAD_GATEWAY, PAGE, PayloadError("the answer broke off")),
        Outage(Edge.API, "cannot connect"),
    ],
    ids=lambda answer: str(getattr(answer, "status", answer)),
)
@virtual_time
async def test_what_may_pass_is_asked_again(trouble: Answer) -> None:
    http = ScriptedHttp(*[trouble] * (API_TRIES - 1), GOOD)
    api = client(http)
    assert await api.get(REQUEST, json.loads) == {"data": []}
    assert len(http.requests) == api.requests_sent == API_TRIES


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (reply(503), "HTTP 503"),
        (PAGE, "a page came instead of JSON"),
        (PayloadError("the answer broke off"), "the answer broke off"),
        (Outage(Edge.API, "cannot connect"), "cannot connect"),
    ],
)
@virtual_time
async def test_what_does_not_pass_is_an_outage(trouble: Answer, told: str) -> None:
    http = ScriptedHttp(trouble)
    error = await outage(client(http))
    assert str(error) == f"api: no usable answer in {API_TRIES} tries: {told}"
    assert len(http.requests) == API_TRIES


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
    assert "no list" in error.problem
    assert len(http.requests) == API_TRIES


@virtual_time
async def test_a_defect_of_the_parser_is_not_hidden() -> None:
    def fail(_: bytes) -> None:
        raise ZeroDivisionError

    http = ScriptedHttp(GOOD)
    with pytest.raises(ZeroDivisionError):
        await client(http).get(REQUEST, fail)
    assert len(http.requests) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 301, 302, 308])
@pytest.mark.parametrize("media_type", ["application/json", "text/html"])
@virtual_time
async def test_a_refusal_ends_it_with_one_request(status: int, media_type: str) -> None:
    http = ScriptedHttp(reply(status, Content_Type=media_type))
    api = client(http)
    error = await outage(api)
    assert f"HTTP {status}" in error.problem
    assert ("WALLHAVEN_API_KEY" in error.problem) == (status == 401)
    assert ("collection" in error.problem) == (status == 404)
    assert len(http.requests) == api.requests_sent == 1


@virtual_time
async def test_retries_wait_with_a_bound() -> None:
    http = ScriptedHttp(reply(500))
    await outage(client(http, base_seconds=1000.0))
    waits = [after - before for before, after in zip(http.seconds, http.seconds[1:], strict=False)]
    assert any(waits)
    assert all(0.0 <= seconds <= API_RETRY_MAX_WAIT_SECONDS for seconds in waits)


@virtual_time
async def test_a_wait_before_the_next_try_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "collector")
    http = ScriptedHttp(Outage(Edge.API, "cannot connect"), reply(503), GOOD)
    await client(http, base_seconds=10.0).get(REQUEST, json.loads)
    waits = [after - before for before, after in zip(http.seconds, http.seconds[1:], strict=False)]
    assert caplog.messages == [
        f"[draenei] api: try {number} of {API_TRIES} failed: {why};"
        f" asking again in {seconds:.1f} s for {REQUEST.url}"
        for number, why, seconds in zip((1, 2), ("cannot connect", "HTTP 503"), waits, strict=True)
    ]


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
    busy = too_many(Retry_After="1")
    http = ScriptedHttp(*[busy, reply(500)] * (API_TRIES - 1), busy, GOOD)
    assert await client(http).get(REQUEST, json.loads) == {"data": []}
    assert len(http.requests) == 2 * API_TRIES


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
    assert "rate limited" in error.problem
    assert len(http.requests) == MOST_RATE_LIMITED + 1


@virtual_time
async def test_429s_now_and_then_end_no_long_run() -> None:
    http = ScriptedHttp(*[*[too_many(Retry_After="1")] * MOST_RATE_LIMITED, GOOD] * 3)
    api = client(http)
    for _ in range(3):
        assert await api.get(REQUEST, json.loads) == {"data": []}
    assert api.requests_sent == 3 * (MOST_RATE_LIMITED + 1)


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


@virtual_time
async def test_what_is_not_there_is_found_to_be_none() -> None:
    http = ScriptedHttp(reply(404, b'{"error": "Nothing here"}'))
    api = client(http)
    assert await api.find(REQUEST, json.loads) is None
    assert len(http.requests) == 1
    assert await client(ScriptedHttp(GOOD)).find(REQUEST, json.loads) == {"data": []}


@virtual_time
async def test_a_404_that_is_a_page_says_nothing_about_an_item() -> None:
    page = reply(404, b"<html>", Content_Type="text/html")
    with pytest.raises(Outage):
        await client(ScriptedHttp(page)).find(REQUEST, json.loads)
