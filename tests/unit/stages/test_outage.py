"""Outages of the API: told from failures of a page, outlasted by one prober, bounded."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from itertools import pairwise

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_budget import MemoryBudget
from virtual_time import virtual_time

from collector.core.errors import Edge, Outage, PayloadError, Unreadable
from collector.core.retry import MAX_BLOCKED, MIN_API_ATTEMPTS, OutagePolicy
from collector.flow import task_group
from collector.ports import Body, Http, Reply
from collector.sources import ApiRequest
from collector.stages.api_client import ApiClient
from collector.stages.pacing import Pacer

POLICY = OutagePolicy.of(5.0)
REQUEST = ApiRequest("https://wallhaven.cc/api/v1/search?page=7", {"X-API-Key": "SECRETkey"})
SILENT = Outage(Edge.API, "cannot connect to wallhaven.cc:443 (connection refused)")


def reply(status: int = 200, media_type: str = "application/json", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"Content-Type": media_type} | named, b"{}")


GOOD = reply()
FAULT = reply(521, "text/html")
PAGE = reply(200, "text/html; charset=UTF-8")
BLOCKED = reply(403, "text/html")
CHALLENGE = reply(503, "text/html", cf_mitigated="challenge")


class Site:
    """The Http port: answers with `trouble` from second `since` to second `until`."""

    def __init__(
        self,
        trouble: Reply | Exception,
        until: float,
        since: float = 0.0,
        latency_seconds: float = 0.0,
    ) -> None:
        self._trouble = trouble
        self._span = (since, until)
        self._latency_seconds = latency_seconds
        self.seconds: list[float] = []
        self.out = self.max_out = 0

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        now = anyio.current_time()
        self.seconds.append(now)
        self.out += 1
        self.max_out = max(self.max_out, self.out)
        try:
            await anyio.sleep(self._latency_seconds)
        finally:
            self.out -= 1
        if not self._span[0] <= now < self._span[1]:
            return GOOD
        if isinstance(self._trouble, Exception):
            raise self._trouble
        return self._trouble

    def open(self, url: str) -> AbstractAsyncContextManager[Body]:
        raise AssertionError(f"{url} is no API call")


def client(site: Http, base_seconds: float = 5.0, jitter: float = 0.5) -> ApiClient:
    return ApiClient(
        site,
        Pacer(MemoryBudget(10_000, anyio.current_time).caller(), anyio.current_time),
        epoch_clock=anyio.current_time,
        retry_base_seconds=base_seconds,
        jitter=lambda: jitter,
    )


async def given_up(api: ApiClient) -> str:
    with pytest.raises(Outage) as caught:
        await api.get(REQUEST, json.loads)
    assert caught.value.edge is Edge.API
    assert caught.value.problem.endswith(f"; stopped at {REQUEST.url}")
    assert "SECRETkey" not in str(caught.value)
    return caught.value.problem


TROUBLES = [
    *(reply(status, "text/html") for status in (500, 502, 503, 520, 521, 522, 524, 526)),
    *(reply(204), reply(206), PAGE, SILENT),
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda it: str(getattr(it, "status", it)))
@virtual_time
async def test_what_is_no_answer_is_outlasted(trouble: Reply | Exception) -> None:
    api = client(Site(trouble, until=600.0, since=1.0))
    assert await api.get(REQUEST, json.loads) == {}
    await anyio.sleep(1)
    assert await api.get(REQUEST, json.loads) == {}
    assert 599.0 <= api.outage_seconds <= 599.0 + POLICY.longest_pause_seconds


@settings(deadline=None)  # 900 virtual seconds, of a machine that may be busy
@given(st.sampled_from([FAULT, SILENT, PAGE]), st.floats(0, 0.99), st.floats(0.0, 30.0))
@virtual_time
async def test_pauses_are_bounded_and_the_end_comes_in_time(
    trouble: Reply | Exception, jitter: float, latency_seconds: float
) -> None:
    site = Site(trouble, until=1e9, since=1.0, latency_seconds=latency_seconds)
    api = client(site, jitter=max(jitter, 0.05))
    assert await api.get(REQUEST, json.loads) == {}
    await anyio.sleep(1)
    problem = await given_up(api)
    assert problem.startswith("no usable answer for ")
    pauses = [after - before - latency_seconds for before, after in pairwise(site.seconds[1:])]
    assert all(-1e-6 <= pause <= POLICY.longest_pause_seconds + 1e-6 for pause in pauses)
    lasted = anyio.current_time() - site.seconds[1] - latency_seconds
    assert 0 <= lasted - POLICY.outage_seconds <= latency_seconds + 1e-6
    assert api.outage_seconds == pytest.approx(lasted)


@pytest.mark.parametrize("trouble", [SILENT, PAGE])
@virtual_time
async def test_an_api_that_was_never_reached_is_soon_given_up(trouble: Reply | Exception) -> None:
    site = Site(trouble, until=1e9)
    api = client(site)
    assert (await given_up(api)).startswith("no usable answer for 15 s (")
    assert anyio.current_time() == api.outage_seconds == POLICY.unreached_seconds
    assert len(site.seconds) >= MIN_API_ATTEMPTS


@virtual_time
async def test_a_site_that_fails_from_the_beginning_is_given_its_time() -> None:
    api = client(Site(FAULT, until=300.0))
    assert await api.get(REQUEST, json.loads) == {}


@virtual_time
async def test_without_pauses_there_are_still_a_few_tries() -> None:
    site = Site(FAULT, until=1e9)
    await given_up(client(site, base_seconds=0.0))
    assert len(site.seconds) == MIN_API_ATTEMPTS


@pytest.mark.parametrize("trouble", [BLOCKED, CHALLENGE])
@virtual_time
async def test_a_block_is_not_insisted_on_and_named(trouble: Reply) -> None:
    site = Site(trouble, until=1e9)
    api = client(site)
    problem = await given_up(api)
    assert problem.startswith(f"the API blocks us (HTTP {trouble.status}, a challenge or a block)")
    assert len(site.seconds) == MAX_BLOCKED
    assert 0 < api.outage_seconds < 2 * MAX_BLOCKED * 5.0


@virtual_time
async def test_a_block_that_several_meet_at_once_is_one() -> None:
    site = Site(BLOCKED, until=1e9, latency_seconds=1.0)
    api = client(site)
    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(given_up, api)
    assert len(site.seconds) == 8 + MAX_BLOCKED - 1


@virtual_time
async def test_who_comes_later_waits_for_the_prober() -> None:
    site = Site(FAULT, until=1.0, latency_seconds=1.0)
    api = client(site, jitter=0.99)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(api.get, REQUEST, json.loads)
        await anyio.sleep(1.5)
        assert api.outage_seconds == 0.5
        tasks.start_soon(api.get, REQUEST, json.loads)
        await anyio.sleep(3)
        assert len(site.seconds) == 1
    assert len(site.seconds) == 3


@virtual_time
async def test_a_block_that_is_lifted_is_outlasted() -> None:
    assert await client(Site(BLOCKED, until=2.0)).get(REQUEST, json.loads) == {}


@virtual_time
async def test_one_probes_and_the_others_wait_for_it() -> None:
    site = Site(FAULT, until=400.0, since=10.0, latency_seconds=1.0)
    api = client(site)
    answers = 0

    async def read(pages: int) -> None:
        nonlocal answers
        for _ in range(pages):
            answer = await api.get(REQUEST, json.loads)
            answers += answer == {}

    async with task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(read, 20)
    assert answers == 160
    probes = [at for at in site.seconds if 11.0 < at <= 400.0]
    assert len(probes) < 25
    assert all(after - before >= 1.0 for before, after in pairwise(probes)), "one at a time"
    assert api.outage_seconds == pytest.approx(probes[-1] - 11.0, abs=62.0)


@virtual_time
async def test_all_give_up_together() -> None:
    site = Site(FAULT, until=1e9, latency_seconds=1.0)
    api = client(site)
    problems = []

    async def read() -> None:
        problems.append(await given_up(api))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(read)
    asked = len(site.seconds)
    assert len(problems) == 8
    assert anyio.current_time() < POLICY.outage_seconds + 5.0
    await given_up(api)
    assert len(site.seconds) == asked, "who has given up asks no more"


@virtual_time
async def test_where_the_prober_is_cancelled_another_one_goes_on() -> None:
    site = Site(FAULT, until=100.0, latency_seconds=1.0)
    api = client(site)
    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(20):
            await api.get(REQUEST, json.loads)
        assert api.outage_seconds == pytest.approx(19.0)
        tasks.start_soon(api.get, REQUEST, json.loads)
        tasks.start_soon(api.get, REQUEST, json.loads)
    assert site.max_out <= 2
    assert 99.0 <= api.outage_seconds <= 99.0 + POLICY.longest_pause_seconds + 2.0


@virtual_time
async def test_outages_add_up() -> None:
    site = Site(FAULT, until=5.0)
    api = client(site, jitter=0.9)
    await api.get(REQUEST, json.loads)
    first = api.outage_seconds
    assert first == pytest.approx(anyio.current_time())
    await anyio.sleep(100)
    site._span = (anyio.current_time(), anyio.current_time() + 1)
    await api.get(REQUEST, json.loads)
    assert api.outage_seconds == pytest.approx(anyio.current_time() - 100)


@virtual_time
async def test_an_outage_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "collector")
    await client(Site(FAULT, until=30.0)).get(REQUEST, json.loads)
    assert caplog.messages == [
        "api: no answer for 0 s (HTTP 521); retrying in 2.5 s",
        "api: no answer for 2 s (HTTP 521); retrying in 5.0 s",
        "api: no answer for 8 s (HTTP 521); retrying in 10.0 s",
        "api: no answer for 18 s (HTTP 521); retrying in 20.0 s",
        "api: answers again, after 38 s",
    ]


@virtual_time
async def test_an_answer_of_the_wrong_shape_is_no_outage() -> None:
    def refuse(_: bytes) -> None:
        raise PayloadError("no list")

    api = client(Site(FAULT, until=0.0))
    with pytest.raises(
        Outage, match=r"no usable answer in 5 attempts: no list; stopped at .*page=7"
    ):
        await api.get(REQUEST, refuse)
    assert api.outage_seconds == 0.0


# --- One page that does not come, while others do -------------------------------------------------

WITNESS = ApiRequest("https://wallhaven.cc/api/v1/search?page=1", {})


class PartlyDown:
    """The Http port: pages of which `is_down` says so have `trouble`, others are answered."""

    def __init__(self, trouble: Reply | Exception, is_down: Callable[[str, int], bool]) -> None:
        self._trouble = trouble
        self._is_down = is_down
        self.asked: list[str] = []

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        self.asked.append(url.rpartition("=")[2])
        if not self._is_down(self.asked[-1], len(self.asked)):
            return GOOD
        if isinstance(self._trouble, Exception):
            raise self._trouble
        return self._trouble

    def open(self, url: str) -> AbstractAsyncContextManager[Body]:
        raise AssertionError(f"{url} is no API call")


@pytest.mark.parametrize("trouble", [FAULT, PAGE, SILENT])
@virtual_time
async def test_a_page_that_alone_is_not_answered_is_no_outage(trouble: Reply | Exception) -> None:
    site = PartlyDown(trouble, lambda page, _: page == "7")
    api = client(site)
    with pytest.raises(Unreadable, match=r"to this request alone .*; stopped at .*page=7"):
        await api.get(REQUEST, json.loads, WITNESS)
    assert site.asked == ["7"] * MIN_API_ATTEMPTS + ["1", "7"]
    assert anyio.current_time() < 60.0
    assert await api.get(WITNESS, json.loads) == {}, "nothing was given up"


@virtual_time
async def test_an_outage_is_one_where_the_witness_is_not_answered_either() -> None:
    site = PartlyDown(FAULT, lambda *_: True)
    with pytest.raises(Outage, match="no usable answer for 900 s") as caught:
        await client(site).get(REQUEST, json.loads, WITNESS)
    assert not isinstance(caught.value, Unreadable)
    assert "1" in site.asked


@virtual_time
async def test_an_outage_that_ends_with_the_witness_blames_no_page() -> None:
    site = PartlyDown(FAULT, lambda _, number: number <= MIN_API_ATTEMPTS)
    assert await client(site).get(REQUEST, json.loads, WITNESS) == {}
    assert site.asked == ["7"] * MIN_API_ATTEMPTS + ["1", "7"]


@virtual_time
async def test_a_block_is_insisted_on_no_more_for_the_sake_of_a_witness() -> None:
    site = PartlyDown(BLOCKED, lambda page, _: page == "7")
    with pytest.raises(Outage, match="the API blocks us"):
        await client(site).get(REQUEST, json.loads, WITNESS)
    assert site.asked == ["7"] * MAX_BLOCKED


@virtual_time
async def test_a_witness_whose_answer_breaks_off_tells_nothing() -> None:
    class Broken(PartlyDown):
        async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
            reply = await super().get(url, headers)
            if self.asked[-1] == "1":
                raise PayloadError("the answer broke off")
            return reply

    site = Broken(FAULT, lambda page, number: page == "7" and number < 10)
    assert await client(site).get(REQUEST, json.loads, WITNESS) == {}


@virtual_time
async def test_others_go_on_while_one_page_is_not_answered() -> None:
    site = PartlyDown(FAULT, lambda page, _: page == "7")
    api = client(site)
    answers: list[object] = []

    async def read(page: int) -> None:
        request = ApiRequest(f"https://wallhaven.cc/api/v1/search?page={page}", {})
        try:
            answers.append(await api.get(request, json.loads, WITNESS))
        except Unreadable:
            answers.append(page)

    async with task_group() as tasks:
        for page in range(5, 10):
            tasks.start_soon(read, page)
    assert sorted(map(str, answers)) == ["7", *["{}"] * 4]
