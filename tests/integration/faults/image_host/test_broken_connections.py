"""The connection to the image host breaks, drips or falls silent."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import anyio
import pytest
from faulty_world import OpenFaults
from image_faults import (
    GIVES_UP,
    KINDS,
    OK,
    ONE_BY_ONE,
    SIZE_UNKNOWN,
    TRIES,
    Way,
    attempts,
    both_ways,
    codes,
    dripping,
    everything,
    given_up,
    half,
    in_turn,
    key_of,
    of,
    of_kind,
    of_part,
    reasons,
    tries,
    wire,
    with_body,
    without_length,
)
from peers import http
from peers.exchange import Answer, Exchange
from peers.http import Fault
from world import small

from collector.core import image_validation
from collector.core.errors import Code
from collector.core.parts import PART_BYTES
from collector.core.runs import RunStatus
from collector.http import client
from collector.simulator import Hooks
from collector.stages import mirror


def chunked(body: bytes) -> bytes:
    """Return an answer in one chunk, without the last one, which ends it."""
    return OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(body), body)


# --- The connection breaks -----------------------------------------------------------------------


RESETS: dict[str, Fault] = {
    "before a word": http.reset,
    "within the head": wire(lambda answer: answer.framed()[:20], then="reset"),
    "behind the head": http.cut(0),
    "behind a byte": http.cut(1),
    "within the signature": http.cut(10),
    "in the middle": wire(lambda answer: answer.framed()[: -len(answer.body) // 2], then="reset"),
    "before the last byte": http.cut(1, from_end=True),
}


@pytest.mark.smoke
@pytest.mark.case("CDN-01")
async def test_an_image_that_is_cut_off_is_fetched_again_from_its_start(
    open_faults: OpenFaults, small_images: Path, way: Way
) -> None:
    async with open_faults(small(small_images, 10), **ONE_BY_ONE) as world:
        met = dict(zip(RESETS, in_turn(world), strict=False))
        for name, wallpaper in met.items():
            world.images.on(of(wallpaper), RESETS[name])
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 10)
        for name, wallpaper in met.items():
            assert world.images.count(of(wallpaper)) == 2, name
            # Before the head, aiohttp asks once more by itself.
            silently = way == "aiohttp" and name in ("before a word", "within the head")
            assert await tries(world, wallpaper) == (1 if silently else 2), name
        assert not world.images.count(lambda asked: "range" in asked.headers)
        await world.check()


@pytest.mark.case("CDN-01")
async def test_a_large_image_that_is_cut_off_leaves_no_part_of_itself(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.images.on(everything, http.cut(PART_BYTES + 1000))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 1)
        assert world.images.count(everything) == 2
        assert not world.images.count(lambda asked: "range" in asked.headers)
        aborted = [asked for asked in world.store.asked if asked.method == "DELETE"]
        assert any("uploadId=" in asked.query for asked in aborted)
        await world.check()


@both_ways
@pytest.mark.case("CDN-02")
async def test_a_body_cut_short_is_never_stored(
    open_faults: OpenFaults, small_images: Path
) -> None:
    short = wire(lambda answer: answer.framed()[:-1])
    async with open_faults(small(small_images, 5), **GIVES_UP, **ONE_BY_ONE) as world:
        once, always, *_ = in_turn(world)
        world.images.on(of(once), short)
        world.images.on(of(always), short, times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 4)
        assert await codes(world) == {always.id: (Code.SOURCE_ERROR, TRIES)}
        assert [world.images.count(of(it)) for it in (once, always)] == [2, TRIES]
        await world.converge()


@pytest.mark.case("CDN-02")
async def test_a_large_body_cut_short_is_never_stored(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.images.on(everything, wire(lambda answer: answer.framed()[:-1]), times=TRIES)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 0)
        assert await world.objects() == {}
        assert await attempts(world) == {TRIES}
        await world.converge()
        assert await world.objects() == world.truth()


LESS = {"half": half, "two bytes": lambda body: body[:-2], "trailer": lambda body: body[:-12]}


@pytest.mark.case("CDN-03")
@pytest.mark.parametrize("size", ["known", "unknown"])
async def test_a_short_body_that_claims_to_be_whole_is_found_out_by_its_end(
    open_faults: OpenFaults, three_kinds: Path, size: str
) -> None:
    hooks = SIZE_UNKNOWN if size == "unknown" else Hooks()
    async with open_faults(small(three_kinds, 12), hooks, **GIVES_UP) as world:
        faults = {
            f"{kind} without {name}": with_body(change)
            for kind in KINDS
            for name, change in LESS.items()
        }
        wallpapers = [it for kind in KINDS for it in of_kind(world, kind)[: len(LESS)]]
        given = await given_up(world, faults, wallpapers)
        assert given == dict.fromkeys(faults, (Code.TRUNCATED, TRIES))
        await world.check()


@pytest.mark.case("CDN-04")
async def test_a_body_without_a_length_ends_where_its_image_does(
    open_faults: OpenFaults, three_kinds: Path
) -> None:
    async with open_faults(small(three_kinds, 12), **GIVES_UP) as world:
        *whole, a, b, c = in_turn(world)
        for wallpaper in (a, b, c):
            short = wire(lambda answer: without_length(half(answer.body)))
            world.images.on(of(wallpaper), short, times=None)
        world.images.on(everything, wire(lambda answer: without_length(answer.body)), times=None)
        audit = await world.run()
        assert (audit.images_uploaded, audit.download_failures) == (len(whole), 3)
        assert await codes(world) == {it.id: (Code.TRUNCATED, TRIES) for it in (a, b, c)}
        assert (await world.objects()).keys() == {key_of(wallpaper) for wallpaper in whole}
        await world.check()


UNENDED: dict[str, Callable[[bytes], bytes]] = {
    "without its last chunk": chunked,
    "within a chunk": lambda body: chunked(body)[: -len(body) // 2],
    "without any chunk": lambda body: chunked(body).partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
    "with a chunk of no size": lambda body: chunked(body) + b"zz\r\n",
}


@pytest.mark.case("CDN-05")
async def test_chunks_that_do_not_end_are_no_image(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 9), **GIVES_UP, **ONE_BY_ONE) as world:
        faults = {name: wire(lambda it, to=to: to(it.body)) for name, to in UNENDED.items()}
        given = await given_up(world, faults)
        assert given == dict.fromkeys(faults, (Code.SOURCE_ERROR, TRIES))
        # The lane asks a host that is odd once in vain, and from then on leaves it to aiohttp.
        first, *others = in_turn(world)[: len(faults)]
        assert world.images.count(of(first)) == TRIES + 1
        assert {world.images.count(of(wallpaper)) for wallpaper in others} == {TRIES}
        await world.check()


@pytest.mark.case("CDN-05")
async def test_chunks_that_end_are_an_image_on_the_next_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3), **ONE_BY_ONE) as world:
        first = in_turn(world)[0]
        # The lane asks first, and then leaves it to aiohttp: both are one try.
        world.images.on(of(first), wire(lambda it: chunked(it.body)), times=2)
        whole = wire(lambda it: chunked(it.body) + b"0\r\n\r\n")
        world.images.on(everything, whole, times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 3)
        assert await tries(world, first) == 2
        await world.check()


POISON = OK + b"Content-Type: image/jpeg\r\nContent-Length: 5\r\n\r\nwrong"
BEHIND = (b"x", bytes(200_000), POISON)


@both_ways
@pytest.mark.case("CDN-06")
async def test_what_comes_behind_a_body_is_never_taken_for_an_answer(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 8), **ONE_BY_ONE) as world:
        # Every second one: those between are asked for behind what is too much.
        for wallpaper, more in zip(in_turn(world)[::2], BEHIND, strict=False):
            longer = wire(lambda answer, more=more: answer.framed() + more, then="keep")
            world.images.on(of(wallpaper), longer)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 8)
        assert (audit.download_failures, await codes(world)) == (0, {})
        await world.check()


@pytest.mark.case("CDN-06")
async def test_a_body_longer_than_its_length_is_cut_to_it_and_found_out(
    open_faults: OpenFaults, small_images: Path, way: Way
) -> None:
    async with open_faults(small(small_images, 5), **GIVES_UP, **ONE_BY_ONE) as world:
        wallpaper = in_turn(world)[1]
        fewer = wire(
            lambda answer: answer.framed(content_length=str(len(answer.body) - 10)), then="keep"
        )
        world.images.on(of(wallpaper), fewer, times=None)
        audit = await world.run()
        assert audit.images_uploaded == 4
        # To aiohttp, bytes behind the body are an answer that cannot be read.
        code = Code.TRUNCATED if way == "fast client" else Code.SOURCE_ERROR
        assert await codes(world) == {wallpaper.id: (code, TRIES)}
        await world.check()


class OneBehind:
    """A host that, after an answer nobody asked for, gives each request its forerunner's answer."""

    def __init__(self, unasked: bytes) -> None:
        self._unasked = unasked
        self._forerunner: dict[int, Exchange] = {}

    async def __call__(self, exchange: Exchange) -> None:
        connection = id(exchange._writer)
        before, self._forerunner[connection] = self._forerunner.get(connection), exchange
        await exchange.send((await before.forward()).framed() if before else self._unasked)


