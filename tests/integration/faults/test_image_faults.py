"""Faults of the image host: nothing wrong is stored, nothing right is lost, no item pays for it.

Images take the fast lane, which hands what it finds odd to aiohttp; where that may matter, a case
goes both ways. With one image in flight they are asked for in the order of their ids, on one
connection after the other, so that requests can be counted.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import socket
import ssl
import subprocess
import time
import warnings
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import connector
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Answer, Asked, Exchange, said
from peers.http import Fault, HttpPeer, Match, open_peer
from PIL import Image
from world import small

from collector.core import addresses, validation
from collector.core.errors import Code, ItemError
from collector.core.errors import Fault as Blame
from collector.core.parts import PART_BYTES
from collector.core.retry import EdgeHealth
from collector.core.runs import RunStatus
from collector.core.validation import Validator
from collector.http import client, open_http
from collector.runtime import opening
from collector.runtime.opening import RunOptions
from collector.simulator import Hooks, Wallpaper
from collector.stages import mirror

OK = b"HTTP/1.1 200 OK\r\n"
# An item is tried so often in a run; with as many in all, it is given up in the first one.
TRIES = 2
GIVES_UP = {"collector_max_attempts": TRIES, "collector_max_dead_percent": 100}
ONE_BY_ONE = {"collector_in_flight": 1}

# The API says of no image how large it is: bodies are then bounded by the settings alone.
SIZE_UNKNOWN = Hooks(listing=lambda items: [item | {"file_size": None} for item in items])

Way = str


@pytest.fixture(params=["fast lane", "aiohttp"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Images take the fast lane, with aiohttp behind it, or aiohttp alone."""
    if request.param == "aiohttp":
        monkeypatch.setattr(opening, "open_http", partial(open_http, fast_lane=False))
    return str(request.param)


both_ways = pytest.mark.usefixtures("way")


@pytest.fixture(scope="module")
def three_kinds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small JPEG, PNG and WebP."""
    folder = tmp_path_factory.mktemp("three_kinds")
    for name in ("a.jpg", "b.png", "c.webp"):
        Image.effect_noise((48, 48), 60).convert("RGB").save(folder / name)
    return folder


@pytest.fixture(scope="module")
def two_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one picture of a little more than one part."""
    folder = tmp_path_factory.mktemp("two_parts")
    noise = Image.effect_noise((1700, 1700), 90).convert("RGB")
    noise.save(folder / "noise.png", compress_level=0)
    return folder


