"""The main job on real parts: what it stores, what it counts, and that twice changes nothing."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import anyio
import pytest
from databases import execute
from world import EVERYTHING, OpenWorld, small

from collector.catalog import Runs
from collector.cli.progress import SilentProgress
from collector.core.errors import Edge, OtherSearch, Outage, StagingMismatch
from collector.core.runs import Run, RunStatus, StageCall, StageName, StageReport
from collector.local import LocalPostgres
from collector.runtime import running
from collector.runtime.opening import RunOptions, open_runtime
from collector.runtime.running import run_all_stages, run_one_stage
from collector.simulator import Hooks


async def test_a_run_stores_every_image_and_says_so(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images)) as world:
        audit = await world.run()

        assert await world.objects() == world.truth()
        rows = await world.rows("SELECT * FROM draenei_content.wallpapers")
        assert {row["s3_key"]: row["object_sha256"] for row in rows} == world.truth()
        counted = (audit.status, audit.metadata_inserted, audit.images_uploaded)
        assert counted == (RunStatus.SUCCEEDED, 60, 60)
        assert audit.bytes_uploaded == sum(w.file_size for w in world.simulator.catalogue)
        assert audit.missing_s3_after_run == 0
        assert audit.api_requests == world.simulator.journal.requests["search"] == 3


async def test_a_second_run_stores_and_changes_nothing(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images)) as world:
        await world.run("first")
        everything = "SELECT xmin::text, * FROM draenei_content.wallpapers ORDER BY id"
        before, images = await world.rows(everything), world.simulator.journal.requests["image"]

        audit = await world.run("second")

        assert await world.rows(everything) == before
        assert world.simulator.journal.requests["image"] == images
        assert (audit.metadata_inserted, audit.metadata_updated, audit.images_uploaded) == (0, 0, 0)
        assert audit.metadata_unchanged == 24  # one page: it stops at what is known
        assert audit.api_requests == 1


async def test_the_same_run_id_goes_on_and_counts_items_once(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images)) as world:
        await world.stage(StageName.EXTRACT)
        await world.stage(StageName.LOAD)
        await world.stage(StageName.TRANSFER, options=RunOptions(limit=20))

        audit = await world.run()

        assert audit.metadata_inserted == audit.images_uploaded == 60
        assert audit.api_requests == 3, "pages in the ledger are not asked for again"


async def test_the_limit_is_of_images_stored_by_the_run(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images)) as world:
        audit = await world.run(options=RunOptions(limit=25))
        assert (audit.images_uploaded, audit.missing_s3_after_run) == (25, 35)
        assert len(await world.objects()) == 25

        again = await world.run(options=RunOptions(limit=25))
        assert again.images_uploaded == 25


async def test_max_pages_bounds_the_reading(open_world: OpenWorld, small_images: Path) -> None:
    async with open_world(small(small_images)) as world:
        audit = await world.run(options=RunOptions(max_pages=2))
        assert (audit.metadata_inserted, audit.api_requests) == (48, 2)


async def test_refresh_reads_on(open_world: OpenWorld, small_images: Path) -> None:
    async with open_world(small(small_images)) as world:
        await world.run("first")
        audit = await world.run("second", RunOptions(refresh=True))
        assert (audit.metadata_unchanged, audit.api_requests) == (60, 3)


async def test_a_reading_that_was_cut_short_leaves_no_hole(
    open_world: OpenWorld, small_images: Path
) -> None:
    broken = {"yes": True}

    def page(number: int, answer: dict[str, object]) -> dict[str, object]:
        return {"error": "broken"} if broken["yes"] and number == 2 else answer

    async with open_world(small(small_images, 100), Hooks(page=page)) as world:
        first = await world.run("first")
        assert first.status is RunStatus.PARTIAL
        broken["yes"] = False

        second = await world.run("second")

        assert second.status is RunStatus.SUCCEEDED
        assert await world.objects() == world.truth()


async def test_a_page_that_always_fails_keeps_nothing_from_being_stored(
    open_world: OpenWorld, small_images: Path
) -> None:
    def page(number: int, answer: dict[str, object]) -> dict[str, object]:
        return {"error": "broken"} if number == 2 else answer

    async with open_world(small(small_images, 48), Hooks(page=page)) as world:
        audit = await world.run()

        assert (audit.status, audit.metadata_inserted) == (RunStatus.PARTIAL, 24)
        assert (audit.images_uploaded, audit.missing_s3_after_run) == (24, 0)
        assert audit.notes == "pages that could not be read: 2"


async def test_a_load_that_fails_keeps_no_image_from_being_stored(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 10)) as world:
        await world.run("first", RunOptions(limit=4))
        await world.rows("UPDATE draenei_content.wallpapers SET category = 'another'")
        await world.stage(StageName.EXTRACT, "second", RunOptions(refresh=True))
        await world.rows("DELETE FROM draenei_content.staged_wallpapers WHERE position = 0")

        audit = await world.run("second")

        assert (audit.status, audit.images_uploaded) == (RunStatus.FAILED, 6)
        assert audit.notes is not None
        assert audit.notes.startswith("load: ")


async def test_a_defect_ends_the_line(
    open_world: OpenWorld, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> StageReport:
        raise ValueError("defect")

    monkeypatch.setattr(running, "run_load", broken)
    async with open_world(small(small_images, 5)) as world:
        with pytest.raises(ValueError, match="defect"):
            await world.run()
        stages = await world.rows("SELECT stage FROM draenei_content.run_stages")
        assert "transfer" not in {row["stage"] for row in stages}


async def test_staged_rows_of_a_run_that_died_are_merged_by_the_next_load(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images)) as world:
        await world.stage(StageName.EXTRACT, "dead")
        await world.rows("UPDATE draenei_content.run_audit SET status = 'crashed'")

        report = await world.stage(StageName.LOAD, "next")

        assert isinstance(report, StageReport)
        assert report.counts["inserted"] == 60
        assert await world.value("SELECT count(*) FROM draenei_content.staged_wallpapers") == 0


async def test_a_run_that_crashed_is_closed_when_the_next_one_begins(
    open_world: OpenWorld, small_images: Path
) -> None:
    """And what it had staged is merged by that one, whose pages meet what the dead one has read."""
    silent = "UPDATE draenei_content.run_audit SET heartbeat_at = now() - '2 h'::interval"
    status = "SELECT status FROM draenei_content.run_audit WHERE run_id = $1"

    async def read_and_die(run_id: str) -> None:
        await world.stage(StageName.EXTRACT, run_id)
        audit_id = await world.runtime.catalog.runs.open_run(Run("tests", run_id))
        await world.runtime.catalog.runs.begin_stage(StageCall(audit_id, StageName.LOAD))
        await world.rows(silent)

    async with open_world(small(small_images, 30)) as world:
        await read_and_die("first")
        await read_and_die("second")
        assert await world.value(status, "first") == "crashed"
        audit = await world.run("third")

        assert await world.value(status, "second") == "crashed"
        assert (audit.status, audit.metadata_inserted) == (RunStatus.SUCCEEDED, 30)
        again = await world.run("first")
        assert again.status is RunStatus.SUCCEEDED


@pytest.mark.case("AF-13")
async def test_a_run_whose_next_task_waits_for_hours_keeps_its_pages_and_is_not_closed(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 30)) as world:
        await world.stage(StageName.EXTRACT, "waits")
        await world.rows(
            "UPDATE draenei_content.run_audit SET heartbeat_at = now() - '30 h'::interval"
        )
        await world.run("other", RunOptions(max_pages=1))
        status = "SELECT status FROM draenei_content.run_audit WHERE run_id = 'waits'"
        assert await world.value(status) == "running"
        report = await world.stage(StageName.LOAD, "waits")
        assert isinstance(report, StageReport)
        assert (report.counts["pages"], report.counts["inserted"]) == (2, 6)


@pytest.mark.parametrize("problem", [Outage(Edge.DATABASE, "gone"), ValueError("defect")])
async def test_what_is_wrong_with_crashed_runs_is_no_problem_of_this_one(
    open_world: OpenWorld,
    small_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    problem: Exception,
) -> None:
    async def broken(*_: object) -> list[int]:
        raise problem

    monkeypatch.setattr(Runs, "silent_runs", broken)
    async with open_world(small(small_images, 3)) as world:
        assert (await world.run()).status is RunStatus.SUCCEEDED
    assert "crashed runs could not be closed" in caplog.text


async def test_metadata_travels_by_copy(
    open_world: OpenWorld, small_images: Path, postgres_server: LocalPostgres, dsn: str
) -> None:
    await execute(dsn, f"ALTER DATABASE {urlsplit(dsn).path[1:]} SET log_statement = 'all'")
    # Of what failed in other tests the log tells the statement, too.
    before = postgres_server.log.read_text()
    async with open_world(small(small_images)) as world:
        await world.stage(StageName.EXTRACT)
    seen = postgres_server.log.read_text().removeprefix(before)
    assert seen.count('COPY "draenei_content"."staged_wallpapers"') == 3


async def test_pages_are_read_concurrently(open_world: OpenWorld, small_images: Path) -> None:
    slow = small(small_images, 24 * 12, latency_seconds=0.2)
    async with open_world(slow) as world:
        await world.stage(StageName.EXTRACT)
        assert world.simulator.journal.peak_in_flight["search"] >= 4


async def test_images_in_flight_reach_their_bound_and_never_pass_it(
    open_world: OpenWorld, small_images: Path
) -> None:
    slow = small(small_images, image_latency_seconds=0.1)
    async with open_world(slow, collector_in_flight=7) as world:
        await world.run()
        assert world.simulator.journal.peak_in_flight["image"] == 7


async def test_an_api_that_is_down_fails_the_run_and_is_audited(
    open_world: OpenWorld, small_images: Path
) -> None:
    def page(number: int, answer: dict[str, object]) -> dict[str, object]:
        return {"error": "broken"}

    async with open_world(small(small_images), Hooks(page=page)) as world:
        with pytest.raises(Outage):
            await world.stage(StageName.EXTRACT, "stage")
        audit = await world.run("run")
        assert audit.status is RunStatus.FAILED
        assert audit.notes is not None
        assert "api" in audit.notes


async def test_changed_metadata_is_updated_and_counters_alone_are_not(
    open_world: OpenWorld, small_images: Path
) -> None:
    edits: dict[str, object] = {}

    def listing(items: list[dict[str, object]]) -> list[object]:
        return [item | edits for item in items]

    async with open_world(small(small_images, 20), Hooks(listing=listing)) as world:
        await world.run("first")

        edits["views"] = 123_456
        popular = await world.run("popular")
        edits["source"] = "somewhere else"
        edited = await world.run("edited")

        assert (popular.metadata_updated, popular.metadata_unchanged) == (0, 20)
        assert (edited.metadata_updated, edited.metadata_unchanged) == (20, 0)
        views = "SELECT DISTINCT views FROM draenei_content.wallpaper_counters"
        assert await world.value(views) == 123_456


async def test_what_another_search_knows_stops_no_reading(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 90)) as world:
        other = world.settings.model_copy(update={"wallhaven_atleast": "1x1"})
        async with open_runtime(other, EVERYTHING, SilentProgress()) as runtime:
            await run_all_stages(
                runtime, Run("tests", "other"), RunOptions(max_pages=1), lambda _: None
            )
        await world.run()
        assert await world.objects() == world.truth()


async def test_only_a_search_with_the_newest_first_stops_early(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 60), wallhaven_order="asc") as world:
        await world.run("first")
        again = await world.run("again")
        assert again.api_requests == 3


async def test_a_run_id_belongs_to_one_search(open_world: OpenWorld, small_images: Path) -> None:
    async with open_world(small(small_images, 10)) as world:
        await world.run()
        other = world.settings.model_copy(update={"wallhaven_query": "other"})
        async with open_runtime(other, EVERYTHING, SilentProgress()) as runtime:
            with pytest.raises(OtherSearch, match="another --run-id"):
                await run_one_stage(runtime, StageName.EXTRACT, Run("tests", "run"), RunOptions())


async def test_what_was_stored_keeps_the_address_it_came_from(
    open_world: OpenWorld, small_images: Path
) -> None:
    moved: dict[str, object] = {}

    def listing(items: list[dict[str, object]]) -> list[object]:
        return [item | moved for item in items]

    async with open_world(small(small_images, 5), Hooks(listing=listing)) as world:
        await world.run("first")
        columns = "SELECT url, file_size, file_type FROM draenei_content.wallpapers ORDER BY id"
        before = await world.rows(columns)
        moved.update(path="https://w.wallhaven.cc/new.png", file_size=1, file_type="image/png")

        second = await world.run("second")
        third = await world.run("third")

        assert await world.rows(columns) == before
        pending = "SELECT DISTINCT pending_url FROM draenei_content.wallpapers"
        assert await world.value(pending) == "https://w.wallhaven.cc/new.png"
        assert (second.metadata_updated, third.metadata_updated) == (5, 0)


async def test_what_a_dead_run_left_damaged_does_not_stop_the_living(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 30)) as world:
        await world.stage(StageName.EXTRACT, "dead")
        await world.rows("UPDATE draenei_content.run_audit SET status = 'failed'")
        await world.rows("DELETE FROM draenei_content.staged_wallpapers WHERE position = 0")

        audit = await world.run("living")

        assert audit.status is RunStatus.SUCCEEDED
        assert await world.objects() == world.truth()


async def test_staged_rows_that_went_missing_fail_their_own_run(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 30)) as world:
        await world.stage(StageName.EXTRACT)
        await world.rows("DELETE FROM draenei_content.staged_wallpapers WHERE position = 0")
        with pytest.raises(StagingMismatch):
            await world.stage(StageName.LOAD)


async def test_an_audit_that_is_repeated_says_the_same(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 5)) as world:
        first = await world.run()
        async with anyio.create_task_group() as audits:
            for _ in range(6):
                audits.start_soon(world.stage, StageName.AUDIT)
        assert await world.stage(StageName.AUDIT) == first