@both_ways
@pytest.mark.case("CDN-06")
async def test_a_connection_that_is_one_answer_behind_costs_one_image_a_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 8), **ONE_BY_ONE) as world:
        first, second, *_ = in_turn(world)
        desynchronised: list[int] = []
        behind = OneBehind(POISON)

        async def second_and_after(exchange: Exchange) -> None:
            desynchronised.append(id(exchange._writer))
            if desynchronised[0] == id(exchange._writer):
                await behind(exchange)
            else:
                await exchange.relay()

        world.images.on(lambda asked: not of(first)(asked), second_and_after, times=None)
        audit = await world.run()
        assert await codes(world) == {}
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 8)
        assert await tries(world, second) == 2
        assert world.images.count(everything) == 9
        await world.check()


@both_ways
@pytest.mark.case("CDN-25")
async def test_a_kept_connection_that_ends_as_it_is_used_again_costs_no_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 6), **ONE_BY_ONE) as world:
        _, second, _, fourth, *_ = in_turn(world)
        world.images.on(of(second), http.reset)
        world.images.on(of(fourth), http.raw(b""))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 6)
        assert [world.images.count(of(it)) for it in in_turn(world)] == [1, 2, 1, 2, 1, 1]
        assert {await tries(world, wallpaper) for wallpaper in in_turn(world)} == {1}
        await world.check()


