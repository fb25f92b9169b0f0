"""Readings of a search on real parts: guarded, without holes, with few calls."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import pytest
from world import OpenWorld, World

from collector.core.runs import RunStatus
from collector.runtime.opening import RunOptions
from collector.simulator import Hooks, Profile, SimulatorOptions
from collector.simulator.profile import Drift, Listing

# As if what page 5 listed at first had been the newest until now.
KNOWN_FROM_PAGE_5 = """
    UPDATE draenei_content.searches SET newest_ids = (
        SELECT ids FROM draenei_content.staged_pages WHERE page = 5
    )
"""


def profiled(images: Path, wallpapers: int, **sections: Any) -> SimulatorOptions:
    """Return options with small pictures, no rate limit, and sections of a profile."""
    profile = Profile(**sections)
    return SimulatorOptions.of(profile, wallpapers=wallpapers, images=images, requests_per_minute=0)


def pages_asked(world: World, since: int = 0) -> list[int]:
    """Return the numbers of the pages that were asked for, in order."""
    visits = [visit for visit in world.simulator.journal.visits if visit.kind == "search"]
    return [int(visit.query["page"]) for visit in visits][since:]


async def test_a_gap_that_a_short_run_leaves_is_closed_by_the_next_ones(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(profiled(small_images, 24 * 6)) as world:
        await world.run("first")
        await world.rows(KNOWN_FROM_PAGE_5)
        asked = len(pages_asked(world))

        short = await world.run("short", RunOptions(max_pages=2))
        assert pages_asked(world, asked) == [1, 2]
        assert short.report["stages"]["extract"]["gap_below_page"] == 2  # type: ignore[index,call-overload]

        await world.run("shorter", RunOptions(max_pages=2))
        assert pages_asked(world, asked + 2) == [1, 2], "the end of what was read, found again"

        whole = await world.run("whole")
        assert pages_asked(world, asked + 4) == [1, 2, 3, 4, 5]
        assert "gap_below_page" not in whole.report["stages"]["extract"]  # type: ignore[index,operator]

        await world.run("next")
        assert pages_asked(world, asked + 9) == [1]


# So few that the requests of a test bring none by themselves.
REQUESTS_PER_UPLOAD = 10_000
RARE_UPLOADS = Drift(uploads_per_100_requests=100 / REQUESTS_PER_UPLOAD, max_uploads=500)


@pytest.mark.parametrize("new_items", [0, 1, 23, 24, 25, 48, 49, 100])
async def test_new_items_cost_a_call_for_each_page_and_one_more_at_most(
    open_world: OpenWorld, small_images: Path, new_items: int
) -> None:
    async with open_world(profiled(small_images, 24 * 5, drift=RARE_UPLOADS)) as world:
        await world.run("first")
        for day in (1, 2):
            asked = len(pages_asked(world))
            world.simulator.inventory.advance(day * new_items * REQUESTS_PER_UPLOAD)

            audit = await world.run(f"day {day}", RunOptions(max_pages=20))

            calls = len(pages_asked(world)) - asked
            assert calls == audit.api_requests <= ceil(new_items / 24) + 1
            assert audit.metadata_inserted == new_items
            assert world.simulator.journal.statuses["search", 200] == asked + calls


async def test_an_ignored_filter_fails_the_run_and_is_named(
    open_world: OpenWorld, small_images: Path
) -> None:
    options = profiled(small_images, 200, listing=Listing(ignored_filters=("atleast",)))
    async with open_world(options, wallhaven_atleast="3000x2000") as world:
        audit = await world.run()

        assert audit.status is RunStatus.FAILED
        assert audit.notes is not None
        assert "atleast: " in audit.notes
        assert await world.value("SELECT count(*) FROM draenei_content.wallpapers") == 0
        assert pages_asked(world) == [1, 1], "asked once more, then given up"


async def test_the_total_without_filters_is_asked_for_once(
    open_world: OpenWorld, small_images: Path
) -> None:
    options = profiled(small_images, 200, listing=Listing(ignored_filters=("colors",)))
    async with open_world(options, wallhaven_colors="660000") as world:
        for run_id in ("first", "second"):
            audit = await world.run(run_id)
            assert audit.status is RunStatus.FAILED
            assert audit.notes is not None
            assert "colors: " in audit.notes
        without = [v for v in world.simulator.journal.visits if "colors" not in v.query]
        assert len(without) == 1


async def test_a_page_that_comes_short_is_asked_for_again(
    open_world: OpenWorld, small_images: Path
) -> None:
    options = profiled(small_images, 24 * 3, listing=Listing(empty_pages=(2,), short_pages=(1,)))
    async with open_world(options) as world:
        audit = await world.run()

        assert (audit.status, audit.metadata_inserted) == (RunStatus.SUCCEEDED, 72)
        assert audit.api_requests == 5


async def test_a_page_that_stays_short_is_said(open_world: OpenWorld, small_images: Path) -> None:
    listing = Listing(short_pages=(2,), faulty_times=0)
    async with open_world(profiled(small_images, 24 * 3, listing=listing)) as world:
        audit = await world.run()

        assert audit.metadata_inserted == 50
        assert audit.report["stages"]["extract"]["short_pages"] == [2]  # type: ignore[index,call-overload]


async def test_fields_without_a_column_are_kept_and_counted(
    open_world: OpenWorld, small_images: Path
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | {"mood": "calm"} for item in items]

    async with open_world(profiled(small_images, 30), Hooks(listing=listing)) as world:
        audit = await world.run()

        extract = audit.report["stages"]["extract"]  # type: ignore[index,call-overload]
        assert extract["unknown_fields"] == {"mood": 30}  # type: ignore[index,call-overload]
        kept = "SELECT count(*) FROM draenei_content.wallpapers WHERE raw ->> 'mood' = 'calm'"
        assert await world.value(kept) == 30


async def test_a_random_order_is_read_on_with_its_seed(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(profiled(small_images, 24 * 3), wallhaven_sorting="random") as world:
        await world.run()

        first, *others = [
            v.query.get("seed") for v in world.simulator.journal.visits if "page" in v.query
        ]
        assert first is None
        assert len(set(others)) == 1
        assert others[0] is not None


async def test_new_items_and_deletions_while_a_run_reads_lose_nothing(
    open_world: OpenWorld, small_images: Path
) -> None:
    drift = Drift(uploads_per_100_requests=100, deletions_per_100_requests=60, max_uploads=200)
    async with open_world(profiled(small_images, 24 * 8, drift=drift)) as world:
        await world.run("first")
        for day in range(6):
            audit = await world.run(f"day {day}")
            assert audit.status in (RunStatus.SUCCEEDED, RunStatus.PARTIAL)
        there = {wallpaper.id for wallpaper in world.simulator.inventory.wallpapers()}
        stored = await world.rows("SELECT wallhaven_id FROM draenei_content.wallpapers")
        missing = there - {row["wallhaven_id"] for row in stored}
        # The simulator has moved on with the requests for images since the last page was read.
        assert missing <= {w.id for w in world.simulator.inventory.uploaded}
