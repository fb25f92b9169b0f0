"""Lists that move while they are read, lists that lie about their end, and empty ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from api_faults import (
    AT_ONCE,
    Edit,
    Json,
    converge_to_all,
    edited,
    ids_of_page,
    meta,
    moving,
    outage_at,
    page,
    search,
    staged_or_loaded,
    three_pages,
)
from faulty_world import OpenFaults
from world import small

from collector.core.runs import RunStatus
from collector.runtime.opening import RunOptions
from collector.stages.api_client import MAX_API_ATTEMPTS

# --- Lists that move, and lists that lie ---------------------------------------------------------


@pytest.mark.case("API-19")
async def test_an_item_that_stands_twice_on_a_page_is_one_row_and_the_last_one_wins(
    open_faults: OpenFaults, small_images: Path
) -> None:
    def twice(listing: Json) -> object:
        first, second, *others = listing["data"]
        older, newer = first | {"source": "older"}, first | {"source": "newer"}
        return listing | {"data": [older, second, second, *others, newer]}

    async with open_faults(small(small_images, 5)) as world:
        world.api.on(page(1), edited(world, twice))
        audit = await world.run()
        assert audit.status is RunStatus.SUCCEEDED
        assert (audit.metadata_inserted, audit.report["duplicates"]) == (5, 2)
        first = world.simulator.catalogue[0].id
        source = "SELECT source FROM draenei_content.wallpapers WHERE wallhaven_id = $1"
        assert await world.value(source, first) == "newer"
        assert world.images.count(lambda asked: first in asked.path) == 1
        await world.check()
        assert await world.objects() == world.truth()


@pytest.mark.case("API-20")
async def test_an_item_that_moves_onto_the_next_page_counts_once(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        everything = list(world.simulator.catalogue)
        world.api.on(search, moving(world, everything[1:], everything), times=None)
        audit = await world.run()
        assert audit.status is RunStatus.SUCCEEDED
        assert (audit.metadata_inserted, audit.report["duplicates"]) == (11, 1)
        assert world.images.count(lambda asked: True) == 11
        await converge_to_all(world)
        assert world.images.count(lambda asked: True) == 12


@pytest.mark.case("API-21")
async def test_an_item_that_moved_up_unseen_is_found_by_the_next_run(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        everything = list(world.simulator.catalogue)
        world.api.on(search, moving(world, everything, everything[1:]), times=None)
        audit = await world.run()
        assert audit.metadata_inserted == 11
        assert everything[4].id not in await staged_or_loaded(world)
        await converge_to_all(world)


@pytest.mark.case("API-21")
async def test_a_daily_run_goes_back_up_where_the_list_has_shrunk(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        everything = list(world.simulator.catalogue)
        old = everything[8:]
        world.api.on(search, moving(world, old, old), times=1)
        assert (await world.run("yesterday")).metadata_inserted == 4
        world.api.on(search, moving(world, everything, everything[1:]), times=None)
        today = await world.run("today")
        assert today.status is RunStatus.SUCCEEDED
        assert today.metadata_inserted == 8, "nothing is missed"
        await converge_to_all(world)


MAX_PAGES = 100


@pytest.mark.case("API-22")
@pytest.mark.parametrize(
    ("edit", "requests"),
    [
        # Of the last one nothing may well be all there is: it is not asked for again.
        pytest.param(meta(last_page=4), 3 + 1, id="one more"),
        pytest.param(meta(last_page=6), 3 + 2 * 2, id="large"),
        pytest.param(meta(last_page=2**31 - 1), 3 + 2 * 2, id="largest"),
        pytest.param(
            lambda it: meta(last_page=it["meta"]["current_page"] + 3)(it), 3 + 2 * 2, id="growing"
        ),
    ],
)
async def test_a_last_page_that_never_comes_ends_with_two_empty_pages_and_is_told(
    open_faults: OpenFaults, small_images: Path, edit: Edit, requests: int
) -> None:
    async with open_faults(three_pages(small_images), wallhaven_max_pages=MAX_PAGES) as world:
        world.api.on(search, edited(world, edit), times=None)
        audit = await world.run()
        is_told = "pages with too few items: [" in (audit.notes or "")
        assert is_told == (requests > 4)
        assert audit.status is (RunStatus.PARTIAL if is_told else RunStatus.SUCCEEDED)
        assert world.api.count(search) == audit.api_requests == requests
        assert await world.objects() == world.truth()
        await converge_to_all(world)


@pytest.mark.case("API-22")
async def test_a_last_page_that_is_no_number_is_no_answer(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images), **AT_ONCE) as world:
        for wrong in ("three", -1, None, 2**31, 3.0, True, "\u0663"):
            fault = edited(world, meta(last_page=wrong))
            audit = await outage_at(world, 1, fault, f"last page {wrong!r:.9}")
            assert "meta: last_page: " in (audit.notes or ""), wrong
            assert world.api.count(search) == MAX_API_ATTEMPTS, wrong
        world.heal()
        world.api.on(search, edited(world, meta(last_page="3", total="12")), times=None)
        assert (await world.run("digits")).status is RunStatus.SUCCEEDED
        await world.check()
        assert await world.objects() == world.truth()


@pytest.mark.case("API-22")
@pytest.mark.parametrize("last_page", [0, 2])
async def test_a_last_page_before_the_end_hides_nothing_for_good(
    open_faults: OpenFaults, small_images: Path, last_page: int
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        world.api.on(search, edited(world, meta(last_page=last_page)), times=None)
        audit = await world.run()
        is_whole = await world.objects() == world.truth()
        await converge_to_all(world)
        assert is_whole or audit.status is not RunStatus.SUCCEEDED, "it said 12 and showed fewer"


REPEATS: dict[str, Callable[[Json, Json], Json]] = {
    "verbatim": lambda first, _: first,
    "with the right number": lambda first, true: first | {"meta": true["meta"]},
    "without a number": lambda first, true: (
        first | {"meta": {key: it for key, it in true["meta"].items() if key != "current_page"}}
    ),
}


@pytest.mark.case("API-23")
@pytest.mark.parametrize("how", REPEATS)
async def test_a_page_that_comes_for_every_page_is_noticed(
    open_faults: OpenFaults, small_images: Path, how: str
) -> None:
    pages: list[Json] = []

    def repeat(listing: Json) -> object:
        pages.append(listing)
        return REPEATS[how](pages[0], listing)

    async with open_faults(three_pages(small_images)) as world:
        world.api.on(search, edited(world, repeat), times=None)
        audit = await world.run()
        assert world.api.count(search) <= 5
        assert await staged_or_loaded(world) == ids_of_page(world, 1)
        await converge_to_all(world)
        assert audit.status is not RunStatus.SUCCEEDED, "it said 12 and showed 4"


@pytest.mark.case("API-24")
async def test_what_meta_says_beside_the_numbers_never_matters(
    open_faults: OpenFaults, small_images: Path
) -> None:
    queries = ({"id": 1, "tag": "draenei"}, {}, {"id": None}, [], 7, True, "", "x" * 5000, "\ud800")
    seeds = (None, 7, {}, [], "abc123", "\x00", "x" * 5000)
    values = [*({"query": it} for it in queries), *({"seed": it} for it in seeds)]
    async with open_faults(small(small_images, 3)) as world:
        for number, changed in enumerate(values):
            world.heal()
            world.api.on(search, edited(world, meta(**changed)), times=None)
            audit = await world.run(f"run {number}", RunOptions(refresh=True))
            assert (audit.status, audit.api_requests) == (RunStatus.SUCCEEDED, 1), changed
            assert audit.metadata_updated == 0, changed
        await world.check()
        assert await world.objects() == world.truth()


# --- A search that matches nothing ---------------------------------------------------------------


@pytest.mark.case("API-31")
async def test_a_search_that_matches_nothing_says_so(
    open_faults: OpenFaults, small_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_faults(three_pages(small_images), wallhaven_query="+nothing") as world:
        audit = await world.run()
        assert (audit.status, audit.metadata_inserted) == (RunStatus.SUCCEEDED, 0)
        assert "the search matches nothing: wallhaven?" in (audit.notes or "")
        assert "nothing" in (audit.notes or "")
        assert any("the search matches nothing" in text for text in caplog.messages)