@pytest.mark.case("CDN-25")
async def test_a_host_that_closes_after_each_answer_costs_no_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 8), **ONE_BY_ONE) as world:
        world.images.on(everything, wire(lambda answer: answer.framed()), times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 8)
        assert {await tries(world, wallpaper) for wallpaper in in_turn(world)} == {1}
        await world.check()


# --- The host is slow, or silent -----------------------------------------------------------------


def body_apart(answer: Answer) -> tuple[bytes, bytes]:
    whole = answer.framed()
    return whole[: -len(answer.body)], answer.body


@both_ways
@pytest.mark.case("CDN-20")
async def test_a_body_that_drips_is_not_waited_for(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_validation, "THROUGHPUT_WINDOW_SECONDS", 0.2)
    async with open_faults(small(small_images, 6), **GIVES_UP) as world:
        drips = {
            "with a length": dripping(body_apart),
            "without": dripping(lambda it: (without_length(b""), it.body)),
        }
        given = await given_up(world, drips)
        assert given == dict.fromkeys(drips, (Code.SOURCE_ERROR, TRIES))
        assert all("bytes a second" in reason for reason in await reasons(world))
        await world.check()


@both_ways
@pytest.mark.usefixtures("short_deadline")
@pytest.mark.case("CDN-20")
async def test_a_head_that_drips_is_not_waited_for(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 6), **GIVES_UP) as world:
        drip = dripping(lambda it: (b"", it.framed()))
        assert await given_up(world, {"it": drip}) == {"it": (Code.SOURCE_ERROR, TRIES)}
        assert await reasons(world) == ["not done in 0 s"]
        await world.check()


