"""Retention: details of old runs go, their numbers stay, and what is needed is not touched."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest
from aiohttp import web
from world import OpenWorld, World, small

from collector.catalog import Runs
from collector.core.audit import AuditRow
from collector.core.errors import Edge, Outage, RunTrimmed
from collector.core.maintenance import RunDetail
from collector.core.runs import Run, StageName
from collector.runtime.backfilling import BackfillOptions, find_crawl, is_over, run_backfill
from collector.runtime.scheduled import settled
from collector.runtime.wiring import KEEP_DAYS, JanitorOptions, Tidied, run_janitor
from collector.simulator import Hooks, Wallpaper
from collector.stages import janitor as stage
from collector.stages.janitor import trim_old_runs

DETAILS = tuple(RunDetail)
OLD_DAYS = KEEP_DAYS + 1


async def age(world: World, *run_ids: str, days: int = OLD_DAYS) -> None:
    """Let it be so long ago that these runs ended, and their dead letters were resolved."""
    for table, columns in (
        ("run_audit", ("started_at", "ended_at", "heartbeat_at")),
        ("dead_letters", ("first_failed_at", "last_failed_at", "resolved_at")),
    ):
        moved = ", ".join(f"{name} = {name} - make_interval(days => $2)" for name in columns)
        await world.rows(
            f"UPDATE draenei_content.{table} SET {moved} WHERE run_id = ANY($1)", run_ids, days
        )


async def audit_row(world: World, run_id: str) -> dict[str, object]:
    (row,) = await world.rows("SELECT * FROM draenei_content.run_audit WHERE run_id = $1", run_id)
    return dict(row) | {"trimmed_at": None}


async def details(world: World, run_id: str) -> dict[RunDetail, int]:
    """Count the details of a run by their table."""
    audit_id = await world.value("SELECT id FROM draenei_content.run_audit WHERE run_id=$1", run_id)
    return {
        detail: await world.value(
            f"SELECT count(*) FROM draenei_content.{detail} WHERE audit_id = $1", audit_id
        )
        for detail in DETAILS
    }


async def tidied(world: World, keep_days: int = KEEP_DAYS) -> Tidied:
    return await run_janitor(world.runtime, JanitorOptions(keep_days=keep_days))


def trimmed(found: Tidied) -> tuple[int, ...]:
    counts = (found.items_trimmed, found.enrichments_trimmed, found.pages_trimmed)
    return (found.runs_trimmed, *counts, found.loads_trimmed, found.letters_trimmed)


async def gone(_: web.Request, wallpaper: Wallpaper) -> web.StreamResponse | None:
    return web.Response(status=410) if wallpaper.index < 2 else None


async def old_and_new(world: World) -> None:
    """Make an old run with all details, one of its dead letters resolved, and a new run."""
    await world.run("old")
    first, *_ = await world.runtime.catalog.dead_letters.open_letters()
    await world.rows(
        "UPDATE draenei_content.dead_letters SET resolved_at = now() WHERE id = $1", first.id
    )
    await world.rows(
        "INSERT INTO draenei_content.run_enrichments (audit_id, wallpaper_id, outcome)"
        " SELECT 1, id, 'missing' FROM draenei_content.wallpapers"
    )
    await world.run("new")
    await age(world, "old")


@pytest.mark.case("PG-26")
async def test_details_of_old_runs_go_and_their_numbers_stay(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 60), Hooks(image=gone)) as world:
        await old_and_new(world)
        audit, new = await audit_row(world, "old"), await details(world, "new")
        assert min((await details(world, "old")).values()) > 0
        assert trimmed(await tidied(world, keep_days=0)) == (0,) * 6, "0 keeps all"
        assert trimmed(await tidied(world, keep_days=OLD_DAYS + 1)) == (0,) * 6
        done = await tidied(world)
        assert trimmed(done) == (1, 60, 60, 3, 1, 1)
        assert await details(world, "old") == dict.fromkeys(DETAILS, 0) | {RunDetail.LETTERS: 1}
        assert await details(world, "new") == new
        assert await audit_row(world, "old") == audit
        assert trimmed(await tidied(world)) == (0,) * 6

        assert (await world.run("newer")).metadata_unchanged == 24
        (open_letter,) = await world.runtime.catalog.dead_letters.open_letters()
        assert open_letter.run_id == "old"


@pytest.mark.case("PG-26")
async def test_a_trimmed_run_is_audited_as_before_and_does_not_go_on(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 6)) as world:
        first = await world.run("old")
        await age(world, "old")
        await tidied(world)
        audit = await audit_row(world, "old")
        for run_stage in (StageName.EXTRACT, StageName.LOAD, StageName.TRANSFER):
            with pytest.raises(RunTrimmed, match="run old ended long ago"):
                await world.stage(run_stage, "old")
        with pytest.raises(RunTrimmed):
            await world.run("old")
        with pytest.raises(RunTrimmed):
            await run_backfill(
                world.runtime, Run("tests", "old"), BackfillOptions(), lambda _: None
            )
        await settled(world.runtime, Run("tests", "old"))
        again = await world.stage(StageName.AUDIT, "old")
        assert isinstance(again, AuditRow)
        assert (again.images_uploaded, again.status) == (6, first.status)
        assert await audit_row(world, "old") == audit


@pytest.mark.case("PG-26")
async def test_an_open_crawl_keeps_its_ledger_and_a_closed_one_its_verdict(
    open_world: OpenWorld, small_images: Path
) -> None:
    options = BackfillOptions()
    async with open_world(small(small_images, 60)) as world:
        run = Run("tests", "crawl")
        await run_backfill(world.runtime, run, options, lambda _: None)
        before = await world.runtime.catalog.crawls.last(1)
        await age(world, "crawl")
        closed = "UPDATE draenei_content.crawls SET verdict = $1, ended_at = $2"
        ((verdict, ended_at),) = await world.rows(
            "SELECT verdict, ended_at FROM draenei_content.crawls"
        )
        await world.rows(closed, None, None)
        assert trimmed(await tidied(world)) == (0,) * 6
        kept = await details(world, "crawl")
        for statement in (
            "DELETE FROM draenei_content.run_audit",
            "DELETE FROM draenei_content.run_loads",
        ):
            with pytest.raises(asyncpg.ForeignKeyViolationError):
                await world.rows(statement)
        assert await details(world, "crawl") == kept

        await world.rows(closed, verdict, ended_at)
        done = await tidied(world)
        assert (done.runs_trimmed, done.items_trimmed) == (1, 60)
        assert done.pages_trimmed == kept[RunDetail.PAGES] > 0
        assert is_over(await find_crawl(world.runtime, options), options)
        (after,) = await world.runtime.catalog.crawls.last(1)
        assert after | {"last_page": None} == before[0] | {"last_page": None}


@pytest.mark.case("PG-26")
async def test_pages_above_a_gap_are_kept_until_it_is_closed(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 60)) as world:
        await world.run("old")
        key = world.runtime.settings.wallhaven_query
        search_key = await world.value("SELECT search_key FROM draenei_content.searches")
        assert key in search_key
        pages = world.runtime.catalog.pages
        # As if the run had not come down to what an earlier one had read.
        newest = "UPDATE draenei_content.searches SET newest_audit_id = $1"
        await world.rows(newest, 0)
        above = await pages.pages_above(search_key, 99)
        assert [len(run) for run in above] == [3]
        await age(world, "old")
        done = await tidied(world)
        assert (done.runs_trimmed, done.pages_trimmed, done.loads_trimmed) == (1, 0, 0)
        assert await pages.pages_above(search_key, 99) == above
        await world.rows(newest, 1)
        done = await tidied(world)
        assert (done.runs_trimmed, done.pages_trimmed, done.loads_trimmed) == (0, 3, 1)


@pytest.mark.case("PG-26")
async def test_pages_that_a_younger_run_has_merged_are_kept_for_its_audit(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 60)) as world:
        await world.stage(StageName.EXTRACT, "old")
        await world.stage(StageName.AUDIT, "old")
        # What nobody has merged is no detail of a run that is over.
        await age(world, "old")
        assert (await tidied(world)).pages_trimmed == 0
        for run_stage in (StageName.LOAD, StageName.TRANSFER):
            await world.stage(run_stage, "new")
        audit = await world.stage(StageName.AUDIT, "new")
        assert isinstance(audit, AuditRow)
        assert audit.metadata_inserted == 60
        assert trimmed(await tidied(world)) == (0,) * 6
        assert await world.stage(StageName.AUDIT, "new") == audit
        await age(world, "new")
        assert trimmed(await tidied(world)) == (1, 60, 0, 3, 1, 0)
        again = await world.stage(StageName.AUDIT, "new")
        assert isinstance(again, AuditRow)
        assert again.metadata_inserted == 60


@pytest.mark.case("PG-26")
async def test_newer_pages_are_kept_until_an_older_one_is_merged(
    open_world: OpenWorld, small_images: Path
) -> None:
    """The merge of the older page asks the ledger which listing is the newest."""
    async with open_world(small(small_images, 60)) as world:
        await world.stage(StageName.EXTRACT, "slow")
        await world.run("old")
        await age(world, "old")
        assert (await tidied(world)).pages_trimmed == 0
        await world.stage(StageName.LOAD, "slow")
        assert (await tidied(world)).pages_trimmed == 3


class Failing(Runs):
    """A catalog whose connection is lost in some batch."""

    batches = 3

    async def trim(self, detail: RunDetail, keep_days: int, most: int) -> int:
        self.batches -= 1
        if not self.batches:
            raise Outage(Edge.DATABASE, "gone")
        return await super().trim(detail, keep_days, most)


@pytest.mark.case("PG-26")
async def test_trimming_goes_batch_by_batch_and_on_where_it_was_broken_off(
    open_world: OpenWorld, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "BATCH_ROWS", 7)
    async with open_world(small(small_images, 60), Hooks(image=gone)) as world:
        await old_and_new(world)
        audit = await audit_row(world, "old")
        with pytest.raises(Outage):
            await trim_old_runs(Failing(world.runtime.catalog.database), KEEP_DAYS)
        assert (await details(world, "old"))[RunDetail.ITEMS] == 60 - 14
        # Its numbers cannot be counted any more, and already are not.
        await world.stage(StageName.AUDIT, "old")
        assert await audit_row(world, "old") == audit
        assert trimmed(await tidied(world)) == (0, 60 - 14, 60, 3, 1, 1)


@pytest.mark.case("PG-26")
async def test_a_run_that_goes_on_at_this_moment_is_left_alone(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 6)) as world:
        await world.run("old")
        await age(world, "old")
        async with world.runtime.catalog.database.transaction() as session:
            await session.value("open_run", "tests", "old", None)
            assert trimmed(await tidied(world)) == (0,) * 6
        assert trimmed(await tidied(world)) == (0,) * 6
        assert (await world.run("old")).images_uploaded == 6
