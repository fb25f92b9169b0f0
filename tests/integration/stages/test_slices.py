"""A backfill as a scheduler calls it: a plan, slices in runs of its own, and the audit."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import SecretStr
from world import OpenWorld, World, small

from collector.core import tally
from collector.core.errors import Refusal, RunFailed, SettingsError
from collector.core.runs import Run
from collector.interrupts import Interrupted
from collector.runtime.slices import audit_backfill, plan_slices, run_slice
from collector.simulator import Hooks

WALLPAPERS = 60
FIRST, SECOND = Run("dag", "first"), Run("dag", "second")
AUDITS = "SELECT xmin::text AS version, * FROM draenei_content.run_audit ORDER BY id"
HANDED_ON = (
    *("database_url", "bucket_name", "s3_endpoint_url", "aws_access_key_id"),
    *("aws_secret_access_key", "aws_default_region", "wallhaven_api_url"),
    *("wallhaven_image_hosts", "wallhaven_requests_per_minute", "collector_retry_base_seconds"),
)
Form = dict[str, Any]


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    """A loop in a thread for the world: the calls of a scheduler bring their own."""
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture
def world(
    open_world: OpenWorld,
    small_images: Path,
    portal: BlockingPortal,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """Three pages of wallpapers, and the environment of a task."""
    with portal.wrap_async_context_manager(open_world(small(small_images, WALLPAPERS))) as opened:
        hand_on(opened, monkeypatch)
        yield opened


def hand_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the settings of a world into the environment."""
    for name in HANDED_ON:
        value = getattr(world.settings, name)
        value = value.get_secret_value() if isinstance(value, SecretStr) else value
        monkeypatch.setenv(name.upper(), str(value))


def mirror(form: Form, run: Run) -> list[dict[str, int]]:
    """Plan and do all slices; return what they counted."""
    return [run_slice(form, run, **each) for each in plan_slices(form, run, 1024).slices]


def requests(world: World) -> int:
    return world.simulator.journal.requests["search"]


def test_slices_mirror_the_list_as_one_run(world: World, portal: BlockingPortal) -> None:
    form = {"query": None, "pages_per_slice": 2}
    plan = plan_slices(form, FIRST, 1024)
    assert plan.slices == [{"pages": 2, "stored_before": 0}] * 3
    assert plan.counts.items() >= {"images": 60, "pages": 3, "api_calls": 4, "slices": 3}.items()

    counts = [run_slice(form, FIRST, **each) for each in plan.slices]

    assert 0 < counts[0]["images_uploaded"] < counts[1]["images_uploaded"] == WALLPAPERS
    assert counts[2] == counts[1] == audit_backfill(form, FIRST)
    assert portal.call(world.objects) == world.truth()
    (row,) = portal.call(world.rows, AUDITS)
    assert (row["dag_id"], row["run_id"], row["status"]) == ("dag", "first", "succeeded")


def test_another_run_of_what_is_complete_asks_nothing_and_changes_nothing(
    world: World, portal: BlockingPortal, caplog: pytest.LogCaptureFixture
) -> None:
    mirror({}, FIRST)
    before, asked = portal.call(world.rows, AUDITS), requests(world)
    plan = plan_slices({}, SECOND, 1024)
    assert (plan.counts, plan.slices) == ({"slices": 0}, [])
    counts = run_slice({}, SECOND, pages=450, stored_before=0)
    assert counts == audit_backfill({}, SECOND)
    assert counts["images_uploaded"] == WALLPAPERS
    assert requests(world) == asked
    assert portal.call(world.rows, AUDITS) == before
    assert "nothing to do: this list was read to its end by first (complete)" in caplog.text


def test_again_reads_anew_once(world: World, portal: BlockingPortal) -> None:
    mirror({}, FIRST)
    form = {"again": True}
    plan_slices(form, SECOND, 1024)  # a try that died
    mirror(form, SECOND)
    asked = requests(world)
    assert mirror(form, SECOND) == []
    run_slice(form, SECOND, pages=450, stored_before=0)
    assert requests(world) == asked
    _, row = portal.call(world.rows, AUDITS)
    assert (row["run_id"], row["metadata_unchanged"]) == ("second", WALLPAPERS)
    assert audit_backfill(form, SECOND)["metadata_unchanged"] == WALLPAPERS


def test_again_goes_on_with_what_an_earlier_run_left_open(
    world: World, portal: BlockingPortal
) -> None:
    run_slice({}, FIRST, pages=1, stored_before=0)
    form = {"again": True, "pages_per_slice": 1}
    mirror(form, SECOND)
    (row,) = portal.call(world.rows, AUDITS)
    assert (row["run_id"], row["images_uploaded"]) == ("first", WALLPAPERS)


