"""Breakers: who waits for whom, and when an edge that fails is called down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import virtual_time

from collector.adapters.memory import MemoryStore
from collector.core.errors import Code, Edge, Fault, ItemError, Outage
from collector.core.health import LEAST_TRIES, WINDOW_TRIES
from collector.core.parts import Chunk
from collector.ports import Body, Reply
from collector.stages.breakers import Breakers

LONGEST_PAUSE_SECONDS = 30.0
GOOD_URL = "https://w.wallhaven.cc/full/aa/wallhaven-aa0001.jpg"


class Answer:
    """A Body of which nobody reads more than the status."""

    headers: Mapping[str, str] = {}

    def __init__(self, status: int) -> None:
        self.status = status

    def chunks(self) -> AsyncIterator[Chunk]:
        raise NotImplementedError


class Host:
    """The Http port: answers each image with `status`, or not at all where it is None."""

    def __init__(self, status: int | None) -> None:
        self._status = status
        self.asked: list[str] = []

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        raise NotImplementedError

    @asynccontextmanager
    async def open(self, url: str, *, most_bytes: int | None = None) -> AsyncIterator[Body]:
        self.asked.append(url)
        if self._status is None:
            raise trouble(Fault.SYSTEMIC)
        yield Answer(self._status)


def trouble(
    fault: Fault = Fault.TRANSIENT, *, edge: Edge = Edge.DOWNLOAD, asks: float | None = None
) -> ItemError:
    code = Code.SOURCE_ERROR if edge is Edge.DOWNLOAD else Code.STORE_ERROR
    return ItemError(code, "in trouble", fault=fault, edge=edge, retry_after_seconds=asks)


def breakers(host: Host, good_url: str | None = GOOD_URL) -> Breakers:
    async def known_good_url() -> str | None:
        return good_url

    return Breakers(host, MemoryStore(), known_good_url, anyio.current_time, LONGEST_PAUSE_SECONDS)


@given(st.lists(st.floats(0, 1000), max_size=5))
@virtual_time
async def test_all_wait_for_the_latest_time_that_the_host_named(asked: list[float]) -> None:
    both = breakers(Host(200))
    for seconds in asked:
        both.heed(trouble(asks=seconds))
        both.heed(trouble(edge=Edge.UPLOAD, asks=seconds + 1))
    heeded = [seconds for seconds in asked if seconds <= LONGEST_PAUSE_SECONDS]
    await both.pause()
    assert anyio.current_time() == max(heeded, default=0.0)


@pytest.mark.parametrize("status", [200, 404, 410, 451])
async def test_a_host_that_speaks_of_what_it_delivered_before_is_well(status: int) -> None:
    host = Host(status)
    both = breakers(host)
    for _ in range(2 * WINDOW_TRIES):
        await both.failed(trouble())
    assert set(host.asked) == {GOOD_URL}
    await both.ask_in_the_end()


@pytest.mark.parametrize(
    ("status", "good_url"), [(503, GOOD_URL), (403, GOOD_URL), (None, GOOD_URL), (200, None)]
)
async def test_a_host_that_delivers_nothing_is_down_after_one_window(
    status: int | None, good_url: str | None
) -> None:
    both = breakers(Host(status), good_url)
    for _ in range(WINDOW_TRIES - 1):
        await both.failed(trouble())
    with pytest.raises(Outage, match=f"image host.*source_error {WINDOW_TRIES}") as caught:
        await both.failed(trouble())
    assert caught.value.edge is Edge.DOWNLOAD


async def test_where_nobody_could_be_reached_no_other_image_is_asked_for() -> None:
    host = Host(200)
    both = breakers(host)
    await both.failed(trouble(Fault.SYSTEMIC))
    with pytest.raises(Outage):
        await both.ask_in_the_end()
    assert not host.asked


@pytest.mark.parametrize(("tries", "is_down"), [(LEAST_TRIES - 1, False), (LEAST_TRIES, True)])
async def test_a_store_that_never_answered_is_down_where_the_tries_are_enough(
    tries: int, *, is_down: bool
) -> None:
    both = breakers(Host(200))
    for _ in range(tries):
        await both.failed(trouble(edge=Edge.UPLOAD))
    if is_down:
        with pytest.raises(Outage, match="the store"):
            await both.ask_in_the_end()
    else:
        await both.ask_in_the_end()  # The store answers now.


@pytest.mark.parametrize(("status", "is_down"), [(200, False), (503, True)])
async def test_who_fails_last_is_asked_once_more(status: int, *, is_down: bool) -> None:
    host = Host(status)
    both = breakers(host)
    both.answered()
    await both.failed(trouble())
    if is_down:
        with pytest.raises(Outage, match="in the end"):
            await both.ask_in_the_end()
    else:
        await both.ask_in_the_end()
    assert host.asked == [GOOD_URL]