@pytest.fixture(autouse=True)
def _no_last_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests are counted here; test_last_images.py is about the one that comes last."""
    monkeypatch.setattr(EdgeHealth, "ends_failing", property(lambda _: False))


# --- What is asked, and what became of it --------------------------------------------------------


def of(wallpaper: Wallpaper) -> Match:
    return lambda asked: f"-{wallpaper.id}." in asked.path


def of_part(number: int) -> Match:
    return lambda asked: "/wallpapers/" in asked.path and f"partNumber={number}&" in asked.query


def everything(_: Asked) -> bool:
    return True


def in_turn(world: FaultyWorld) -> list[Wallpaper]:
    """Return all wallpapers in the order in which they are claimed."""
    return sorted(world.simulator.catalogue, key=lambda wallpaper: wallpaper.id)


def of_kind(world: FaultyWorld, extension: str) -> list[Wallpaper]:
    return [wallpaper for wallpaper in in_turn(world) if wallpaper.extension == extension]


def key_of(wallpaper: Wallpaper) -> str:
    return f"wallpapers/{wallpaper.id}.{wallpaper.extension}"


def body_of(world: FaultyWorld, wallpaper: Wallpaper) -> bytes:
    return b"".join(world.simulator.catalogue.body(wallpaper))


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def codes(world: FaultyWorld) -> dict[str, tuple[str, int]]:
    """Return code and attempts of each open dead letter, by wallpaper."""
    letters = await world.runtime.catalog.dead_letters.open_letters()
    return {str(letter.wallhaven_id): (letter.code, letter.attempts) for letter in letters}


async def reasons(world: FaultyWorld) -> list[str]:
    return [letter.reason for letter in await world.runtime.catalog.dead_letters.open_letters()]


async def tries(world: FaultyWorld, wallpaper: Wallpaper) -> int:
    """Return how often the last run has tried this one."""
    return await world.value(
        "SELECT tries FROM draenei_content.run_items INNER JOIN draenei_content.wallpapers AS w"
        " ON w.id = wallpaper_id WHERE wallhaven_id = $1 ORDER BY audit_id DESC LIMIT 1",
        wallpaper.id,
    )


async def attempts(world: FaultyWorld) -> set[int]:
    """Return what the backlog says that its items were tried."""
    rows = await world.rows("SELECT DISTINCT attempts FROM draenei_content.transfers")
    return {row["attempts"] for row in rows}


async def given_up(
    world: FaultyWorld, faults: Mapping[str, Fault], wallpapers: Iterable[Wallpaper] = ()
) -> dict[str, tuple[str, int]]:
    """Let one image after the other meet a fault for ever; return what was written of each.

    None of them is stored, and all others are.
    """
    met = dict(zip(faults, wallpapers or in_turn(world), strict=False))
    for name, wallpaper in met.items():
        world.images.on(of(wallpaper), faults[name], times=None)
    audit = await world.run()
    assert audit.images_uploaded == len(world.truth()) - len(faults)
    assert audit.download_failures == len(faults)
    assert not (await world.objects()).keys() & {key_of(wallpaper) for wallpaper in met.values()}
    found = await codes(world)
    return {name: found.get(wallpaper.id, ("", 0)) for name, wallpaper in met.items()}


# --- What the host does --------------------------------------------------------------------------


def wire(change: Callable[[Answer], bytes], *, then: str = "close") -> Fault:
    """Fetch the image, and send what `change` makes of the answer, byte for byte."""

    async def fault(exchange: Exchange) -> None:
        await http.raw(change(await exchange.forward()), then=then)(exchange)

    return fault


def with_body(change: Callable[[bytes], bytes], **headers: str | None) -> Fault:
    """Send another body, with its true length, and other headers."""
    return wire(
        lambda answer: replace(answer, body=change(answer.body)).framed(**headers), then="keep"
    )


def without_length(body: bytes) -> bytes:
    return OK + b"Content-Type: image/jpeg\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    """Return an answer in one chunk, without the last one, which ends it."""
    return OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(body), body)


def half(body: bytes) -> bytes:
    return body[: len(body) // 2]


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


KINDS = ("jpg", "png", "webp")
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
        code = Code.TRUNCATED if way == "fast lane" else Code.SOURCE_ERROR
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


# --- The body is no such image -------------------------------------------------------------------


PAGE = b"<!DOCTYPE html><html><head><title>Just a moment</title></head></html>"


def page(status: int = 200, **headers: str) -> Fault:
    return http.status(status, PAGE, **{"content_type": "text/html; charset=UTF-8", **headers})


@pytest.mark.case("CDN-07")
async def test_a_page_in_place_of_an_image_is_not_stored(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 8), **GIVES_UP) as world:
        once, always, shouted, *_ = in_turn(world)
        world.images.on(of(once), page())
        world.images.on(of(always), page(), times=None)
        world.images.on(of(shouted), page(content_type="TEXT/HTML"), times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 6)
        html = (Code.HTML_RESPONSE, TRIES)
        assert await codes(world) == {always.id: html, shouted.id: html}
        assert world.images.count(of(once)) == world.images.count(of(always)) == TRIES
        await world.check()


@pytest.mark.case("CDN-07")
async def test_a_page_in_place_of_every_image_is_an_outage(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 21), **GIVES_UP) as world:
        world.images.on(everything, page(), times=None)
        audit = await world.run()
        assert (audit.status, await codes(world)) == (RunStatus.FAILED, {})
        assert await attempts(world) == {0}
        await world.converge()
        assert await world.objects() == world.truth()


def padded(opening: bytes) -> Callable[[bytes], bytes]:
    """Return a body of the true length that begins so, and goes on with spaces."""
    return lambda body: opening.ljust(len(body))[: len(body)]


DISGUISED: dict[str, tuple[Callable[[bytes], bytes], Code]] = {
    "page": (padded(PAGE), Code.HTML_RESPONSE),
    "short page": (lambda _: PAGE, Code.HTML_RESPONSE),
    "page behind a mark and spaces": (padded(b"\xef\xbb\xbf \r\n\t" + PAGE), Code.HTML_RESPONSE),
    "error in JSON": (padded(b'{"error": "busy"}'), Code.HTML_RESPONSE),
    "drawing": (padded(b'<?xml version="1.0"?><svg onload="x()"/>'), Code.HTML_RESPONSE),
    "words": (padded(b"Too many requests"), Code.MAGIC_MISMATCH),
    "zeros": (lambda body: bytes(len(body)), Code.MAGIC_MISMATCH),
    "GIF": (padded(b"GIF89a" + bytes(20)), Code.MAGIC_MISMATCH),
    "packed": (padded(b"\x1f\x8b\x08\x00"), Code.MAGIC_MISMATCH),
    "page too large": (lambda body: PAGE.ljust(len(body) + 1), Code.SIZE_MISMATCH),
}


@pytest.mark.case("CDN-08")
async def test_what_is_only_called_an_image_is_known_by_its_first_bytes(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 16), **GIVES_UP) as world:
        faults = {
            name: with_body(change, content_type="image/jpeg")
            for name, (change, _) in DISGUISED.items()
        }
        given = await given_up(world, faults)
        assert given == {name: (code, TRIES) for name, (_, code) in DISGUISED.items()}
        await world.check()


@pytest.mark.case("CDN-09")
async def test_bytes_decide_what_an_image_is_and_it_is_never_renamed(
    open_faults: OpenFaults, three_kinds: Path
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [
            item | ({"file_type": "image/png"} if item["id"] in misnamed else {}) for item in items
        ]

    misnamed: list[str] = []
    hooks = Hooks(listing=listing)
    async with open_faults(small(three_kinds, 12), hooks, **GIVES_UP) as world:
        wrong = [of_kind(world, kind)[0] for kind in ("jpg", "webp")]
        misnamed += [wallpaper.id for wallpaper in wrong]
        right = of_kind(world, "jpg")[1]
        world.images.on(of(right), with_body(bytes, content_type="image/png"), times=None)
        audit = await world.run()
        assert audit.images_uploaded == 10
        assert await codes(world) == dict.fromkeys(misnamed, (Code.TYPE_MISMATCH, 1))
        assert {world.images.count(of(wallpaper)) for wallpaper in wrong} == {1}
        true = {key_of(wallpaper) for wallpaper in in_turn(world) if wallpaper not in wrong}
        assert (await world.objects()).keys() == true
        await world.check()


def pixels(width: int, height: int) -> Callable[[bytes], bytes]:
    """Let the header of a PNG tell of so many pixels."""

    def change(body: bytes) -> bytes:
        header = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + body[24:29]
        return body[:12] + header + zlib.crc32(header).to_bytes(4, "big") + body[33:]

    return change


def flipped_at(place: int) -> Callable[[bytes], bytes]:
    return lambda body: body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]


HOLLOW: dict[str, tuple[str, Callable[[bytes], bytes], Code]] = {
    "zeros": ("png", lambda body: body[:33] + bytes(len(body) - 33), Code.TRUNCATED),
    "noise": ("jpg", lambda body: body[:4] + b"\x55" * (len(body) - 4), Code.TRUNCATED),
    "nothing inside": ("jpg", lambda body: b"\xff\xd8\xff\xd9".ljust(len(body)), Code.TRUNCATED),
    "a riff of zeros": ("webp", lambda body: body[:12] + bytes(len(body) - 12), Code.TRUNCATED),
    "a header with a flaw": ("png", flipped_at(20), Code.TRUNCATED),
    "other pixels": ("png", pixels(47, 48), Code.DIMENSION_MISMATCH),
}


@pytest.mark.case("CDN-10")
async def test_an_image_in_name_only_is_found_out_by_its_structure(
    open_faults: OpenFaults, three_kinds: Path
) -> None:
    async with open_faults(small(three_kinds, 15), **GIVES_UP) as world:
        kinds = {kind: iter(of_kind(world, kind)) for kind in KINDS}
        wallpapers = [next(kinds[kind]) for kind, _, _ in HOLLOW.values()]
        faults = {name: with_body(change) for name, (_, change, _) in HOLLOW.items()}
        given = await given_up(world, faults, wallpapers)
        assert given == {name: (code, TRIES) for name, (_, _, code) in HOLLOW.items()}
        await world.check()


def flipped_inside(body: bytes) -> bytes:
    """Return a PNG that is whole and has a wrong byte among its pixels."""
    return flipped_at(body.index(b"IDAT") + 20)(body)


@pytest.mark.case("CDN-10")
async def test_pixels_are_not_looked_at_and_the_row_tells_the_hash_of_what_came(
    open_faults: OpenFaults, three_kinds: Path
) -> None:
    async with open_faults(small(three_kinds, 6)) as world:
        wallpaper = of_kind(world, "png")[0]
        world.images.on(of(wallpaper), with_body(flipped_inside), times=None)
        assert (await world.run()).images_uploaded == 6
        truth = world.truth()
        truth[key_of(wallpaper)] = sha256_of(flipped_inside(body_of(world, wallpaper)))
        assert await world.objects() == truth
        await world.check(truth=truth)


EMPTY: dict[str, Fault] = {
    "length 0": http.status(200, content_type="image/jpeg"),
    "no length": http.raw(without_length(b"")),
    "no chunk but the last": http.raw(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
}


@pytest.mark.case("CDN-11")
async def test_an_empty_body_is_no_image(
    open_faults: OpenFaults, small_images: Path, way: Way
) -> None:
    hooks = Hooks() if way == "fast lane" else SIZE_UNKNOWN
    async with open_faults(small(small_images, 8), hooks, **GIVES_UP) as world:
        given = await given_up(world, EMPTY)
        assert given == dict.fromkeys(EMPTY, (Code.EMPTY, TRIES))
        await world.check()


OTHER_SIZES: dict[str, Callable[[int], int]] = {
    "one more": lambda size: size + 1,
    "one less": lambda size: size - 1,
    "twice": lambda size: 2 * size,
    "half": lambda size: size // 2,
}


@pytest.mark.case("CDN-12")
async def test_a_body_of_another_size_than_its_row_is_refused_with_both_numbers(
    open_faults: OpenFaults, small_images: Path
) -> None:
    listed: dict[str, int] = {}
    hooks = Hooks(listing=lambda items: [item | sized(item, listed) for item in items])
    async with open_faults(small(small_images, 8), hooks, **GIVES_UP) as world:
        wrong = in_turn(world)[: len(OTHER_SIZES)]
        for wallpaper, change in zip(wrong, OTHER_SIZES.values(), strict=True):
            listed[wallpaper.id] = change(wallpaper.file_size)
        audit = await world.run()
        assert (audit.images_uploaded, audit.download_failures) == (4, 4)
        assert await codes(world) == dict.fromkeys(listed, (Code.SIZE_MISMATCH, TRIES))
        for letter in await world.runtime.catalog.dead_letters.open_letters():
            wallpaper = next(it for it in wrong if it.id == letter.wallhaven_id)
            numbers = re.findall(r"\d+", letter.reason)
            assert numbers == [str(wallpaper.file_size), str(listed[wallpaper.id])]
        assert {world.images.count(of(wallpaper)) for wallpaper in wrong} == {TRIES}
        await world.check()


def sized(item: dict[str, Any], sizes: Mapping[str, int]) -> dict[str, int]:
    return {"file_size": sizes[item["id"]]} if item["id"] in sizes else {}


@pytest.mark.case("CDN-12")
async def test_a_size_that_the_listing_mends_is_believed_and_the_image_stored(
    open_faults: OpenFaults, small_images: Path
) -> None:
    listed: dict[str, int] = {}
    hooks = Hooks(listing=lambda items: [item | sized(item, listed) for item in items])
    async with open_faults(small(small_images, 4), hooks) as world:
        wallpaper = in_turn(world)[0]
        listed[wallpaper.id] = wallpaper.file_size + 7
        assert (await world.run()).status is RunStatus.PARTIAL
        assert await attempts(world) == {TRIES}
        listed.clear()
        await world.run("mended", RunOptions(refresh=True))
        assert await world.objects() == world.truth()
        await world.check()


@pytest.mark.case("CDN-12")
async def test_a_large_body_with_a_byte_too_many_is_never_completed(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1), **GIVES_UP) as world:
        more = wire(lambda it: without_length(it.body + b"x"))
        world.images.on(everything, more, times=None)
        assert (await world.run()).images_uploaded == 0
        assert set((await codes(world)).values()) == {(Code.SIZE_MISMATCH, TRIES)}
        assert await world.objects() == {}
        await world.check()


BOMB = zlib.compress(bytes(50_000_000), 9)
ENCODED: dict[str, Fault] = {
    "gzip": with_body(gzip.compress, content_encoding="gzip"),
    "deflate": with_body(zlib.compress, content_encoding="deflate"),
    "br": with_body(bytes, content_encoding="br"),
    "zstd": with_body(bytes, content_encoding="zstd"),
    "nested": with_body(gzip.compress, content_encoding="gzip, gzip"),
    "lying": with_body(bytes, content_encoding="gzip"),
    "unheard of": with_body(bytes, content_encoding="x-unheard-of"),
    "bomb": with_body(lambda _: BOMB, content_encoding="deflate"),
}


@both_ways
@pytest.mark.case("CDN-13")
async def test_an_encoded_body_is_refused_unread_and_never_expanded(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[int] = []
    feed = Validator.feed
    monkeypatch.setattr(
        Validator, "feed", lambda it, chunk: (fed.append(len(chunk)), feed(it, chunk))
    )
    async with open_faults(small(small_images, 20), **GIVES_UP) as world:
        given = await given_up(world, ENCODED)
        assert given == dict.fromkeys(ENCODED, (Code.SOURCE_ERROR, TRIES))
        assert all("encoded" in reason for reason in await reasons(world))
        asked = {asked.headers["accept-encoding"] for asked in world.images.asked}
        assert asked == {"identity"}
        stored = [it.file_size for it in in_turn(world)[len(ENCODED) :]]
        assert sum(fed) == sum(stored), "no byte of the others was looked at"
        await world.check()


@pytest.mark.case("CDN-13")
async def test_a_body_that_is_said_to_be_plain_is_plain(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        for wallpaper, plain in zip(in_turn(world), ("identity", "Identity", ""), strict=True):
            world.images.on(of(wallpaper), with_body(bytes, content_encoding=plain))
        assert (await world.run()).images_uploaded == 3
        assert {await tries(world, wallpaper) for wallpaper in in_turn(world)} == {1}
        await world.check()


class Endless:
    """A body that does not end before the client leaves; `sent_bytes` of it have left."""

    def __init__(self, head: bytes, piece: bytes) -> None:
        self._head = head
        self._piece = piece
        self.sent_bytes = 0

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.send(self._head)
        while exchange.is_open:
            await exchange.send(self._piece)
            self.sent_bytes += len(self._piece)


CAP_BYTES = 300_000
# What the kernel takes on both sides of a connection before it makes the sender wait.
SOCKET_BYTES = 12_000_000
NOISE = b"\xff\xd8\xff\xe0" + bytes(65_532)
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "announced": (OK + b"Content-Length: 1000000000\r\n\r\n", NOISE),
    "not announced": (OK + b"\r\n", NOISE),
    "in chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n%b\r\n" % NOISE),
    "announced as small": (OK + b"Content-Length: 300001\r\n\r\n", NOISE),
}


@pytest.mark.case("CDN-14")
async def test_a_body_above_the_limit_is_not_read_to_its_end(
    open_faults: OpenFaults, small_images: Path
) -> None:
    endless = {name: Endless(*said) for name, said in ENDLESS.items()}
    limited = {**GIVES_UP, "collector_max_image_bytes": CAP_BYTES}
    async with open_faults(small(small_images, 6), SIZE_UNKNOWN, **limited) as world:
        given = await given_up(world, endless)
        assert given == dict.fromkeys(ENDLESS, (Code.TOO_LARGE, 1))
        for name, body in endless.items():
            assert body.sent_bytes <= CAP_BYTES + SOCKET_BYTES, name
        await world.check()


@pytest.mark.case("CDN-14")
async def test_a_body_above_the_limit_leaves_no_part_of_itself(
    open_faults: OpenFaults, small_images: Path
) -> None:
    head, piece = ENDLESS["in chunks"]
    is_stored = asyncio.Event()

    async def stored(exchange: Exchange) -> None:
        is_stored.set()
        await exchange.relay()

    async def endless(exchange: Exchange) -> None:
        await exchange.send(head + piece * (PART_BYTES // len(NOISE) + 1))
        await is_stored.wait()
        await Endless(b"", piece)(exchange)

    limited = {**GIVES_UP, "collector_max_image_bytes": 2 * PART_BYTES}
    async with open_faults(small(small_images, 3), SIZE_UNKNOWN, **limited) as world:
        world.store.on(of_part(1), stored)
        assert await given_up(world, {"it": endless}) == {"it": (Code.TOO_LARGE, 1)}
        assert world.store.count(of_part(1)) == 1
        assert world.store.count(of_part(2)) == 0
        await world.check()


# --- The host refuses, or asks for patience ------------------------------------------------------


@pytest.mark.case("CDN-15")
async def test_what_is_gone_is_asked_for_once_and_what_is_not_found_a_few_times(
    open_faults: OpenFaults, small_images: Path
) -> None:
    statuses = (404, 410, 451)
    async with open_faults(small(small_images, 8), collector_retry_base_seconds=0) as world:
        wallpapers = in_turn(world)[: len(statuses)]
        for wallpaper, status in zip(wallpapers, statuses, strict=True):
            world.images.on(of(wallpaper), http.status(status), times=None)
        missing, gone, withheld = wallpapers
        lagging = in_turn(world)[len(statuses)]
        world.images.on(of(lagging), http.status(404))
        final = {gone.id: (Code.GONE, 1), withheld.id: (Code.GONE, 1)}

        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 5)
        assert await codes(world) == final
        assert [world.images.count(of(it)) for it in (lagging, *wallpapers)] == [2, 2, 1, 1]

        for number in range(3):
            await world.run(f"again {number}")
        assert await codes(world) == {missing.id: (Code.NOT_FOUND, 5), **final}
        assert [world.images.count(of(it)) for it in wallpapers] == [5, 1, 1]
        await world.check()


@pytest.mark.case("CDN-16")
async def test_an_image_that_is_forbidden_is_given_up_after_its_tries(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 8), **GIVES_UP) as world:
        faults = {
            "403": http.status(403),
            "401": http.status(401),
            "challenge": page(403, server="cloudflare"),
        }
        given = await given_up(world, faults)
        assert given == dict.fromkeys(faults, (Code.FORBIDDEN, TRIES))
        assert world.images.count(of(in_turn(world)[0])) == TRIES
        await world.check()


@pytest.mark.case("CDN-16")
@pytest.mark.parametrize(("wallpapers", "most_asked"), [(3, 7), (24, 36)], ids=["few", "many"])
async def test_a_host_that_forbids_everything_is_an_outage_and_costs_no_attempt(
    open_faults: OpenFaults, small_images: Path, wallpapers: int, most_asked: int
) -> None:
    async with open_faults(small(small_images, wallpapers), **GIVES_UP) as world:
        world.images.on(everything, http.status(403), times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.FAILED, 0)
        assert "the image host fails for most images (forbidden" in (audit.notes or "")
        assert (await codes(world), await attempts(world)) == ({}, {0})
        assert world.images.count(everything) <= most_asked
        await world.converge()
        assert await world.objects() == world.truth()


@pytest.mark.case("CDN-16")
async def test_a_host_that_forbids_what_it_gave_before_is_out_and_one_that_does_not_is_not(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 24), **GIVES_UP) as world:
        given, *others = in_turn(world)
        await world.run("first", RunOptions(limit=1))
        assert [*await world.objects()] == [key_of(given)]

        world.images.on(everything, http.status(403), times=None)
        assert (await world.run("out")).status is RunStatus.FAILED
        assert (await codes(world), await attempts(world)) == ({}, {0})

        world.heal()
        world.images.on(lambda asked: not of(given)(asked), http.status(403), times=None)
        assert (await world.run("well")).download_failures == len(others)
        forbidden = (Code.FORBIDDEN, TRIES)
        assert await codes(world) == {wallpaper.id: forbidden for wallpaper in others}
        await world.check()


def waited(world: FaultyWorld, wallpaper: Wallpaper) -> float:
    """Return the seconds between the first two requests for an image."""
    first, second, *_ = (asked.at for asked in world.images.asked if of(wallpaper)(asked))
    return second - first


def date_in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.case("CDN-17")
async def test_an_image_is_asked_for_again_when_its_host_says(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4)) as world:
        met = in_turn(world)[:2]
        for wallpaper, status in zip(met, (429, 503), strict=True):
            world.images.on(of(wallpaper), http.status(status, retry_after="1"))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 4)
        assert min(waited(world, wallpaper) for wallpaper in met) >= 1.0
        assert {world.images.count(of(wallpaper)) for wallpaper in met} == {2}
        await world.check()


@pytest.mark.case("CDN-17")
async def test_an_image_is_asked_for_again_at_the_date_that_its_host_says(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4)) as world:
        wallpaper = in_turn(world)[0]

        async def busy(exchange: Exchange) -> None:
            await http.status(503, retry_after=date_in(2), date=date_in(0))(exchange)

        world.images.on(of(wallpaper), busy)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 4)
        assert waited(world, wallpaper) >= 0.9
        await world.check()


@pytest.mark.case("CDN-17")
async def test_a_host_that_asks_for_patience_is_left_alone_by_all(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=2) as world:
        busy = http.status(429, retry_after="1")
        world.images.on(everything, busy, skip=2)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 12)
        times = [asked.at for asked in world.images.asked]
        said_at = times[2]
        # One may have been on its way when the host said so.
        early = [at - said_at for at in times[4:] if at < said_at + 1.0]
        assert early == [], "asked in the second that the host did not want to be asked"
        await world.check()


NO_PATIENCE = ("-5", "nan", "soon", "1e9", "1, 2", "0", "\u0662")


@pytest.mark.case("CDN-17")
async def test_nonsense_for_a_time_is_no_time(open_faults: OpenFaults, small_images: Path) -> None:
    async with open_faults(small(small_images, 20)) as world:
        met = in_turn(world)[: len(NO_PATIENCE)]
        for wallpaper, text in zip(met, NO_PATIENCE, strict=True):
            raw = text.encode().decode("latin-1")
            world.images.on(of(wallpaper), http.status(503, retry_after=raw))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 20)
        assert max(waited(world, wallpaper) for wallpaper in met) < 2.0
        await world.check()


@pytest.mark.case("CDN-17")
async def test_a_time_too_far_off_is_left_to_a_later_run_and_is_an_hour_at_most(
    open_faults: OpenFaults, small_images: Path
) -> None:
    far = ("31", "1000000000", "9" * 5000)
    async with open_faults(small(small_images, 6)) as world:
        met = in_turn(world)[: len(far)]
        for wallpaper, text in zip(met, far, strict=True):
            world.images.on(of(wallpaper), http.status(503, retry_after=text))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 3)
        assert {world.images.count(of(wallpaper)) for wallpaper in met} == {1}
        latest = "SELECT max(next_attempt_at) - now() FROM draenei_content.transfers"
        assert timedelta(minutes=59) < await world.value(latest) <= timedelta(hours=1)
        await world.check(converged=False)
        await world.rows("UPDATE draenei_content.transfers SET next_attempt_at = now()")
        await world.converge()


STATUSES: dict[str, Fault] = {
    **{str(number): http.status(number) for number in (204, 205, 400, 402, 418, 500, 502, 522)},
    **{
        f"{number} with the image": wire(
            lambda it, number=number: replace(it, status=number).framed(), then="keep"
        )
        for number in (201, 202, 203, 206)
    },
    "206 with a part": wire(
        lambda it: replace(it, status=206, body=half(it.body)).framed(
            content_range=f"bytes 0-{len(it.body) // 2 - 1}/{len(it.body)}"
        ),
        then="keep",
    ),
}


@both_ways
@pytest.mark.case("CDN-18")
async def test_only_200_brings_an_image(open_faults: OpenFaults, small_images: Path) -> None:
    async with open_faults(small(small_images, 24), **GIVES_UP) as world:
        given = await given_up(world, STATUSES, in_turn(world)[::-1])
        assert given == dict.fromkeys(STATUSES, (Code.SOURCE_ERROR, TRIES))
        assert set(await reasons(world)) == {f"HTTP {name[:3]}" for name in STATUSES}
        await world.check()


@pytest.mark.case("CDN-18")
async def test_an_answer_to_a_condition_that_was_not_set_is_the_hosts_trouble(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4), **GIVES_UP) as world:
        given = await given_up(world, {"304": http.status(304)})
        assert given == {"304": (Code.SOURCE_ERROR, TRIES)}
        await world.check()


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


@pytest.mark.case("CDN-18")
async def test_answers_that_only_announce_one_are_passed_over(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4), **GIVES_UP) as world:
        flood = wire(lambda answer: EARLY * 500 + answer.framed(), then="keep")
        world.images.on(everything, flood, times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 4)
        assert {await tries(world, wallpaper) for wallpaper in in_turn(world)} == {1}
        await world.check()


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "DEADLINE_BASE_SECONDS", 0.3)


@pytest.mark.usefixtures("short_deadline")
@pytest.mark.case("CDN-18")
async def test_announcements_without_end_are_not_listened_to_for_ever(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4), **GIVES_UP) as world:
        flood = dripping(lambda _: (b"", EARLY * 10_000), step=50 * len(EARLY))
        assert await given_up(world, {"it": flood}) == {"it": (Code.SOURCE_ERROR, TRIES)}
        assert (await reasons(world))[0].startswith("not done in")
        await world.check()


# --- The host is slow, or silent -----------------------------------------------------------------


def dripping(change: Callable[[Answer], tuple[bytes, bytes]], step: int = 1) -> Fault:
    """Send the first of two texts at once, and the second one slowly, `step` bytes at a time."""

    async def fault(exchange: Exchange) -> None:
        at_once, slowly = change(await exchange.forward())
        await exchange.send(at_once)
        for start in range(0, len(slowly), step):
            await exchange.send(slowly[start : start + step])
            await asyncio.sleep(0.02)

    return fault


def body_apart(answer: Answer) -> tuple[bytes, bytes]:
    whole = answer.framed()
    return whole[: -len(answer.body)], answer.body


@both_ways
@pytest.mark.case("CDN-20")
async def test_a_body_that_drips_is_not_waited_for(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "THROUGHPUT_WINDOW_SECONDS", 0.2)
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


# --- The answer breaks the rules of HTTP ---------------------------------------------------------


def headed(*lines: bytes, end: bytes = b"\r\n") -> Fault:
    """Send the image below these lines."""
    head = end.join([*lines, b"", b""])
    return wire(lambda answer: head.replace(b"N", b"%d" % len(answer.body)) + answer.body)


STATUS, LENGTH = OK[:-2], b"Content-Length: N"
UNREADABLE: dict[str, Fault] = {
    "two lengths": headed(STATUS, LENGTH, b"Content-Length: 5"),
    "two equal lengths": headed(STATUS, LENGTH, LENGTH),
    "lengths in a list": headed(STATUS, b"Content-Length: N, N"),
    "length and chunks": headed(STATUS, LENGTH, b"Transfer-Encoding: chunked"),
    "chunks in chunks": headed(STATUS, b"Transfer-Encoding: chunked, chunked"),
    "negative length": headed(STATUS, b"Content-Length: -1"),
    "signed length": headed(STATUS, b"Content-Length: +N"),
    "length in words": headed(STATUS, b"Content-Length: some"),
    "length of 5000 digits": headed(STATUS, b"Content-Length: " + b"9" * 5000),
    "a bare return": headed(STATUS, b"X: a\rb", LENGTH),
    "a nul": headed(STATUS, b"X: a\0b", LENGTH),
    "no colon": headed(STATUS, b"nothing", LENGTH),
    "a field of a megabyte": headed(STATUS, b"X: " + b"x" * 1_000_000, LENGTH),
    "fields of a megabyte": headed(STATUS, *[b"X: x"] * 150_000, LENGTH),
    "no status": headed(b"HTTP/1.1", LENGTH),
    "status of two digits": headed(b"HTTP/1.1 20 OK", LENGTH),
    "status in words": headed(b"HTTP/1.1 yes OK", LENGTH),
    "another version": headed(b"HTTP/9.9 200 OK", LENGTH),
    "another protocol": headed(b"SSH-2.0-OpenSSH_9.9", b""),
}
# Against the rules, and plain all the same; the body is judged as any other.
READ_AS_MEANT: dict[str, Fault] = {
    "bare line feeds": headed(STATUS, LENGTH, end=b"\n"),
    "a space before the colon": headed(STATUS, b"Content-Length : N"),
    "a folded field": headed(STATUS, b"X: a", b" b", LENGTH),
    "empty lines first": headed(b"", b"", STATUS, LENGTH),
}


@pytest.mark.case("CDN-22")
async def test_a_head_that_is_none_is_the_hosts_trouble(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 36), **GIVES_UP) as world:
        first, *others = in_turn(world)[::-1]
        meant = others[len(UNREADABLE) :]
        for wallpaper, fault in zip(meant, READ_AS_MEANT.values(), strict=False):
            world.images.on(of(wallpaper), fault, times=None)
        given = await given_up(world, UNREADABLE, others)
        assert given == dict.fromkeys(UNREADABLE, (Code.SOURCE_ERROR, TRIES))
        assert set(await reasons(world)) == {"ClientResponseError"}
        # The lane waits for the end of a head with bare line feeds, until it knows the host as odd.
        bare, *plain = meant
        assert await tries(world, bare) <= 2
        assert {await tries(world, it) for it in (first, *plain)} == {1}
        await world.check()


# --- Bytes of more than one version --------------------------------------------------------------


@pytest.mark.case("CDN-23")
async def test_versions_are_never_mixed_and_the_one_that_came_whole_is_stored(
    open_faults: OpenFaults, three_kinds: Path
) -> None:
    async with open_faults(small(three_kinds, 6), **ONE_BY_ONE) as world:
        first_other, then_other = of_kind(world, "png")[:2]
        other = wire(lambda it: replace(it, body=flipped_inside(it.body)).framed(), then="keep")
        cut_other = wire(lambda it: replace(it, body=flipped_inside(it.body)).framed()[:-9])
        world.images.on(of(first_other), cut_other)
        world.images.on(of(then_other), http.cut(9, from_end=True))
        world.images.on(of(then_other), other)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 6)
        truth = world.truth()
        truth[key_of(then_other)] = sha256_of(flipped_inside(body_of(world, then_other)))
        assert await world.objects() == truth
        await world.check(truth=truth)


@pytest.mark.case("CDN-23")
async def test_parts_of_a_large_image_are_all_of_one_try(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        other = wire(
            lambda it: replace(it, body=flipped_inside(it.body)).framed()[:-9], then="reset"
        )
        world.images.on(everything, other)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 1)
        uploads = {asked.query.partition("uploadId=")[2] for asked in world.store.asked}
        assert len(uploads - {""}) >= 2
        assert await world.objects() == world.truth()
        await world.check()


@pytest.mark.case("CDN-26")
async def test_the_wrong_image_is_found_out_by_all_that_its_row_tells(
    open_faults: OpenFaults, three_kinds: Path
) -> None:
    async with open_faults(small(three_kinds, 9), **GIVES_UP) as world:
        (jpeg, twin, *_), (png, *_) = of_kind(world, "jpg"), of_kind(world, "png")
        assert jpeg.file_size == twin.file_size
        another = body_of(world, twin)
        world.images.on(of(jpeg), with_body(lambda _: another), times=None)
        world.images.on(of(png), with_body(lambda _: another[: png.file_size]), times=None)
        audit = await world.run()
        assert audit.images_uploaded == 8
        assert await codes(world) == {png.id: (Code.TYPE_MISMATCH, 1)}
        # No source tells a hash: the row says at least truly what is stored.
        truth = world.truth() | {key_of(jpeg): sha256_of(another)}
        await world.check(truth=truth)


# --- Images that are a trap ----------------------------------------------------------------------


HUGE = 100_000


@pytest.mark.case("CDN-27")
async def test_images_of_many_frames_are_stored_as_they_are(
    open_faults: OpenFaults, tmp_path: Path
) -> None:
    frames = [Image.effect_noise((48, 48), 60).convert("RGB") for _ in range(5)]
    for name in ("a.png", "b.webp", "c.mpo"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    async with open_faults(small(tmp_path, 3)) as world:
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 3)
        assert {wallpaper.extension for wallpaper in in_turn(world)} == set(KINDS)
        await world.check()


@pytest.mark.case("CDN-27")
async def test_an_image_of_ten_thousand_million_pixels_is_never_unfolded(
    open_faults: OpenFaults, three_kinds: Path
) -> None:
    listed: list[str] = []
    huge = {"dimension_x": HUGE, "dimension_y": HUGE, "resolution": f"{HUGE}x{HUGE}"}
    hooks = Hooks(listing=lambda items: [it | (huge if it["id"] in listed else {}) for it in items])
    async with open_faults(small(three_kinds, 6), hooks, **GIVES_UP) as world:
        unlisted, as_listed = of_kind(world, "png")[:2]
        listed.append(as_listed.id)
        unfold = with_body(pixels(HUGE, HUGE))
        for wallpaper in (unlisted, as_listed):
            world.images.on(of(wallpaper), unfold, times=None)
        audit = await world.run()
        assert audit.images_uploaded == 5
        assert await codes(world) == {unlisted.id: (Code.DIMENSION_MISMATCH, TRIES)}
        sha256 = sha256_of(pixels(HUGE, HUGE)(body_of(world, as_listed)))
        await world.check(truth=world.truth() | {key_of(as_listed): sha256})


def segments(count: int, size_bytes: int) -> bytes:
    """Return APP1 segments, which hold EXIF, of so many bytes each."""
    return (b"\xff\xe1" + (size_bytes + 2).to_bytes(2, "big") + bytes(size_bytes)) * count


SCRIPT = b"<script>alert(1)</script>"
ADDED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "4 MB of EXIF": ("jpg", lambda it: it[:2] + segments(64, 65_000) + it[2:]),
    "a page in a comment": ("jpg", lambda it: it[:2] + b"\xff\xfe\0\x1b" + SCRIPT + it[2:]),
    "a page behind the end": ("png", lambda it: it + PAGE),
    "an archive behind the end": ("jpg", lambda it: it + b"PK\x03\x04" + bytes(100)),
}


@pytest.mark.case("CDN-27")
async def test_what_else_an_image_may_be_it_is_served_as_an_image(
    open_faults: OpenFaults, three_kinds: Path
) -> None:
    async with open_faults(small(three_kinds, 12), SIZE_UNKNOWN) as world:
        truth, kinds = world.truth(), {kind: iter(of_kind(world, kind)) for kind in KINDS}
        for kind, change in ADDED.values():
            wallpaper = next(kinds[kind])
            world.images.on(of(wallpaper), with_body(change, content_type="image/svg+xml"))
            truth[key_of(wallpaper)] = sha256_of(change(body_of(world, wallpaper)))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 12)
        for asked in world.store.asked:
            if asked.method == "PUT" and "/wallpapers/" in asked.path:
                kind = asked.path.rpartition(".")[2].replace("jpg", "jpeg")
                assert asked.headers["content-type"] == f"image/{kind}"
        await world.check(truth=truth)


@pytest.mark.case("CDN-27")
async def test_a_million_empty_segments_hold_nobody_up(
    open_faults: OpenFaults, three_kinds: Path
) -> None:
    def bomb(body: bytes) -> bytes:
        return body[:2] + segments(1_000_000, 0) + body[2:]

    async with open_faults(small(three_kinds, 6), SIZE_UNKNOWN, **GIVES_UP) as world:
        wallpaper = of_kind(world, "jpg")[0]
        world.images.on(of(wallpaper), with_body(bomb), times=None)
        began = time.process_time()
        audit = await world.run()
        assert time.process_time() - began < 1.5
        assert audit.images_uploaded >= 5
        either = {sha256_of(bomb(body_of(world, wallpaper)))}
        await world.check(truth={**world.truth(), key_of(wallpaper): either})


# --- TLS -----------------------------------------------------------------------------------------


AUTHORITY = """\
[ca]
default_ca = here
[here]
dir = .
database = ./index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = {name}
[req]
distinguished_name = nobody
[nobody]
"""
HERE = "IP:127.0.0.1"
# Name, and first and last second of its life, of each certificate; each signs itself.
CERTIFICATES = {
    "good": (HERE, "20200101000000Z", "20490101000000Z"),
    "expired": (HERE, "20200101000000Z", "20200102000000Z"),
    "not valid yet": (HERE, "20480101000000Z", "20490101000000Z"),
    "another's": ("DNS:w.example.org", "20200101000000Z", "20490101000000Z"),
}


def certificate(folder: Path, name: str, begins: str, ends: str) -> Path:
    """Make a key and a certificate in one folder."""
    folder.mkdir()
    (folder / "ca.cnf").write_text(AUTHORITY.format(name=name))
    (folder / "index.txt").touch()
    request = "req -config ca.cnf -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    sign = "ca -config ca.cnf -selfsign -batch -notext -keyfile key.pem -in request.pem"
    for words in (
        f"{request} -subj /CN=test -keyout key.pem -out request.pem",
        f"{sign} -out cert.pem -startdate {begins} -enddate {ends}",
    ):
        command = ["openssl", *words.split()]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tls")
    return {
        name: certificate(folder / f"{number}", *said)
        for number, (name, said) in enumerate(CERTIFICATES.items())
    }


def server_side(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def of_1999(folder: Path) -> ssl.SSLContext:
    """Return a server that speaks TLS 1.0 and nothing newer."""
    context = server_side(folder)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1
    return context


def believe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this certificate be trusted here as an authority's is, on both ways."""
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))
    monkeypatch.setattr(connector, "_SSL_CONTEXT_VERIFIED", ssl.create_default_context())