def test_a_failed_slice_raises_and_another_run_goes_on(
    world: World, portal: BlockingPortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as wrong:
        wrong.setenv("BUCKET_NAME", "another")
        with pytest.raises(Refusal, match="bucket another does not exist"):
            mirror({}, FIRST)
        audit_backfill({}, FIRST)
    (row,) = portal.call(world.rows, AUDITS)
    assert row["status"] == "failed"
    assert "another" in row["notes"]

    mirror({}, SECOND)

    assert audit_backfill({}, SECOND)["images_uploaded"] == WALLPAPERS
    (row,) = portal.call(world.rows, AUDITS)
    assert (row["run_id"], row["status"]) == ("first", "succeeded")


@pytest.mark.case("API-29")
def test_another_run_tries_the_pages_again_that_could_not_be_read(
    open_world: OpenWorld,
    small_images: Path,
    portal: BlockingPortal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = {2}

    def page(number: int, answer: dict[str, Any]) -> dict[str, Any]:
        return {"error": "broken"} if number in broken else answer

    opening = open_world(small(small_images, WALLPAPERS), Hooks(page=page))
    with portal.wrap_async_context_manager(opening) as world:
        hand_on(world, monkeypatch)
        counts = mirror({"pages_per_slice": 4}, FIRST)
        assert counts[-1]["images_uploaded"] == 36
        broken.clear()

        (counts_after,) = mirror({}, SECOND)

        assert counts_after["images_uploaded"] == WALLPAPERS
        assert audit_backfill({}, SECOND) == counts_after
        (row,) = portal.call(world.rows, AUDITS)
        assert (row["run_id"], row["status"]) == ("first", "succeeded")


def test_a_slice_that_is_stopped_hands_back_what_it_had_and_is_gone_on_with(
    open_world: OpenWorld,
    small_images: Path,
    portal: BlockingPortal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signals = [signal.SIGTERM]

    async def stop(*_: object) -> None:
        if signals:
            os.kill(os.getpid(), signals.pop())

    opening = open_world(small(small_images, WALLPAPERS), Hooks(image=stop))
    with portal.wrap_async_context_manager(opening) as world:
        hand_on(world, monkeypatch)
        with pytest.raises(Interrupted):
            mirror({}, FIRST)
        assert audit_backfill({}, FIRST)["images_uploaded"] < WALLPAPERS
        (row,) = portal.call(world.rows, AUDITS)
        assert row["status"] == "interrupted"
        claimed = "SELECT count(*) FROM draenei_content.transfers WHERE state = 'claimed'"
        assert portal.call(world.value, claimed) == 0

        (counts,) = mirror({}, SECOND)
        assert counts["images_uploaded"] + counts["images_adopted"] == WALLPAPERS


def test_a_slice_fails_where_only_the_audit_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR_MAX_IMAGE_BYTES", "10")
    # Else the transfer says so first.
    monkeypatch.setattr(tally, "is_too_many", lambda *_: False)
    with pytest.raises(RunFailed, match=r"run first failed: .*given up") as caught:
        mirror({}, FIRST)
    assert caught.value.run_id == "first"


def test_a_limit_is_of_one_run_and_the_next_one_stores_more(
    world: World, portal: BlockingPortal
) -> None:
    form = {"limit": 26, "pages_per_slice": 1}
    counts = mirror(form, FIRST)
    assert len(counts) == 5
    assert counts[-1]["images_uploaded"] == 26
    asked = requests(world)
    run_slice(form, FIRST, pages=1, stored_before=0)
    assert requests(world) == asked
    assert mirror(form, SECOND)[-1]["images_uploaded"] == 52
    assert mirror(form, Run("dag", "third"))[-1]["images_uploaded"] == WALLPAPERS
    assert portal.call(world.objects) == world.truth()


def test_a_part_of_the_list_costs_its_pages_alone(world: World) -> None:
    plan = plan_slices({"from_page": 2, "to_page": 2, "pages_per_slice": 1}, FIRST, 1024)
    assert (plan.counts["pages"], plan.counts["calls_left"]) == (3, 1)
    assert (
        plan_slices({"pages_per_slice": 1}, FIRST, 2).slices
        == [{"pages": 3, "stored_before": 0}] * 2
    )


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"from_page": 3, "to_page": 2}, "to_page: must not be below from_page, 3"),
        ({"pages": 3}, "pages: the form has no such field; it has query, collection, from_page"),
        ({"query": "elf", "collection": "a/1"}, "collection: excludes query"),
    ],
)
def test_a_wrong_form_is_refused_and_audited(
    world: World, portal: BlockingPortal, caplog: pytest.LogCaptureFixture, form: Form, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        plan_slices(form, FIRST, 1024)
    (line,) = caplog.messages
    assert line.startswith(f"[draenei] {words}")
    assert requests(world) == 0
    audit_backfill(form, FIRST)
    (row,) = portal.call(world.rows, AUDITS)
    assert (row["run_id"], row["status"]) == ("first", "failed")
