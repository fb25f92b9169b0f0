"""Bodies that are not the image, are of more than one version, or are a trap."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import re
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faulty_world import OpenFaults
from image_faults import (
    GIVES_UP,
    KINDS,
    OK,
    ONE_BY_ONE,
    PAGE,
    SIZE_UNKNOWN,
    TRIES,
    Way,
    attempts,
    body_of,
    both_ways,
    codes,
    everything,
    given_up,
    in_turn,
    key_of,
    of,
    of_kind,
    of_part,
    page,
    reasons,
    tries,
    wire,
    with_body,
    without_length,
)
from peers import http
from peers.exchange import Exchange
from peers.http import Fault
from PIL import Image
from world import small

from collector.core.errors import Code
from collector.core.image_validation import Validator
from collector.core.parts import PART_BYTES
from collector.core.runs import RunStatus
from collector.runtime.opening import RunOptions
from collector.simulator import Hooks


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


# --- The body is no such image -------------------------------------------------------------------


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
    hooks = Hooks() if way == "fast client" else SIZE_UNKNOWN
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
        # None if the body came to its limit before the first part was on its way.
        assert world.store.count(of_part(1)) <= 1
        assert world.store.count(of_part(2)) == 0
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
