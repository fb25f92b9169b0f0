"""Bad input: counted, kept with its reason, and the others go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from world import OpenWorld, small

from collector.core.errors import Code
from collector.core.runs import RunStatus
from collector.simulator import Hooks, Wallpaper

BAD_ITEMS: list[tuple[Any, Code]] = [
    ({"path": "https://w.wallhaven.cc/full/aa/wallhaven-aaaaaa.jpg"}, Code.INVALID_METADATA),
    ({"id": "aaaab1"}, Code.INVALID_METADATA),
    ({"id": "aaaab2", "path": None}, Code.INVALID_METADATA),
    ({"id": "../etc", "path": "https://w.wallhaven.cc/x.jpg"}, Code.BAD_ID),
    ({"id": "aaaab3\n", "path": "https://w.wallhaven.cc/x.jpg"}, Code.BAD_ID),
    (
        {"id": "aaaab4", "path": "https://w.wallhaven.cc/x.jpg", "source": "a\x00b"},
        Code.INVALID_METADATA,
    ),
    (
        {"id": "aaaab5", "path": "https://w.wallhaven.cc/x.jpg", "source": "\ud800"},
        Code.INVALID_METADATA,
    ),
    (
        {"id": "aaaab6", "path": "https://w.wallhaven.cc/x.jpg", "file_size": True},
        Code.INVALID_METADATA,
    ),
    (
        {"id": "aaaab7", "path": "https://w.wallhaven.cc/x.jpg", "file_size": 2**63},
        Code.INVALID_METADATA,
    ),
    (
        {"id": "aaaab8", "path": "https://w.wallhaven.cc/x.jpg", "dimension_x": "1920"},
        Code.INVALID_METADATA,
    ),
    (None, Code.INVALID_METADATA),
    ("text", Code.INVALID_METADATA),
    ([1, 2], Code.INVALID_METADATA),
]


async def test_bad_items_are_kept_with_their_reason_and_the_others_load(
    open_world: OpenWorld, small_images: Path
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [*(item for item, _ in BAD_ITEMS), *items]

    hooks = Hooks(listing=listing)
    async with open_world(small(small_images, 20), hooks, collector_max_dead_percent=100) as world:
        audit = await world.run()

        assert await world.objects() == world.truth()
        assert (audit.metadata_inserted, audit.metadata_invalid) == (20, len(BAD_ITEMS))
        assert audit.status is RunStatus.PARTIAL
        letters = await world.rows("SELECT * FROM draenei_content.dead_letters ORDER BY id")
        assert sorted(letter["code"] for letter in letters) == sorted(c for _, c in BAD_ITEMS)
        for letter in letters:
            assert letter["stage"] == "load"
            assert letter["resolved_at"] is None
            assert letter["reason"]
            assert letter["raw"].isascii()

        again = await world.run("again")
        assert again.metadata_invalid == len(BAD_ITEMS)
        open_letters = await world.value("SELECT count(*) FROM draenei_content.dead_letters")
        assert open_letters == len(BAD_ITEMS), "one open row for each item, however often"


async def test_a_mended_item_resolves_its_dead_letter(
    open_world: OpenWorld, small_images: Path
) -> None:
    broken = {"yes": True}

    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [items[0] | ({"file_size": "1"} if broken["yes"] else {}), *items[1:]]

    async with open_world(small(small_images, 5), Hooks(listing=listing)) as world:
        await world.run("broken")
        broken["yes"] = False
        audit = await world.run("mended")

        assert audit.metadata_inserted == 1
        unresolved = "SELECT count(*) FROM draenei_content.dead_letters WHERE resolved_at IS NULL"
        assert await world.value(unresolved) == 0
        assert await world.objects() == world.truth()


async def test_duplicates_within_a_page_count_once(
    open_world: OpenWorld, small_images: Path
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        older = items[0] | {"source": "older"}
        return [older, *items[1:], items[0] | {"source": "newer"}, items[1]]

    async with open_world(small(small_images, 10), Hooks(listing=listing)) as world:
        audit = await world.run()

        assert audit.metadata_inserted == 10
        assert audit.report["duplicates"] == 2
        first = world.simulator.catalogue[0].id
        source = "SELECT source FROM draenei_content.wallpapers WHERE wallhaven_id = $1"
        assert await world.value(source, first) == "newer", "the last one of a page wins"


async def test_unknown_fields_are_kept(open_world: OpenWorld, small_images: Path) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | {"mood": ["a\x00b", "\ud800", {"deep": 1.5}]} for item in items]

    async with open_world(small(small_images, 3), Hooks(listing=listing)) as world:
        audit = await world.run()
        assert audit.metadata_inserted == 3
        raw = "SELECT raw -> 'mood' ->> 0 FROM draenei_content.wallpapers LIMIT 1"
        assert await world.value(raw) == "a\ufffdb"


async def _html(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
    return web.Response(text="<html>busy</html>", content_type="text/html")


async def _disguised_html(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
    body = b"<html>".ljust(wallpaper.file_size)
    return web.Response(body=body, content_type=wallpaper.file_type)


async def _empty(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
    return web.Response(body=b"", content_type=wallpaper.file_type)


async def _garbage(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
    return web.Response(body=b"\x01" * wallpaper.file_size, content_type=wallpaper.file_type)


async def _gone(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
    return web.Response(status=410)


async def _redirect(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "http://169.254.169.254/"})


async def _encoded(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
    return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})


BAD_IMAGES = {
    "html": (_html, Code.HTML_RESPONSE),
    "html called an image": (_disguised_html, Code.HTML_RESPONSE),
    "empty": (_empty, Code.EMPTY),
    "garbage": (_garbage, Code.MAGIC_MISMATCH),
    "gone": (_gone, Code.GONE),
    "redirect": (_redirect, Code.REDIRECT_REFUSED),
    "encoded": (_encoded, Code.SOURCE_ERROR),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
async def test_a_bad_image_is_never_stored_and_becomes_a_dead_letter(
    open_world: OpenWorld, small_images: Path, kind: str
) -> None:
    answer, code = BAD_IMAGES[kind]
    bad: list[str] = []

    async def image(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse | None:
        return await answer(request, wallpaper) if wallpaper.id in bad else None

    options = small(small_images, 12)
    async with open_world(options, Hooks(image=image), collector_max_attempts=2) as world:
        bad.append(world.simulator.catalogue[3].id)
        audit = await world.run()

        stored = await world.objects()
        assert stored == {k: v for k, v in world.truth().items() if bad[0] not in k}
        assert (audit.images_uploaded, audit.download_failures) == (11, 1)
        assert audit.status is RunStatus.PARTIAL
        (letter,) = await world.rows("SELECT * FROM draenei_content.dead_letters")
        assert (letter["wallhaven_id"], letter["code"], letter["stage"]) == (
            bad[0],
            code,
            "transfer",
        )


async def test_an_image_of_another_type_or_size_than_its_row_is_never_stored(
    open_world: OpenWorld, small_images: Path
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        jpegs = [item for item in items if item["file_type"] == "image/jpeg"]
        wrong_type = jpegs[0] | {"file_type": "image/png"}
        wrong_size = jpegs[1] | {"file_size": jpegs[1]["file_size"] + 1}
        wrong_pixels = jpegs[2] | {"dimension_x": jpegs[2]["dimension_x"] + 1}
        return [wrong_type, wrong_size, wrong_pixels, *jpegs[3:]]

    hooks = Hooks(listing=listing)
    async with open_world(small(small_images, 20), hooks, collector_max_attempts=1) as world:
        audit = await world.run()

        assert audit.images_uploaded == len(await world.objects()) == 7
        codes = await world.rows("SELECT code FROM draenei_content.dead_letters ORDER BY code")
        assert [row["code"] for row in codes] == [
            Code.DIMENSION_MISMATCH,
            Code.SIZE_MISMATCH,
            Code.TYPE_MISMATCH,
        ]


async def test_a_host_that_is_not_listed_is_never_asked(
    open_world: OpenWorld, small_images: Path
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | {"path": "http://169.254.169.254/latest/x.jpg"} for item in items]

    async with open_world(small(small_images, 3), Hooks(listing=listing)) as world:
        audit = await world.run()
        assert audit.images_uploaded == 0
        codes = await world.rows("SELECT DISTINCT code FROM draenei_content.dead_letters")
        assert [row["code"] for row in codes] == [Code.HOST_REFUSED]
