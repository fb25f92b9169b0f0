"""Backfill on real parts: all that is listed, whatever changes or stops it, and certified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from world import EVERYTHING, OpenWorld, World

from collector.cli.progress import SilentProgress
from collector.core.audit import AuditRow
from collector.core.planning import backfill_api_calls
from collector.core.runs import Json, Run, RunStatus
from collector.runtime.backfilling import (
    BackfillOptions,
    find_crawl,
    is_over,
    run_backfill,
    run_for,
)
from collector.runtime.opening import RunOptions, Runtime, open_runtime
from collector.runtime.running import run_all_stages
from collector.simulator import Hooks, Profile, SimulatorOptions
from collector.simulator.population import Wallpaper
from collector.simulator.profile import Drift, Listing

WHOLE = BackfillOptions()


def profiled(images: Path, pages: int, **sections: Any) -> SimulatorOptions:
    """Return options of a simulator with so many pages of small pictures and no rate limit."""
    profile = Profile(**sections)
    return SimulatorOptions.of(profile, wallpapers=24 * pages, images=images, requests_per_minute=0)


async def backfill(world: World, options: BackfillOptions = WHOLE, name: str = "run") -> AuditRow:
    """Call it as the command does."""
    known = await find_crawl(world.runtime, options)
    assert not is_over(known, options)
    run = run_for(known, Run("tests", name))
    return await run_backfill(world.runtime, run, options, lambda _: None)


class _StopsAfter(SilentProgress):
    """Calls `stop` once so many pages are staged."""

    def __init__(self, pages: int, stop: Callable[[], None]) -> None:
        self._left, self._stop = pages, stop

    def advance(self, task: str, items: int, size_bytes: int = 0) -> None:
        if task == "pages":
            self._left -= items
            if self._left == 0:
                self._stop()


async def interrupted_backfill(world: World, pages: int, name: str = "run") -> AuditRow:
    """Call it as the command does, and interrupt it once it has staged so many pages."""
    run = run_for(await find_crawl(world.runtime, WHOLE), Run("tests", name))
    rows: list[AuditRow] = []
    with anyio.CancelScope() as scope:
        world.runtime.progress = _StopsAfter(pages, scope.cancel)
        await run_backfill(world.runtime, run, WHOLE, rows.append)
    world.runtime.progress = SilentProgress()
    assert scope.cancelled_caught
    return rows[-1]


def certificate(row: AuditRow) -> dict[str, Json]:
    found = row.report["certificate"]
    assert isinstance(found, dict)
    return found


def pages_asked(world: World) -> list[int]:
    visits = [visit for visit in world.simulator.journal.visits if visit.kind == "search"]
    return [int(visit.query["page"]) for visit in visits]


async def test_all_of_a_list_is_mirrored_and_certified(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(profiled(small_images, 30), upload_batch_limit=1) as world:
        row = await backfill(world)

        assert (row.status, row.metadata_inserted) == (RunStatus.SUCCEEDED, 720)
        assert await world.objects() == world.truth()
        assert certificate(row) == {
            "verdict": "complete",
            "explanation": "every item that the site counts was seen, and the total did not change",
            "seen": 720,
            "total_at_start": 720,
            "total_at_end": 720,
            "difference": 0,
            "duplicates": 72,
            "pages": 30,
            "missing_pages": 0,
            "pages_read_again": 3,
            "short_pages": [],
            "unreadable_pages": [],
        }
        assert row.api_requests == len(pages_asked(world)) == 33
        seen = row.metadata_inserted + row.metadata_unchanged + row.metadata_invalid
        assert (seen, row.report["duplicates"]) == (720, 72)


async def test_it_is_read_oldest_first_whatever_the_settings_sort_by(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(profiled(small_images, 2), wallhaven_sorting="views") as world:
        await backfill(world)
        (visit, *_) = world.simulator.journal.visits
        assert (visit.query["sorting"], visit.query["order"]) == ("date_added", "asc")


async def test_once_complete_there_is_nothing_to_do_but_again(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(profiled(small_images, 2)) as world:
        await backfill(world)
        known = await find_crawl(world.runtime, WHOLE)
        assert is_over(known, WHOLE)

        again = await backfill(world, BackfillOptions(again=True), "again")

        assert (again.run_id, again.metadata_unchanged) == ("again", 48)
        assert again.images_uploaded == again.images_adopted == 0


async def test_after_a_whole_backfill_a_run_reads_one_page(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(profiled(small_images, 3)) as world:
        await backfill(world)
        asked = len(pages_asked(world))
        row = await world.run("daily")
        assert pages_asked(world)[asked:] == [1]
        assert (row.metadata_unchanged, row.images_uploaded) == (24, 0)


async def test_after_a_part_of_it_a_run_reads_all(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(profiled(small_images, 3)) as world:
        await backfill(world, BackfillOptions(from_page=2))
        asked = len(pages_asked(world))
        await world.run("daily")
        assert pages_asked(world)[asked:] == [1, 2, 3]


@pytest.mark.slow
async def test_it_comes_to_the_end_however_often_it_is_interrupted_and_stages_no_page_twice(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(profiled(small_images, 30)) as world:
        for number in range(4):
            audit = await interrupted_backfill(world, 7, f"{number}")
            assert (audit.run_id, audit.status) == ("0", RunStatus.INTERRUPTED)
            assert certificate(audit)["verdict"] is None
            assert audit.notes is not None
            assert "crawl open" in audit.notes

        row = await backfill(world, name="last")

        assert row.run_id == "0", "a crawl is one run"
        assert (certificate(row)["verdict"], certificate(row)["pages_read_again"]) == (
            "complete",
            3,
        )
        assert await world.objects() == world.truth()
        assert row.metadata_inserted == 720
        assert row.images_uploaded + row.images_adopted == 720


@pytest.mark.slow
async def test_pages_are_read_and_images_are_stored_at_once(
    open_world: OpenWorld, small_images: Path
) -> None:
    order: list[str] = []

    def page(number: int, answer: dict[str, Any]) -> dict[str, Any]:
        order.append("page")
        return answer

    async def image(request: web.Request, _: object) -> None:
        order.append("image")

    options = profiled(small_images, 60)
    async with open_world(options, Hooks(page=page, image=image)) as world:
        await backfill(world)
        last_page = len(order) - 1 - order[::-1].index("page")
        assert order.index("image") < last_page


@pytest.mark.slow
async def test_uploads_and_deletions_meanwhile_hide_nothing_that_stays(
    open_world: OpenWorld, small_images: Path
) -> None:
    drift = Drift(uploads_per_100_requests=30, deletions_per_100_requests=20, deleted_images="kept")
    async with open_world(profiled(small_images, 40, drift=drift)) as world:
        before = {wallpaper.id for wallpaper in world.simulator.inventory.wallpapers()}
        row = await backfill(world)

        there = before & {wallpaper.id for wallpaper in world.simulator.inventory.wallpapers()}
        stored = await world.rows(
            "SELECT wallhaven_id FROM draenei_content.wallpapers WHERE s3_key IS NOT NULL"
        )
        assert there <= {each["wallhaven_id"] for each in stored}
        assert certificate(row)["verdict"] == "explained", certificate(row)
        assert row.status is RunStatus.SUCCEEDED


async def test_a_part_of_the_list(open_world: OpenWorld, small_images: Path) -> None:
    async with open_world(profiled(small_images, 9)) as world:
        row = await backfill(world, BackfillOptions(from_page=3, to_page=5))
        assert set(pages_asked(world)) == {3, 4, 5}
        assert (row.images_uploaded, certificate(row)["verdict"]) == (72, "complete")


async def test_the_limit_is_of_each_call_and_leaves_the_crawl_open(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(profiled(small_images, 3)) as world:
        first = await backfill(world, BackfillOptions(limit=30))
        assert first.images_uploaded == 30
        second = await backfill(world, BackfillOptions(limit=30))
        assert second.images_uploaded == 60
        last = await backfill(world)
        assert (last.images_uploaded, certificate(last)["verdict"]) == (72, "complete")
        assert is_over(await find_crawl(world.runtime, WHOLE), WHOLE)


async def test_a_page_that_stays_short_makes_it_incomplete(
    open_world: OpenWorld, small_images: Path
) -> None:
    listing = Listing(short_pages=(2,), faulty_times=0)
    async with open_world(profiled(small_images, 3, listing=listing)) as world:
        row = await backfill(world)
        assert row.status is RunStatus.PARTIAL
        assert (certificate(row)["verdict"], certificate(row)["difference"]) == ("incomplete", -22)
        assert row.notes is not None
        assert "22 items are counted" in row.notes

        again = await backfill(world, name="again")
        assert again.run_id == "again", "an incomplete crawl is over; the next one begins anew"


@pytest.mark.case("API-29")
async def test_a_page_that_cannot_be_read_is_named_and_all_others_are_mirrored(
    open_world: OpenWorld, small_images: Path
) -> None:
    broken = {"pages": {3}}

    def page(number: int, answer: dict[str, Any]) -> dict[str, Any]:
        return {"error": "broken"} if number in broken["pages"] else answer

    async with open_world(profiled(small_images, 5), Hooks(page=page)) as world:
        row = await backfill(world)

        assert (row.status, row.images_uploaded) == (RunStatus.PARTIAL, 96)
        assert certificate(row)["verdict"] == "incomplete"
        assert certificate(row)["unreadable_pages"] == [3]
        assert row.notes == "crawl incomplete: pages that could not be read: 3"
        assert not is_over(await find_crawl(world.runtime, WHOLE), WHOLE)

        # The same command tries that page alone again, and comes to an end each time.
        asked = len(pages_asked(world))
        again = await backfill(world, name="again")
        assert (again.run_id, again.status) == (row.run_id, RunStatus.PARTIAL)
        assert certificate(again)["unreadable_pages"] == [3]
        asked_again = pages_asked(world)[asked:]
        assert set(asked_again) <= {3, 5, 1}
        assert len(asked_again) < 25

        broken["pages"] = set()
        mended = await backfill(world, name="mended")
        assert (mended.run_id, mended.status) == (row.run_id, RunStatus.SUCCEEDED)
        assert (mended.images_uploaded, certificate(mended)["verdict"]) == (120, "complete")
        assert await world.objects() == world.truth()


@pytest.mark.case("API-29")
async def test_all_is_read_anew_where_that_is_asked_for(
    open_world: OpenWorld, small_images: Path
) -> None:
    def page(number: int, answer: dict[str, Any]) -> dict[str, Any]:
        return {"error": "broken"} if number == 2 else answer

    async with open_world(profiled(small_images, 3), Hooks(page=page)) as world:
        await backfill(world)
        known = await find_crawl(world.runtime, WHOLE)
        new = Run("tests", "anew")
        assert run_for(known, new, again=True) == new
        assert run_for(known, new).run_id == "run"


@pytest.mark.case("API-29")
async def test_the_first_page_may_be_the_one_that_cannot_be_read(
    open_world: OpenWorld, small_images: Path
) -> None:
    def page(number: int, answer: dict[str, Any]) -> dict[str, Any]:
        return {"error": "broken"} if number == 1 else answer

    async with open_world(profiled(small_images, 3), Hooks(page=page)) as world:
        row = await backfill(world)
        assert (row.status, row.images_uploaded) == (RunStatus.PARTIAL, 48)
        assert certificate(row)["unreadable_pages"] == [1]


@pytest.mark.case("API-29")
async def test_a_site_of_which_only_one_page_comes_fails_the_run(
    open_world: OpenWorld, small_images: Path
) -> None:
    def page(number: int, answer: dict[str, Any]) -> dict[str, Any]:
        return answer if number == 1 else {"error": "broken"}

    async with open_world(profiled(small_images, 60), Hooks(page=page)) as world:
        row = await backfill(world)
        assert row.status is RunStatus.FAILED
        assert row.notes is not None
        assert "pages given up" in row.notes
        assert row.images_uploaded == 24


@pytest.mark.case("API-30")
@pytest.mark.parametrize("beyond_last", ["empty", "bad_request"])
async def test_a_list_that_has_shrunk_since_holds_nobody_up(
    open_world: OpenWorld, small_images: Path, beyond_last: str
) -> None:
    listing = Listing(beyond_last=beyond_last)
    async with open_world(profiled(small_images, 10, listing=listing)) as world:
        await interrupted_backfill(world, 2)
        assert pages_asked(world) == [1, 10]
        # The newest three pages go, as if all of one uploader were deleted.
        world.simulator.inventory._deleted.update(dict.fromkeys(range(72)))

        row = await backfill(world)

        assert pages_asked(world)[2] == 9, "it has fallen off the end"
        # The images of those that were listed on page 10 are gone, too.
        assert row.notes is None or row.notes.startswith("images that failed: ")
        assert certificate(row)["verdict"] == "explained"
        assert row.images_uploaded >= 168


async def test_a_last_page_that_never_comes_costs_little(
    open_world: OpenWorld, small_images: Path
) -> None:
    def page(number: int, answer: dict[str, Any]) -> dict[str, Any]:
        answer["meta"]["last_page"] = max(7, number) + 3
        return answer

    async with open_world(profiled(small_images, 7), Hooks(page=page)) as world:
        row = await backfill(world)
        assert (row.status, certificate(row)["verdict"]) == (RunStatus.SUCCEEDED, "complete")
        assert certificate(row)["missing_pages"] == 0
        # 1,727 before, with eight readers.
        assert len(pages_asked(world)) <= 7 + 8
        assert is_over(await find_crawl(world.runtime, WHOLE), WHOLE)


async def test_a_total_that_lies_too_is_not_certified(
    open_world: OpenWorld, small_images: Path
) -> None:
    def page(number: int, answer: dict[str, Any]) -> dict[str, Any]:
        answer["meta"] |= {"last_page": 1000, "total": 24_000}
        return answer

    async with open_world(profiled(small_images, 7), Hooks(page=page)) as world:
        row = await backfill(world)
        assert row.status is RunStatus.PARTIAL
        assert certificate(row)["verdict"] == "incomplete"
        assert row.notes is not None
        assert "23832 items are counted" in row.notes
        assert len(pages_asked(world)) < 100


@pytest.mark.case("API-31")
async def test_a_list_that_is_empty_is_certified_by_name(
    open_world: OpenWorld, small_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(profiled(small_images, 2), wallhaven_query="+nothing") as world:
        row = await backfill(world)
        assert (row.status, row.metadata_inserted) == (RunStatus.SUCCEEDED, 0)
        assert row.notes is not None
        assert "the search matches nothing: wallhaven?" in row.notes
        assert certificate(row)["verdict"] == "complete"
        assert certificate(row)["explanation"] == "the list is empty: the search matches nothing"
        assert any("the search matches nothing" in text for text in caplog.messages)


@pytest.mark.slow
async def test_a_broken_api_lets_the_images_that_are_known_be_stored(
    open_world: OpenWorld, small_images: Path
) -> None:
    broken = {"yes": True}

    def page(number: int, answer: dict[str, Any]) -> dict[str, Any]:
        return {"error": "broken"} if broken["yes"] else answer

    async with open_world(profiled(small_images, 26), Hooks(page=page)) as world:
        broken["yes"] = False
        await interrupted_backfill(world, 2)
        broken["yes"] = True

        failed = await backfill(world)

        assert failed.status is RunStatus.FAILED
        assert failed.images_uploaded == failed.metadata_inserted > 24
        broken["yes"] = False
        row = await backfill(world)
        assert (row.status, certificate(row)["verdict"]) == (RunStatus.SUCCEEDED, "complete")
        assert await world.objects() == world.truth()


async def test_a_store_that_is_down_stops_the_reading_and_loses_nothing(
    open_world: OpenWorld, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(request: web.Request, _: object) -> web.StreamResponse:
        return web.Response(status=503)

    hooks = Hooks(image=refuse)
    async with open_world(profiled(small_images, 60), hooks) as world:
        row = await backfill(world)

        assert row.status is RunStatus.FAILED
        assert row.notes is not None
        assert "the image host fails" in row.notes
        assert row.report["images_dead"] == 0
        attempts = "SELECT max(attempts) FROM draenei_content.transfers"
        assert await world.value(attempts) == 0


async def test_a_collection_can_be_mirrored(open_world: OpenWorld, small_images: Path) -> None:
    async with open_world(profiled(small_images, 4), wallhaven_collection="Archon/15") as world:
        row = await backfill(world)
        assert certificate(row)["verdict"] == "complete"
        assert row.images_uploaded == certificate(row)["seen"]


@pytest.mark.slow
async def test_two_at_once_read_the_list_once_and_go_on_with_one_crawl(
    open_world: OpenWorld, small_images: Path
) -> None:
    rows: list[AuditRow] = []
    async with (
        open_world(profiled(small_images, 27)) as world,
        open_runtime(world.settings, EVERYTHING, SilentProgress()) as other,
    ):

        async def fill(runtime: Runtime, name: str) -> None:
            rows.append(await run_backfill(runtime, Run("tests", name), WHOLE, lambda _: None))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fill, world.runtime, "one")
            tasks.start_soon(fill, other, "other")

        assert rows[0].run_id == rows[1].run_id
        assert [certificate(row)["verdict"] for row in rows] == ["complete"] * 2
        assert len(pages_asked(world)) == backfill_api_calls(27)
        assert world.simulator.journal.requests["image"] == 24 * 27
        assert await world.objects() == world.truth()
        assert await world.value("SELECT count(*) FROM draenei_content.run_audit") == 1
        assert is_over(await find_crawl(world.runtime, WHOLE), WHOLE)


@pytest.mark.slow
async def test_a_run_at_the_same_time_shares_the_work(
    open_world: OpenWorld, small_images: Path
) -> None:
    rows: list[AuditRow] = []
    async with (
        open_world(profiled(small_images, 27)) as world,
        open_runtime(world.settings, EVERYTHING, SilentProgress()) as other,
    ):

        async def fill() -> None:
            rows.append(await backfill(world))

        async def run() -> None:
            daily = Run("tests", "daily")
            rows.append(await run_all_stages(other, daily, RunOptions(), lambda _: None))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fill)
            tasks.start_soon(run)

        assert sum(row.metadata_inserted for row in rows) == 24 * 27
        assert sum(row.images_uploaded for row in rows) == 24 * 27
        assert world.simulator.journal.requests["image"] == 24 * 27
        assert await world.objects() == world.truth()
        assert is_over(await find_crawl(world.runtime, WHOLE), WHOLE)


async def test_an_image_that_failed_twice_is_tried_again_by_the_same_command(
    open_world: OpenWorld, small_images: Path
) -> None:
    failing = {"tries": 3}

    async def image(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse | None:
        if wallpaper.index or not failing["tries"]:
            return None
        failing["tries"] -= 1
        return web.Response(status=500)

    async with open_world(profiled(small_images, 2), Hooks(image=image)) as world:
        first = await backfill(world)
        assert (certificate(first)["verdict"], first.images_uploaded) == ("complete", 47)
        assert not is_over(await find_crawl(world.runtime, WHOLE), WHOLE)

        last = await backfill(world)
        assert (last.run_id, last.images_uploaded) == (first.run_id, 48)
        assert is_over(await find_crawl(world.runtime, WHOLE), WHOLE)
        assert len(pages_asked(world)) == backfill_api_calls(2)
