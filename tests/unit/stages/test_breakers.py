"""Breakers: who waits for whom, and when an edge that fails is called down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import virtual_time

from collector.core.errors import Code, Edge, Fault, ItemError, Outage, Refusal, SettingsError
from collector.core.parts import Chunk
from collector.core.retry import MIN_ATTEMPTS, WINDOW_ATTEMPTS
from collector.core.transfers import KnownGood
from collector.ports import Body, Reply
from collector.stages.breakers import Breakers
from collector.store.memory import MemoryStore

LONGEST_PAUSE_SECONDS = 30.0
HOST = "https://w.wallhaven.cc/"
BAD_URL = f"{HOST}full/zz/wallhaven-zz9999.jpg"
SIZE_BYTES = 1000
GOOD = [KnownGood(f"{HOST}full/aa/wallhaven-aa000{n}.jpg", SIZE_BYTES) for n in range(3)]


class Answer:
    """A Body that is `size_bytes` long, and says so or not."""

    def __init__(self, status: int, size_bytes: int, *, announces: bool) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {"Content-Length": str(size_bytes)} if announces else {}
        self._size_bytes = size_bytes

    async def chunks(self) -> AsyncIterator[Chunk]:
        for _ in range(self._size_bytes):
            yield b"."


class Host:
    """The Http port: answers each image with `status`, or not at all if it is None.

    Of images with a status in `of`, that one is the answer.
    """

    def __init__(
        self,
        status: int | None,
        *,
        size_bytes: int = SIZE_BYTES,
        announces: bool = True,
        of: Mapping[str, int] | None = None,
    ) -> None:
        self._status = status
        self._of = of or {}
        self._size_bytes = size_bytes
        self._announces = announces
        self.asked: list[str] = []

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        raise NotImplementedError

    @asynccontextmanager
    async def open(self, url: str, *, max_bytes: int | None = None) -> AsyncIterator[Body]:
        self.asked.append(url)
        await anyio.lowlevel.checkpoint()
        status = self._of.get(url, self._status)
        if status is None:
            raise trouble(Fault.SYSTEMIC)
        yield Answer(status, self._size_bytes, announces=self._announces)


def trouble(
    fault: Fault = Fault.TRANSIENT, *, edge: Edge = Edge.DOWNLOAD, asks: float | None = None
) -> ItemError:
    code = Code.SOURCE_ERROR if edge is Edge.DOWNLOAD else Code.STORE_ERROR
    return ItemError(code, "in trouble", fault=fault, edge=edge, retry_after_seconds=asks)


def refusal(code: Code) -> ItemError:
    return ItemError(code, "refused", fault=Fault.PERMANENT)


def breakers(host: Host, good: Sequence[KnownGood] = GOOD) -> Breakers:
    async def known_good(origin: str) -> list[KnownGood]:
        return [known for known in good if known.url.startswith(origin)]

    return Breakers(host, MemoryStore(), known_good, anyio.current_time, LONGEST_PAUSE_SECONDS)


async def fail_a_window(both: Breakers, url: str = BAD_URL) -> None:
    for _ in range(WINDOW_ATTEMPTS):
        await both.failed(refusal(Code.HOST_REFUSED), url)


@given(st.lists(st.floats(0, 1000), max_size=5))
@virtual_time
async def test_all_wait_for_the_latest_time_that_the_host_named(asked: list[float]) -> None:
    both = breakers(Host(200))
    for seconds in asked:
        both.note_retry_after(trouble(asks=seconds))
        both.note_retry_after(trouble(edge=Edge.UPLOAD, asks=seconds + 1))
    heeded = [seconds for seconds in asked if seconds <= LONGEST_PAUSE_SECONDS]
    await both.pause()
    assert anyio.current_time() == max(heeded, default=0.0)


@pytest.mark.parametrize("announces", [True, False])
async def test_a_host_that_delivers_what_it_delivered_before_is_well(*, announces: bool) -> None:
    host = Host(200, announces=announces)
    both = breakers(host)
    for _ in range(2 * WINDOW_ATTEMPTS):
        await both.failed(refusal(Code.GONE), BAD_URL)
    assert host.asked == [GOOD[0].url] * 2, "once for each window"
    await both.require_working()


async def test_one_of_a_few_known_images_is_enough_for_others_may_be_deleted() -> None:
    host = Host(404, of={GOOD[2].url: 200})
    both = breakers(host)
    for _ in range(WINDOW_ATTEMPTS):
        await both.failed(refusal(Code.NOT_FOUND), BAD_URL)
    assert host.asked == [known.url for known in GOOD]


@pytest.mark.parametrize(
    "host",
    [
        *(Host(503), Host(403), Host(404), Host(410), Host(None)),
        Host(200, size_bytes=SIZE_BYTES - 1),
        Host(200, size_bytes=SIZE_BYTES + 1, announces=False),
    ],
    ids=["503", "403", "404", "410", "unreachable", "shorter", "longer"],
)
@pytest.mark.parametrize("code", [Code.SOURCE_ERROR, Code.NOT_FOUND, Code.SIZE_MISMATCH])
async def test_a_host_that_does_not_deliver_what_it_did_is_down(host: Host, code: Code) -> None:
    host.asked.clear()
    both = breakers(host)
    for _ in range(WINDOW_ATTEMPTS - 1):
        await both.failed(refusal(code), BAD_URL)
    with pytest.raises(Outage, match=f"image host.*{code} {WINDOW_ATTEMPTS}.*before") as caught:
        await both.failed(refusal(code), BAD_URL)
    assert caught.value.edge is Edge.DOWNLOAD
    assert host.asked == [known.url for known in GOOD]


@pytest.mark.parametrize(
    "good", [[], [KnownGood("https://another.host/a.jpg", SIZE_BYTES)]], ids=["none", "another"]
)
async def test_a_host_that_refuses_all_and_from_which_nothing_ever_came_is_down(
    good: list[KnownGood],
) -> None:
    host = Host(200)
    both = breakers(host, good)
    for _ in range(MIN_ATTEMPTS):
        await both.failed(refusal(Code.GONE), BAD_URL)
    with pytest.raises(Outage, match=r"gone 5.*nothing was ever stored.*WALLHAVEN_IMAGE_HOSTS"):
        await both.require_working()
    assert not host.asked


async def test_who_fails_while_the_host_is_asked_waits_for_the_answer() -> None:
    host = Host(200)
    both = breakers(host)
    async with anyio.create_task_group() as tasks:
        for _ in range(WINDOW_ATTEMPTS + 4):
            tasks.start_soon(both.failed, refusal(Code.GONE), BAD_URL)
    assert host.asked == [GOOD[0].url]


async def test_if_all_hosts_are_refused_the_setting_is_wrong_and_none_is_asked() -> None:
    host = Host(200)
    both = breakers(host)
    with pytest.raises(SettingsError, match=r"https://w\.wallhaven\.cc/") as caught:
        await fail_a_window(both)
    assert caught.value.setting == "WALLHAVEN_IMAGE_HOSTS"
    assert not host.asked


async def test_if_a_few_hosts_of_few_images_are_refused_the_end_tells() -> None:
    both = breakers(Host(200))
    for _ in range(MIN_ATTEMPTS):
        await both.failed(refusal(Code.HOST_REFUSED), BAD_URL)
    with pytest.raises(SettingsError, match="WALLHAVEN_IMAGE_HOSTS"):
        await both.require_working()


async def test_if_others_were_stored_refused_hosts_fail_the_run_and_name_the_setting() -> None:
    both = breakers(Host(200))
    both.stored()
    with pytest.raises(Refusal, match="WALLHAVEN_IMAGE_HOSTS") as caught:
        await fail_a_window(both)
    assert caught.value.edge is Edge.DOWNLOAD


async def test_an_address_tells_no_user_and_is_cut() -> None:
    both = breakers(Host(200))
    hostile = f"https://name:secret@{'x' * 5000}/a.jpg"
    with pytest.raises(SettingsError) as caught:
        await fail_a_window(both, hostile)
    assert "secret" not in str(caught.value)
    assert len(str(caught.value)) < 1000


async def test_if_no_connection_is_made_no_other_image_is_asked_for() -> None:
    host = Host(200)
    both = breakers(host)
    await both.failed(trouble(Fault.SYSTEMIC), BAD_URL)
    with pytest.raises(Outage):
        await both.require_working()
    assert not host.asked


async def test_one_connect_failure_is_forgotten_once_the_host_answers() -> None:
    host = Host(200)
    both = breakers(host)
    await both.failed(trouble(Fault.SYSTEMIC), BAD_URL)
    both.stored()
    for _ in range(WINDOW_ATTEMPTS):
        await both.failed(trouble(), BAD_URL)
    assert host.asked, "the host is asked before it is called down"


@pytest.mark.parametrize(("attempts", "is_down"), [(MIN_ATTEMPTS - 1, False), (MIN_ATTEMPTS, True)])
async def test_a_store_that_never_worked_is_down_if_the_attempts_are_enough(
    attempts: int, *, is_down: bool
) -> None:
    both = breakers(Host(200))
    for _ in range(attempts):
        await both.failed(trouble(edge=Edge.UPLOAD), BAD_URL)
    if is_down:
        with pytest.raises(Outage, match="the store"):
            await both.require_working()
    else:
        await both.require_working()  # The store answers now.


@pytest.mark.parametrize(("status", "is_down"), [(200, False), (503, True), (404, True)])
async def test_who_fails_last_is_asked_once_more(status: int, *, is_down: bool) -> None:
    host = Host(status)
    both = breakers(host)
    both.stored()
    await both.failed(trouble(), BAD_URL)
    if is_down:
        with pytest.raises(Outage, match="the last images"):
            await both.require_working()
    else:
        await both.require_working()
        assert host.asked == [GOOD[0].url]
