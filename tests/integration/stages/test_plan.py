"""A plan against the simulator: its figures are the truth, and it changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from world import OpenWorld, World, small

from collector.core.planning import put_requests
from collector.core.runs import StageName
from collector.runtime.wiring import run_plan

WALLPAPERS = 60


async def everything(world: World) -> dict[str, list[Any]]:
    """Return all rows of all tables, each with the transaction that wrote it.

    Those of the request budget are left out: a plan asks like everybody else.
    """
    tables = await world.rows(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'draenei_content'"
        " AND tablename NOT IN ('api_budgets', 'api_slots', 'api_waiters') ORDER BY 1"
    )
    assert len(tables) > 8
    return {
        name: await world.rows(f"SELECT xmin::text, * FROM draenei_content.{name} ORDER BY ctid")
        for (name,) in tables
    }


async def test_a_plan_tells_the_truth_and_changes_nothing(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, WALLPAPERS), wallhaven_query="*") as world:
        await world.stage(StageName.EXTRACT)
        await world.stage(StageName.LOAD)
        before, asked = await everything(world), world.simulator.journal.requests["search"]

        report = await run_plan(world.runtime)

        assert await everything(world) == before
        used = world.simulator.journal.requests["search"] - asked
        assert report.api_calls_used == used == 3
        assert world.simulator.journal.requests["image"] == 0
        sizes = [wallpaper.file_size for wallpaper in world.simulator.catalogue]
        found = report.as_json()
        assert (found["images"], found["pages"], found["api_calls"]) == (WALLPAPERS, 3, 4)
        assert found["gigabytes"] == found["gigabytes_most"] == round(sum(sizes) / 1e9, 6)
        assert found["puts"] == sum(map(put_requests, sizes))
        assert (found["known_wallpapers"], found["stored_images"]) == (WALLPAPERS, 0)


async def test_a_sample_is_near_the_truth(open_world: OpenWorld, small_images: Path) -> None:
    async with open_world(small(small_images, 480)) as world:
        found = (await run_plan(world.runtime)).as_json()
        truth = sum(wallpaper.file_size for wallpaper in world.simulator.catalogue) / 1e9
        assert (found["images"], found["pages"], found["sampled_images"]) == (480, 20, 72)
        assert found["gigabytes_least"] <= truth <= found["gigabytes_most"]


async def test_a_collection_is_mirrored_as_a_whole(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 90), wallhaven_collection="Archon/15") as world:
        planned = await run_plan(world.runtime)
        audit = await world.run()

        kept = [wallpaper.id for wallpaper in world.simulator.catalogue][::3]
        rows = await world.rows("SELECT wallhaven_id FROM draenei_content.wallpapers")
        assert {row["wallhaven_id"] for row in rows} == set(kept)
        assert audit.images_uploaded == planned.plan.images == len(kept) == 30
        assert world.simulator.journal.requests["search"] == 0


async def test_a_query_of_everything_is_never_sent(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 30), wallhaven_query="*") as world:
        await world.run()
        visits = world.simulator.journal.of("search")
        assert visits
        assert not [visit for visit in visits if "q" in visit.query]
        assert len(await world.objects()) == 30
