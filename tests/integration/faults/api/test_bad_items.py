"""Items of a page that cannot become rows, or do not fit what was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from api_faults import (
    Json,
    converge_to_all,
    edited,
    first_item,
    meta,
    outage_at,
    page,
    search,
    staged_or_loaded,
    three_pages,
)
from faulty_world import OpenFaults
from peers.exchange import Exchange
from world import small

from collector.core.errors import Code
from collector.core.runs import RunStatus, StageName
from collector.runtime.opening import RunOptions

# --- Items that cannot become rows ---------------------------------------------------------------


BASE: Json = {"path": "https://w.wallhaven.cc/full/aa/wallhaven-aaaaaa.jpg"}
LOOK_ALIKE = "\u0430\u0430\u0430\u0430"  # Cyrillic
LARGEST_FILE = 2**40
TEXTS = ("url", "short_url", "source", "purity", "category", "resolution", "ratio", "file_type")


def _changed(number: int, **values: object) -> Json:
    return BASE | {"id": f"changed{number}"} | values


REJECTED: dict[str, list[tuple[object, Code]]] = {
    "API-14": [
        (item, Code.INVALID_METADATA)
        for item in (None, "text", "", ["list"], [], 7, 1.5, True, {}, [[{}]])
    ],
    "API-15": [
        (BASE, Code.INVALID_METADATA),
        (BASE | {"id": None}, Code.INVALID_METADATA),
        ({"id": "changed1"}, Code.INVALID_METADATA),
        ({"id": "changed2", "path": None}, Code.INVALID_METADATA),
        ({"id": "changed3", "path": ""}, Code.INVALID_METADATA),
        ({"id": "changed4", "path": "x" * 100_000}, Code.INVALID_METADATA),
        ({"id": "changed5", "path": "<script>\u2028\u0007"}, Code.INVALID_METADATA),
    ],
    "API-16": [
        (BASE | {"id": ""}, Code.INVALID_METADATA),
        (BASE | {"id": 7}, Code.INVALID_METADATA),
        (BASE | {"id": True}, Code.INVALID_METADATA),
        *(
            (BASE | {"id": bad_id}, Code.BAD_ID)
            for bad_id in (
                *("a" * 17, "a" * 10_000, "../x", "a/b", "A%2e", LOOK_ALIKE, "abc123\n"),
                *(" abc123", "abc\x00", "\ud800", ".", "\u0661\u0662\u0663"),
            )
        ),
    ],
    "API-17": [
        (_changed(number, file_size=size), Code.INVALID_METADATA)
        for number, size in enumerate((-1, 0, "123", 1.5, 1.0, True, 2**63, LARGEST_FILE + 1, []))
    ],
    "API-18": [
        *(
            (_changed(number, **{name: "a\x00b"}), Code.INVALID_METADATA)
            for number, name in enumerate(TEXTS)
        ),
        *(
            (_changed(20 + number, **{name: "a\ud800b"}), Code.INVALID_METADATA)
            for number, name in enumerate(TEXTS)
        ),
        (_changed(40, path="https://w.wallhaven.cc/\x00.jpg"), Code.INVALID_METADATA),
        (_changed(41, path="https://w.wallhaven.cc/\udfff.jpg"), Code.INVALID_METADATA),
        (_changed(42, colors=["\x00"]), Code.INVALID_METADATA),
        (_changed(43, colors=["\ud800"]), Code.INVALID_METADATA),
        (_changed(44, thumbs={"large": "\x00"}), Code.INVALID_METADATA),
        (_changed(45, created_at="\ud800"), Code.INVALID_METADATA),
        (_changed(46, **{"\ud800": "a name"}), Code.INVALID_METADATA),
    ],
}


@pytest.mark.parametrize(
    "kind", [pytest.param(case, marks=pytest.mark.case(case), id=case) for case in REJECTED]
)
async def test_a_bad_item_is_kept_with_its_reason_and_the_others_are_stored(
    open_faults: OpenFaults, small_images: Path, kind: str
) -> None:
    rejected = REJECTED[kind]

    def with_them(listing: Json) -> object:
        return listing | {"data": [*(item for item, _ in rejected), *listing["data"]]}

    tolerant = {"collector_max_dead_percent": 100}
    async with open_faults(small(small_images, 20), **tolerant) as world:
        world.api.on(page(1), edited(world, with_them), times=None)
        audit = await world.run()
        assert audit.status is RunStatus.PARTIAL
        assert (audit.metadata_inserted, audit.metadata_invalid) == (20, len(rejected))
        assert world.api.count(search) == 1, "a bad item is no reason to ask again"
        letters = await world.runtime.catalog.dead_letters.open_letters()
        assert sorted(it.code for it in letters) == sorted(code for _, code in rejected)
        assert {it.stage for it in letters} == {StageName.LOAD}
        raws = await world.rows("SELECT raw FROM draenei_content.dead_letters")
        assert all(it["raw"].isascii() and len(it["raw"]) <= 4000 for it in raws)
        assert await world.objects() == world.truth()
        await world.check()


@pytest.mark.case("API-17")
async def test_a_size_that_is_not_told_is_no_obstacle(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        world.api.on(page(1), edited(world, first_item(file_size=None)))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 3)
        assert await world.objects() == world.truth()
        await world.check()


@pytest.mark.case("API-18")
async def test_what_no_database_holds_is_replaced_where_no_column_needs_it(
    open_faults: OpenFaults, small_images: Path
) -> None:
    odd = {"mood\x00": "a\x00b", "half": ["\udc00\ud800"], "deep": {"\ud800": {"\x00": 1}}}

    def with_them(listing: Json) -> object:
        return meta(**odd)(first_item(**odd)(listing))

    async with open_faults(small(small_images, 3)) as world:
        world.api.on(page(1), edited(world, with_them))
        audit = await world.run()
        assert (audit.status, audit.metadata_inserted) == (RunStatus.SUCCEEDED, 3)
        raw = "SELECT raw ->> $1 FROM draenei_content.wallpapers WHERE wallhaven_id = $2"
        first = world.simulator.catalogue[0].id
        assert await world.value(raw, "mood\ufffd", first) == "a\ufffdb"
        assert await world.objects() == world.truth()
        await world.check()


# --- What was asked for, and what had come before ------------------------------------------------


@pytest.mark.case("API-27")
@pytest.mark.parametrize("extension", ["jpg", "png"])
async def test_a_stored_image_keeps_key_and_address_when_its_listing_moves(
    open_faults: OpenFaults, small_images: Path, extension: str
) -> None:
    columns = "SELECT wallhaven_id, url, file_type, s3_key FROM draenei_content.wallpapers"
    pending = "SELECT pending_url FROM draenei_content.wallpapers WHERE wallhaven_id = $1"
    async with open_faults(small(small_images, 4)) as world:
        await world.run("first")
        before = await world.rows(f"{columns} ORDER BY id")
        moved = f"{world.images.url}/full/zz/moved.{extension}"
        world.api.on(search, edited(world, first_item(path=moved)), times=None)
        second, third = await world.run("second"), await world.run("third")
        assert await world.rows(f"{columns} ORDER BY id") == before
        assert await world.value(pending, world.simulator.catalogue[0].id) == moved
        assert (second.metadata_updated, third.metadata_updated) == (1, 0)
        assert world.images.count(lambda asked: True) == 4, "nothing is fetched again"
        await converge_to_all(world)


@pytest.mark.case("API-27")
async def test_an_image_that_is_not_stored_yet_is_fetched_from_where_it_moved(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async def moved(exchange: Exchange) -> None:
        old = exchange.asked.target.removeprefix("/moved")
        await exchange.answer(await exchange.forward(replace(exchange.asked, target=old)))

    def move(listing: Json) -> object:
        paths = [it["path"].removeprefix(world.images.url) for it in listing["data"]]
        items = zip(listing["data"], paths, strict=True)
        moved_items = [it | {"path": f"{world.images.url}/moved{path}"} for it, path in items]
        return listing | {"data": moved_items}

    async with open_faults(small(small_images, 4)) as world:
        await world.run("first", RunOptions(limit=1))
        world.images.on(lambda asked: asked.path.startswith("/moved"), moved, times=None)
        world.api.on(search, edited(world, move), times=None)
        assert (await world.run("second")).images_uploaded == 3
        assert world.images.count(lambda asked: asked.path.startswith("/moved")) == 3
        both = "SELECT count(*) FILTER (WHERE url LIKE '%/moved/%'), count(pending_url)"
        (counts,) = await world.rows(f"{both} FROM draenei_content.wallpapers")
        assert tuple(counts) == (3, 1), "each row has the address that its bytes came from"
        await world.check()
        assert await world.objects() == world.truth()


OUTSIDE = {"purity": {"purity": "nsfw"}, "categories": {"category": "people"}}


@pytest.mark.case("API-28")
@pytest.mark.parametrize("parameter", OUTSIDE)
async def test_a_page_with_something_that_was_not_asked_for_is_never_loaded(
    open_faults: OpenFaults, small_images: Path, parameter: str
) -> None:
    edit = first_item(**OUTSIDE[parameter])
    async with open_faults(three_pages(small_images), wallhaven_categories="110") as world:
        audit = await outage_at(world, 1, edited(world, edit), "always")
        wrong = f"the API ignored what was requested: {parameter}: 1 of 4 items"
        assert wrong in (audit.notes or "")
        assert world.api.count(search) == 2, "asked once more, and believed then"
        assert (audit.metadata_inserted, await staged_or_loaded(world)) == (0, set())
        world.heal()
        world.api.on(page(1), edited(world, edit))
        once = await world.run("once")
        assert once.status is RunStatus.SUCCEEDED
        await world.check()
        stored = await world.rows("SELECT purity, category FROM draenei_content.wallpapers")
        assert {(it["purity"], it["category"] == "people") for it in stored} == {("sfw", False)}


@pytest.mark.case("API-28")
async def test_a_word_that_is_not_known_contradicts_nothing(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        world.api.on(search, edited(world, first_item(purity=None, category="new")), times=None)
        assert (await world.run()).status is RunStatus.SUCCEEDED
        assert await world.objects() == world.truth()
        await world.check()