@asynccontextmanager
async def secure_host(
    context: ssl.SSLContext | None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve a small body on a port that counts as 443; yield its address and what was asked."""
    asked: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError):
            heard = await reader.read(1000)
            if heard.startswith(b"GET "):
                asked.append(heard)
            writer.write(OK + b"Content-Length: 5\r\n\r\nwhole")
            await writer.drain()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setattr(addresses, "_HTTPS_PORT", port)
        yield f"https://127.0.0.1:{port}", asked
        for writer in writers:
            writer.transport.abort()


async def fetched(url: str, way: Way) -> bytes:
    """Fetch an image as a run does."""
    opened = open_http(
        image_hosts=frozenset({"127.0.0.1"}),
        user_agent="test",
        connections=1,
        fast_lane=way == "fast lane",
    )
    async with opened as client, client.open(url) as body:
        return b"".join([bytes(chunk) async for chunk in body.chunks()])


@pytest.mark.case("CDN-24")
@pytest.mark.parametrize("name", CERTIFICATES)
async def test_a_certificate_must_be_this_hosts_and_of_today(
    certificates: dict[str, Path], name: str, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = certificates[name]
    believe(folder, monkeypatch)
    async with secure_host(server_side(folder), monkeypatch) as (url, asked):
        if name == "good":
            assert await fetched(f"{url}/x.jpg", way) == b"whole"
            return
        with pytest.raises(ItemError) as caught:
            await fetched(f"{url}/x.jpg", way)
        assert (caught.value.code, caught.value.fault) == (Code.SOURCE_ERROR, Blame.SYSTEMIC)
        assert asked == [], "not a word is said to who cannot be trusted"


@pytest.mark.case("CDN-24")
@pytest.mark.parametrize("how", ["TLS 1.0", "no TLS"])
async def test_who_does_not_speak_tls_of_today_is_not_talked_to(
    certificates: dict[str, Path], how: str, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = certificates["good"]
    believe(folder, monkeypatch)
    context = of_1999(folder) if how == "TLS 1.0" else None
    async with secure_host(context, monkeypatch) as (url, asked):
        with pytest.raises(ItemError) as caught:
            await fetched(f"{url}/x.jpg", way)
        assert (caught.value.code, caught.value.fault) == (Code.SOURCE_ERROR, Blame.SYSTEMIC)
        assert asked == []


@pytest.mark.case("CDN-24")
async def test_a_host_that_signs_its_own_certificate_is_an_outage_and_costs_no_attempt(
    open_faults: OpenFaults,
    small_images: Path,
    certificates: dict[str, Path],
    way: Way,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = server_side(certificates["good"])
    async with secure_host(context, monkeypatch) as (url, asked):
        hooks = Hooks(listing=lambda items: [it | {"path": f"{url}/x.jpg"} for it in items])
        changes = {**GIVES_UP, "wallhaven_image_hosts": "127.0.0.1"}
        async with open_faults(small(small_images, 2), hooks, **changes) as world:
            audit = await world.run()
            assert (audit.status, asked) == (RunStatus.FAILED, [])
            assert (await codes(world), await attempts(world)) == ({}, {0})
            await world.check(converged=False)


# --- Redirects -----------------------------------------------------------------------------------


class Hosts:
    """Two hosts that are listed, and one that is not; what is asked for there says how it goes on.

    At `/to/N/…` a host sends on to the other one N times more; at `/image/ID` it has the image.
    """

    def __init__(self, one: HttpPeer, two: HttpPeer, stranger: HttpPeer) -> None:
        self.one, self.two, self.stranger = one, two, stranger

    @property
    def listed(self) -> str:
        return f"{self.one.host},{self.two.host}"

    def serve(self, world: FaultyWorld) -> None:
        """Let the listed hosts answer, and have the images of this world."""

        async def image(exchange: Exchange) -> None:
            wallpaper = world.simulator.catalogue.find(exchange.asked.path.rpartition("/")[2])
            assert wallpaper is not None
            await exchange.answer(said(200, body_of(world, wallpaper)))

        async def onward(exchange: Exchange) -> None:
            _, _, number, rest = exchange.asked.path.split("/", 3)
            path = f"/to/{int(number) - 1}/{rest}" if int(number) else f"/image/{rest}"
            await exchange.answer(said(301, location=f"{self._other(exchange)}{path}"))

        for peer in (self.one, self.two, self.stranger):
            peer.on(lambda asked: asked.path.startswith("/to/"), onward, times=None)
            peer.on(lambda asked: asked.path.startswith("/image/"), image, times=None)

    def _other(self, exchange: Exchange) -> str:
        return (self.two if exchange.asked.headers["host"] == self.one.host else self.one).url


@pytest.fixture
async def three_hosts() -> AsyncIterator[Hosts]:
    async with open_peer() as one, open_peer() as two, open_peer() as stranger:
        yield Hosts(one, two, stranger)


def sent_to(three: Hosts, status: int, location: str | None) -> Fault:
    """Send on to an address in which ONE, TWO and STRANGER are hosts, and ID is the image."""

    async def fault(exchange: Exchange) -> None:
        target = (location or "").replace("ID", exchange.asked.path.rpartition("/")[2])
        for name in ("one", "two", "stranger"):
            target = target.replace(name.upper(), getattr(three, name).host)
        headers = {} if location is None else {"location": target}
        await exchange.answer(said(status, **headers))

    return fault


@asynccontextmanager
async def redirecting(
    open_faults: OpenFaults, images: Path, three: Hosts, sent: Mapping[str, tuple[int, str | None]]
) -> AsyncIterator[tuple[FaultyWorld, dict[str, str]]]:
    """Open a world whose images are each sent somewhere; yield it, and the id of each."""

    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | {"path": f"{three.one.url}/first/{item['id']}"} for item in items]

    changes = {
        **GIVES_UP,
        "wallhaven_image_hosts": three.listed,
        "wallhaven_api_key": "canary",
    }
    options = small(images, len(sent), api_keys=frozenset({"canary"}))
    async with open_faults(options, Hooks(listing=listing), **changes) as world:
        three.serve(world)
        ids = {name: wallpaper.id for name, wallpaper in zip(sent, in_turn(world), strict=True)}
        for name, (status, location) in sent.items():
            path = f"/first/{ids[name]}"
            fault = sent_to(three, status, location)
            three.one.on(lambda asked, path=path: asked.path == path, fault, times=None)
        yield world, ids


FOLLOWED: dict[str, tuple[int, str | None]] = {
    **{str(status): (status, "http://TWO/image/ID") for status in (301, 302, 303, 307, 308)},
    "same host": (302, "http://ONE/image/ID"),
    "path": (302, "/image/ID"),
    "relative": (302, "../image/ID"),
    "no scheme": (302, "//TWO/image/ID"),
    "fragment": (302, "http://TWO/image/ID#there"),
    "three hops": (302, "http://TWO/to/1/ID"),
}


@both_ways
@pytest.mark.case("CDN-19")
async def test_an_image_that_has_moved_to_a_listed_host_is_fetched_there(
    open_faults: OpenFaults, small_images: Path, three_hosts: Hosts
) -> None:
    async with redirecting(open_faults, small_images, three_hosts, FOLLOWED) as (world, _):
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, len(FOLLOWED))
        assert {await tries(world, wallpaper) for wallpaper in in_turn(world)} == {1}
        for asked in (*three_hosts.one.asked, *three_hosts.two.asked):
            assert "canary" not in str(asked.headers), "the API's key is for the API"
            assert not {"referer", "authorization", "cookie"} & asked.headers.keys()
        await world.check(secrets=["canary"])


REFUSED: dict[str, tuple[int, str | None]] = {
    "a stranger": (302, "http://STRANGER/image/ID"),
    "a stranger without scheme": (302, "//STRANGER/image/ID"),
    "a stranger behind a user": (302, "http://ONE@STRANGER/image/ID"),
    "a listed host with a user": (302, "http://me:secret@TWO/image/ID"),
    "another scheme": (302, "https://TWO/image/ID"),
    "metadata of a cloud": (302, "http://169.254.169.254/latest/meta-data/"),
    "a private network": (302, "http://10.0.0.1/image/ID"),
    "loopback": (302, "http://127.0.0.1/image/ID"),
    "loopback as a number": (302, "http://2130706433/image/ID"),
    "loopback of IPv6": (302, "http://[::1]/image/ID"),
    "loopback mapped": (302, "http://[::ffff:127.0.0.1]/image/ID"),
    "a script": (302, "javascript:alert(1)"),
    "a file": (302, "file:///etc/passwd"),
    "data": (302, "data:image/png;base64,iVBORw0KGgo="),
    "an address without end": (302, "http://[::1/image/ID"),
    "no address": (302, None),
    "itself": (302, "/first/ID"),
    "nothing": (302, ""),
    "four hops": (302, "http://TWO/to/2/ID"),
    "eleven hops": (302, "http://TWO/to/9/ID"),
    "a choice": (300, "http://TWO/image/ID"),
    "a proxy": (305, "http://TWO/image/ID"),
}


@pytest.mark.case("CDN-19")
async def test_a_host_that_sends_all_images_elsewhere_is_an_outage_and_blames_none(
    open_faults: OpenFaults, small_images: Path, three_hosts: Hosts
) -> None:
    portal = {str(number): (302, "http://STRANGER/image/ID") for number in range(25)}
    async with redirecting(open_faults, small_images, three_hosts, portal) as (world, _):
        audit = await world.run()
        assert audit.status is RunStatus.FAILED
        assert await codes(world) == {}
        await world.check(converged=False, secrets=["canary"])


@both_ways
@pytest.mark.case("CDN-19")
@pytest.mark.usefixtures("no_outages")
async def test_a_redirect_to_anywhere_else_is_refused_at_once(
    open_faults: OpenFaults, small_images: Path, three_hosts: Hosts
) -> None:
    async with redirecting(open_faults, small_images, three_hosts, REFUSED) as (world, ids):
        audit = await world.run()
        assert (audit.images_uploaded, audit.download_failures) == (0, len(REFUSED))
        refused = (Code.REDIRECT_REFUSED, 1)
        assert await codes(world) == dict.fromkeys(ids.values(), refused)
        assert three_hosts.stranger.asked == []
        eleven = [it for it in three_hosts.two.asked if it.path.endswith(ids["eleven hops"])]
        assert len(eleven) == 2, "four requests in all, at one host and the other in turn"
        itself = [it for it in three_hosts.one.asked if it.path.endswith(ids["itself"])]
        assert len(itself) == 4
        await world.check(secrets=["canary"])


@pytest.mark.case("CDN-19")
@pytest.mark.usefixtures("no_outages")
async def test_slashes_that_browsers_take_for_a_host_stay_at_the_host_that_sent_them(
    open_faults: OpenFaults, small_images: Path, three_hosts: Hosts
) -> None:
    slashes = ("/\\STRANGER/image/ID", "\\\\STRANGER/image/ID", "/%5CSTRANGER/image/ID")
    sent: dict[str, tuple[int, str | None]] = {it: (302, it) for it in slashes}
    async with redirecting(open_faults, small_images, three_hosts, sent) as (world, ids):
        for listed in (three_hosts.one, three_hosts.two):
            listed.on(everything, http.status(404), times=None)
        await world.run()
        assert await codes(world) == dict.fromkeys(ids.values(), (Code.NOT_FOUND, TRIES))
        assert three_hosts.stranger.asked == []
        await world.check()
