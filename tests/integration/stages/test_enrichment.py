"""The enrichment on real parts: what it writes, in which order it asks, and what it outlives."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from world import OpenWorld, World, small

from collector.core.audit import AuditRow
from collector.core.errors import Refusal
from collector.core.runs import Run, RunStatus, StageName, StageReport
from collector.runtime.opening import RunOptions
from collector.runtime.running import ENRICHMENT, run_all_stages
from collector.simulator import Hooks
from collector.simulator.population import Wallpaper
from collector.stages.enrich import MAX_UNUSABLE_IN_A_ROW, WALLPAPERS_IN_FLIGHT

Edit = Callable[[dict[str, Any]], dict[str, Any] | None]

TAGS = """
SELECT w.wallhaven_id, t.tag_id, t.name, t.alias, t.category_id, t.category, t.purity,
    t.source_created_at::text AS created_at
FROM draenei_content.wallpapers AS w
JOIN draenei_content.wallpaper_tags AS wt ON wt.wallpaper_id = w.id
JOIN draenei_content.tags AS t USING (tag_id)
"""
UPLOADERS = """
SELECT w.wallhaven_id, u.username, u.group_name
FROM draenei_content.wallpapers AS w
JOIN draenei_content.wallpaper_details AS d ON d.wallpaper_id = w.id
JOIN draenei_content.uploaders AS u ON u.id = d.uploader_id
WHERE d.enriched_at IS NOT NULL
"""
DETAILS = """
SELECT d.* FROM draenei_content.wallpaper_details AS d
JOIN draenei_content.wallpapers AS w ON w.id = d.wallpaper_id WHERE w.wallhaven_id = $1
"""
EVERYTHING_DUE = "UPDATE draenei_content.wallpaper_details SET next_attempt_at = now()"


async def listed(world: World) -> None:
    """Read the search, so that there are wallpapers to ask about."""
    await world.stage(StageName.EXTRACT)
    await world.stage(StageName.LOAD)


async def enriched(world: World, run_id: str = "enrich", limit: int | None = None) -> AuditRow:
    """Run an enrichment; return its audit row."""
    options = RunOptions(limit=limit)
    run = Run("tests", run_id)
    return await run_all_stages(world.runtime, run, options, lambda _: None, ENRICHMENT)


def asked(world: World) -> list[str]:
    """Return the ids that were asked about, in order."""
    return [visit.path.rpartition("/")[2] for visit in world.simulator.journal.of("wallpaper")]


def dearest(world: World) -> list[Wallpaper]:
    """Return the wallpapers in the order in which they are to be asked about."""
    return sorted(world.simulator.catalogue, key=lambda each: (-each.favorites, each.created_at))


async def assert_all_is_true(world: World, wallpapers: list[Wallpaper]) -> None:
    tags = {
        (each.id, tag.id, tag.name, tag.alias, tag.category_id, tag.category, tag.purity,
         f"{tag.created_at}+00")
        for each in wallpapers
        for tag in each.tags
    }  # fmt: skip
    assert {tuple(row) for row in await world.rows(TAGS)} == tags
    uploaders = {(each.id, each.uploader.username, each.uploader.group) for each in wallpapers}
    assert {tuple(row) for row in await world.rows(UPLOADERS)} == uploaders


def only(wallhaven_id: Callable[[], str], edit: Edit) -> Hooks:
    """Return hooks that edit what is said of one wallpaper."""
    return Hooks(details=lambda said: edit(said) if said["id"] == wallhaven_id() else said)


async def test_every_wallpaper_has_the_tags_and_the_uploader_of_its_source(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images)) as world:
        await listed(world)
        audit = await enriched(world)

        wallpapers = list(world.simulator.catalogue)
        await assert_all_is_true(world, wallpapers)
        assert (audit.status, audit.notes, audit.api_requests) == (RunStatus.SUCCEEDED, None, 60)
        assert audit.report["enrichment"] == {
            "enriched": 60,
            "missing": 0,
            "unusable": 0,
            "tags": sum(len(each.tags) for each in wallpapers),
            "rejected_tags": 0,
        }
        assert sorted(asked(world)) == sorted(each.id for each in wallpapers)
        share = await world.runtime.catalog.enrichments.share()
        assert (share.wallpapers, share.enriched, share.percent) == (60, 60, 100.0)


async def test_the_limit_goes_to_the_wallpapers_with_the_most_favourites(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images)) as world:
        await listed(world)
        first = await enriched(world, "first", 10)
        assert set(asked(world)) == {each.id for each in dearest(world)[:10]}
        assert first.report["enrichment"]["enriched"] == 10
        assert (await world.runtime.catalog.enrichments.share()).percent == 16.67

        await enriched(world, "second", 10)
        assert set(asked(world)[10:]) == {each.id for each in dearest(world)[10:20]}
        await enriched(world, "second", 10)
        assert len(asked(world)) == 20, "the limit is of the run"


async def test_favourites_that_change_change_the_order(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images)) as world:
        await listed(world)
        await enriched(world, "first", 1)
        last = dearest(world)[-1].id
        await world.rows(
            "UPDATE draenei_content.wallpaper_counters SET favorites = 1000000"
            " FROM draenei_content.wallpapers AS w"
            " WHERE w.id = wallpaper_id AND w.wallhaven_id = $1",
            last,
        )
        await enriched(world, "second", 1)
        assert asked(world)[1:] == [last]


async def test_what_is_fresh_is_not_asked_about_and_what_is_old_is_the_oldest_first(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 12)) as world:
        await listed(world)
        await enriched(world, "first")
        again = await enriched(world, "again")
        assert len(asked(world)) == 12
        assert (again.status, again.api_requests) == (RunStatus.SUCCEEDED, 0)

        old = [each.id for each in dearest(world)[3:6]]
        for age, wallhaven_id in enumerate(old):
            await world.rows(
                "UPDATE draenei_content.wallpaper_details AS d"
                " SET next_attempt_at = now() - make_interval(days => $2)"
                " FROM draenei_content.wallpapers AS w"
                " WHERE w.id = d.wallpaper_id AND w.wallhaven_id = $1",
                wallhaven_id,
                age + 1,
            )
        await enriched(world, "later", 2)
        assert set(asked(world)[12:]) == {old[2], old[1]}


async def test_tags_that_a_wallpaper_has_lost_are_taken_away_and_changed_ones_are_updated(
    open_world: OpenWorld, small_images: Path
) -> None:
    later: list[bool] = []

    def edit(said: dict[str, Any]) -> dict[str, Any]:
        if not later:
            return said
        uploader = said["uploader"] | {"group": "Moderator"}
        return said | {"tags": [said["tags"][0] | {"name": "renamed"}], "uploader": uploader}

    async with open_world(small(small_images, 5), Hooks(details=edit)) as world:
        await listed(world)
        await enriched(world, "first")
        later.append(True)
        await world.rows(EVERYTHING_DUE)
        await enriched(world, "second")

        rows = await world.rows(TAGS)
        assert len(rows) == 5
        assert {row["name"] for row in rows} == {"renamed"}
        assert {row["group_name"] for row in await world.rows(UPLOADERS)} == {"Moderator"}


async def test_an_interrupted_run_loses_no_answer_and_repeats_no_call(
    open_world: OpenWorld, small_images: Path
) -> None:
    calls = Counter[str]()
    scope = anyio.CancelScope()

    def edit(said: dict[str, Any]) -> dict[str, Any]:
        calls[said["id"]] += 1
        if calls.total() == 10:
            scope.cancel()
        return said

    async with open_world(small(small_images, 30), Hooks(details=edit)) as world:
        await listed(world)
        with scope:
            await enriched(world)
        assert scope.cancelled_caught
        status = "SELECT status FROM draenei_content.run_audit WHERE run_id = 'enrich'"
        assert await world.value(status) == "interrupted"
        saved = {row["wallhaven_id"] for row in await world.rows(UPLOADERS)}
        assert 10 - WALLPAPERS_IN_FLIGHT <= len(saved) <= 10
        assert await world.value("SELECT count(owner) FROM draenei_content.wallpaper_details") == 0

        audit = await enriched(world)

        await assert_all_is_true(world, list(world.simulator.catalogue))
        assert audit.status is RunStatus.SUCCEEDED
        assert audit.report["enrichment"]["enriched"] == 30
        assert {calls[wallhaven_id] for wallhaven_id in saved} == {1}
        assert calls.total() <= 30 + WALLPAPERS_IN_FLIGHT


async def test_what_a_killed_process_had_in_hand_comes_back(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 8)) as world:
        await listed(world)
        dead = world.runtime.catalog.enrichments
        await dead.enlist(nsfw=False)
        held = {target.wallhaven_id for target in await dead.claim(3)}
        assert held == {each.id for each in dearest(world)[:3]}

        await enriched(world, "meanwhile")
        assert len(asked(world)) == 5
        assert held.isdisjoint(asked(world))

        await world.rows(
            "UPDATE draenei_content.wallpaper_details SET lease_until = now()"
            " WHERE owner IS NOT NULL"
        )
        await enriched(world, "later")
        assert set(asked(world)[5:]) == held


async def test_several_at_once_never_have_the_same_in_hand(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images)) as world:
        await listed(world)
        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(enriched, world, f"run{number}")
        await assert_all_is_true(world, list(world.simulator.catalogue))
        assert len(asked(world)) == 60


async def test_a_404_is_noted_deletes_nothing_and_is_asked_about_much_later(
    open_world: OpenWorld, small_images: Path
) -> None:
    there: list[bool] = []
    gone = dearest
    hooks = only(lambda: gone_id[0], lambda said: said if there else None)
    gone_id = [""]
    async with open_world(small(small_images, 10), hooks) as world:
        gone_id[0] = gone(world)[0].id
        await listed(world)
        audit = await enriched(world, "first")

        assert audit.status is RunStatus.SUCCEEDED
        enrichment = audit.report["enrichment"]
        assert (enrichment["enriched"], enrichment["missing"]) == (9, 1)
        assert await world.value("SELECT count(*) FROM draenei_content.wallpapers") == 10
        (row,) = await world.rows(DETAILS, gone_id[0])
        assert (row["enriched_at"], row["attempts"]) == (None, 0)
        assert (row["next_attempt_at"] - row["missing_at"]).days == 30

        await enriched(world, "second")
        assert len(asked(world)) == 10
        there.append(True)
        await world.rows(EVERYTHING_DUE)
        await enriched(world, "third")
        await assert_all_is_true(world, list(world.simulator.catalogue))
        (row,) = await world.rows(DETAILS, gone_id[0])
        assert row["missing_at"] is None


@pytest.mark.parametrize(
    "edit",
    [
        lambda said: said | {"id": "zzzzzz"},
        lambda said: said | {"path": None},
    ],
    ids=["another wallpaper's", "no row"],
)
async def test_an_answer_that_is_of_no_use_changes_nothing_and_holds_up_nobody(
    open_world: OpenWorld, small_images: Path, caplog: pytest.LogCaptureFixture, edit: Edit
) -> None:
    odd = [""]
    async with open_world(small(small_images, 10), only(lambda: odd[0], edit)) as world:
        odd[0] = dearest(world)[0].id
        await listed(world)
        audit = await enriched(world, "first")

        enrichment = audit.report["enrichment"]
        assert (enrichment["enriched"], enrichment["unusable"]) == (9, 1)
        assert audit.status is RunStatus.PARTIAL
        assert f"{odd[0]}: unusable answer, to be requested again" in caplog.text
        await assert_all_is_true(world, dearest(world)[1:])
        (row,) = await world.rows(DETAILS, odd[0])
        assert (row["enriched_at"], row["missing_at"], row["attempts"]) == (None, None, 1)
        assert asked(world).count(odd[0]) == 1
        await enriched(world, "second")
        assert len(asked(world)) == 10


async def test_answers_that_are_all_of_no_use_are_an_outage(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 30), Hooks(details=lambda _: {})) as world:
        await listed(world)
        audit = await enriched(world)
        assert audit.status is RunStatus.FAILED
        assert audit.notes == "enrich: api: 10 unusable answers in a row"
        assert audit.report["enrichment"]["unusable"] >= MAX_UNUSABLE_IN_A_ROW
        assert len(asked(world)) <= MAX_UNUSABLE_IN_A_ROW + WALLPAPERS_IN_FLIGHT


async def test_a_tag_that_cannot_become_a_row_is_counted_and_logged(
    open_world: OpenWorld, small_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def edit(said: dict[str, Any]) -> dict[str, Any]:
        return said | {"tags": [*said["tags"], {"id": 0, "name": "nothing"}]}

    async with open_world(small(small_images, 3), Hooks(details=edit)) as world:
        await listed(world)
        audit = await enriched(world)
        assert audit.report["enrichment"]["rejected_tags"] == 3
        assert audit.status is RunStatus.PARTIAL
        assert caplog.text.count("a tag is left out: id: ") == 3
        await assert_all_is_true(world, list(world.simulator.catalogue))


async def test_counters_follow_the_answer_and_the_wide_row_does_not(
    open_world: OpenWorld, small_images: Path
) -> None:
    def edit(said: dict[str, Any]) -> dict[str, Any]:
        return said | {"views": 777_777, "favorites": 999, "purity": "sketchy"}

    async with open_world(small(small_images, 3), Hooks(details=edit)) as world:
        await listed(world)
        before = await world.rows("SELECT * FROM draenei_content.wallpapers ORDER BY id")
        await enriched(world)
        assert await world.rows("SELECT * FROM draenei_content.wallpapers ORDER BY id") == before
        counters = "SELECT DISTINCT views, favorites FROM draenei_content.wallpaper_counters"
        assert [tuple(row) for row in await world.rows(counters)] == [(777_777, 999)]


async def test_a_guest_is_refused_what_is_nsfw_and_goes_on(
    open_world: OpenWorld, small_images: Path
) -> None:
    key = "K" * 32
    options = small(small_images, 20, nsfw_share=0.4, api_keys=frozenset([key]))
    nsfw = {"wallhaven_purity": "111", "wallhaven_api_key": key}
    async with open_world(options, **nsfw) as world:
        await listed(world)
        hidden = {each.id for each in world.simulator.catalogue if each.purity == "nsfw"}
        assert 0 < len(hidden) < 20
        became = min(hidden)
        await world.rows(
            "UPDATE draenei_content.wallpapers SET purity = 'sfw' WHERE wallhaven_id = $1", became
        )
        world.runtime.settings = world.settings.model_copy(update={"wallhaven_api_key": None})
        audit = await enriched(world, "guest")
        assert audit.status is RunStatus.SUCCEEDED
        assert hidden & set(asked(world)) == {became}
        assert audit.report["enrichment"]["missing"] == 1

        world.runtime.settings = world.settings
        await world.rows(EVERYTHING_DUE)
        await enriched(world, "keyed")
        await assert_all_is_true(world, list(world.simulator.catalogue))


async def test_a_key_that_is_refused_ends_the_run_and_blames_no_wallpaper_for_long(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 5)) as world:
        await listed(world)
        world.runtime.settings = world.settings.model_copy(
            update={"wallhaven_api_key": type(world.settings).model_validate(
                {"wallhaven_api_key": "no"}).wallhaven_api_key}
        )  # fmt: skip
        with pytest.raises(Refusal):
            await world.stage(StageName.ENRICH, "bad")
        held = "SELECT count(owner) FROM draenei_content.wallpaper_details"
        assert await world.value(held) == 0
        later = "SELECT next_attempt_at - now() AS wait FROM draenei_content.wallpaper_details"
        waits = [row["wait"].total_seconds() for row in await world.rows(later)]
        assert len([wait for wait in waits if 0 < wait <= 3_600]) == WALLPAPERS_IN_FLIGHT
        assert max(waits) <= 3_600


async def test_the_stage_by_itself_reports_what_it_counted(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 5)) as world:
        await listed(world)
        report = await world.stage(StageName.ENRICH, "alone", RunOptions(limit=2))
        assert isinstance(report, StageReport)
        tags = sum(len(each.tags) for each in dearest(world)[:2])
        assert dict(report.counts) == {
            "enriched": 2,
            "missing": 0,
            "unusable": 0,
            "tags": tags,
            "rejected_tags": 0,
            "api_requests": 2,
        }


async def test_what_the_original_stored_under_odd_ids_is_left_alone(
    open_world: OpenWorld, small_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with open_world(small(small_images, 3)) as world:
        await world.rows(
            "INSERT INTO draenei_content.wallpapers (wallhaven_id, url) VALUES ('../x', 'u')"
        )
        audit = await enriched(world)
        assert (audit.status, audit.api_requests) == (RunStatus.SUCCEEDED, 0)