@pytest.mark.usefixtures("short_deadline")
@pytest.mark.case("CDN-20")
async def test_a_large_image_too_slow_for_its_deadline_leaves_no_part_of_itself(
    open_faults: OpenFaults, two_parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "SLOWEST_BYTES_PER_SECOND", 20_000_000)
    async with open_faults(small(two_parts, 1), collector_max_attempts=1) as world:
        slow = dripping(lambda it: (it.framed()[:-1000], it.framed()[-1000:]))
        world.images.on(everything, slow, times=None)
        assert (await world.run()).images_uploaded == 0
        assert set((await codes(world)).values()) == {(Code.SOURCE_ERROR, 1)}
        assert world.store.count(of_part(1)) > 0
        await world.check()


@pytest.fixture
def short_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_TIMEOUT_SECONDS", 0.1)


def then_silent(change: Callable[[Answer], bytes]) -> Fault:
    async def fault(exchange: Exchange) -> None:
        await exchange.send(change(await exchange.forward()))
        await http.hang(exchange)

    return fault


SILENT: dict[str, Fault] = {
    "at once": http.hang,
    "within the head": then_silent(lambda it: it.framed()[:30]),
    "behind the head": then_silent(lambda it: it.framed()[: -len(it.body)]),
    "within the body": then_silent(lambda it: it.framed()[:-10]),
    "within a chunk": then_silent(lambda it: chunked(it.body)[:-10]),
}


@both_ways
@pytest.mark.usefixtures("short_silence")
@pytest.mark.case("CDN-21")
async def test_silence_is_not_waited_for(open_faults: OpenFaults, small_images: Path) -> None:
    async with open_faults(small(small_images, 12), **GIVES_UP) as world:
        given = await given_up(world, SILENT)
        assert given == dict.fromkeys(SILENT, (Code.SOURCE_ERROR, TRIES))
        assert set(await reasons(world)) == {"no answer in time"}
        await world.check()


@pytest.mark.usefixtures("short_silence")
@pytest.mark.case("CDN-21")
async def test_a_host_that_is_silent_for_all_is_an_outage_and_costs_no_attempt(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 6), **GIVES_UP) as world:
        world.images.on(everything, http.hang, times=None)
        with anyio.fail_after(5):
            audit = await world.run()
        assert audit.status is RunStatus.FAILED
        assert (await codes(world), await attempts(world)) == ({}, {0})
        await world.converge()
        assert await world.objects() == world.truth()


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose backlog is full: who connects waits for ever."""
    with ExitStack() as sockets:
        full = sockets.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        yield full.getsockname()[1]


@both_ways
@pytest.mark.case("CDN-21")
async def test_a_host_that_nobody_gets_through_to_is_an_outage_even_for_one_image(
    open_faults: OpenFaults,
    small_images: Path,
    full_port: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "CONNECT_TIMEOUT_SECONDS", 0.2)
    host = f"127.0.0.1:{full_port}"
    hooks = Hooks(listing=lambda items: [it | {"path": f"http://{host}/x.jpg"} for it in items])
    changes = {**GIVES_UP, "wallhaven_image_hosts": host}
    async with open_faults(small(small_images, 1), hooks, **changes) as world:
        audit = await world.run()
        assert audit.status is RunStatus.FAILED
        assert (await codes(world), await attempts(world)) == ({}, {0})
        await world.check(converged=False)
