"""A backfill as a scheduler calls it: one task, its retries, and runs that go on with it."""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import SecretStr
from world import OpenWorld, World, small

from collector.core import tally
from collector.core.errors import ImagesLeft, Refusal, RunFailed, SettingsError
from collector.interrupts import Interrupted
from collector.runtime.scheduled import backfill
from collector.simulator import Hooks
from collector.simulator.population import Wallpaper

WALLPAPERS = 60
AUDITS = "SELECT xmin::text AS version, * FROM draenei_content.run_audit ORDER BY id"
HANDED_ON = (
    *("database_url", "bucket_name", "s3_endpoint_url", "aws_access_key_id"),
    *("aws_secret_access_key", "aws_default_region", "wallhaven_api_url"),
    *("wallhaven_image_hosts", "wallhaven_requests_per_minute", "collector_retry_base_seconds"),
)
CLAIMED = "SELECT count(*) FROM draenei_content.transfers WHERE state = 'claimed'"
Form = dict[str, Any]


@dataclass(frozen=True)
class DagRun:
    """A run of the scheduler, as it tells a task about it."""

    run_id: str
    dag_id: str = "dag"
    logical_date: datetime | None = None
    start_date: datetime | None = field(default_factory=lambda: datetime.now(UTC))


def first() -> DagRun:
    return DagRun("first")


def second() -> DagRun:
    return DagRun("second")


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


def requests(world: World) -> int:
    return world.simulator.journal.requests["search"]


def test_one_task_mirrors_the_list_and_counts_what_it_cost(
    world: World, portal: BlockingPortal, caplog: pytest.LogCaptureFixture
) -> None:
    counts = backfill({"query": None}, first())

    assert portal.call(world.objects) == world.truth()
    (row,) = portal.call(world.rows, AUDITS)
    assert (row["dag_id"], row["run_id"], row["status"]) == ("dag", "first", "succeeded")
    planned = {"plan_images": 60, "plan_pages": 3, "plan_api_calls": 4, "plan_pages_read": 0}
    done = {"metadata_inserted": WALLPAPERS, "images_uploaded": WALLPAPERS}
    assert counts.items() >= (planned | done).items()
    lines = [line for line in caplog.messages if line.startswith("[draenei] ")]
    plan = next(number for number, line in enumerate(lines) if "plan: images=60" in line)
    assert not [line for line in lines[:plan] if "transfer" in line], "the plan comes first"
    assert "calls_left=4" in lines[plan]


def test_another_run_of_what_is_complete_asks_nothing_and_changes_nothing(
    world: World, portal: BlockingPortal, caplog: pytest.LogCaptureFixture
) -> None:
    counts = backfill({}, first())
    before, asked = portal.call(world.rows, AUDITS), requests(world)

    again = backfill({}, second())

    assert again["images_uploaded"] == counts["images_uploaded"] == WALLPAPERS
    assert requests(world) == asked
    assert portal.call(world.rows, AUDITS) == before
    assert "nothing to do: this list was read to its end by first (complete)" in caplog.text


def test_again_reads_anew_once_in_a_run(world: World, portal: BlockingPortal) -> None:
    backfill({}, first())
    run = second()
    counts = backfill({"again": True}, run)
    assert counts["metadata_unchanged"] == WALLPAPERS
    asked = requests(world)

    assert backfill({"again": True}, run)["metadata_unchanged"] == WALLPAPERS

    assert requests(world) == asked
    assert [row["run_id"] for row in portal.call(world.rows, AUDITS)] == ["first", "second"]


def test_again_goes_on_with_what_an_earlier_run_left_open(
    world: World, portal: BlockingPortal
) -> None:
    backfill({"limit": 1}, first())
    backfill({"again": True}, second())
    (row,) = portal.call(world.rows, AUDITS)
    assert (row["run_id"], row["images_uploaded"]) == ("first", WALLPAPERS)


def test_a_refusal_is_audited_and_another_run_goes_on(
    world: World, portal: BlockingPortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as wrong:
        wrong.setenv("BUCKET_NAME", "another")
        with pytest.raises(Refusal, match="bucket another does not exist"):
            backfill({}, first())
    (row,) = portal.call(world.rows, AUDITS)
    assert row["status"] == "failed"
    assert "another" in row["notes"]

    assert backfill({}, second())["images_uploaded"] == WALLPAPERS

    (row,) = portal.call(world.rows, AUDITS)
    assert (row["run_id"], row["status"]) == ("first", "succeeded")


def test_an_api_that_refuses_a_plan_is_told_by_the_audit(
    open_world: OpenWorld,
    small_images: Path,
    portal: BlockingPortal,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opening = open_world(small(small_images, WALLPAPERS))
    with portal.wrap_async_context_manager(opening) as world:
        hand_on(world, monkeypatch)
        monkeypatch.setenv("WALLHAVEN_API_KEY", "nobody")
        with pytest.raises(Refusal, match="401"):
            backfill({}, first())
        assert "no plan could be made" in caplog.text
        (row,) = portal.call(world.rows, AUDITS)
        assert (row["run_id"], row["status"]) == ("first", "failed")
        assert "401" in row["notes"]


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
        assert backfill({}, first())["images_uploaded"] == 36
        broken.clear()

        assert backfill({}, second())["images_uploaded"] == WALLPAPERS

        (row,) = portal.call(world.rows, AUDITS)
        assert (row["run_id"], row["status"]) == ("first", "succeeded")


def test_images_that_another_attempt_may_store_fail_this_one(
    open_world: OpenWorld,
    small_images: Path,
    portal: BlockingPortal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing = {"attempts": 3}

    async def image(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse | None:
        if wallpaper.index or not failing["attempts"]:
            return None
        failing["attempts"] -= 1
        return web.Response(status=500)

    opening = open_world(small(small_images, WALLPAPERS), Hooks(image=image))
    with portal.wrap_async_context_manager(opening) as world:
        hand_on(world, monkeypatch)
        run = first()
        with pytest.raises(ImagesLeft):
            backfill({}, run)
        (row,) = portal.call(world.rows, AUDITS)
        assert (row["status"], row["images_uploaded"]) == ("partial", WALLPAPERS - 1)

        assert backfill({}, run)["images_uploaded"] == WALLPAPERS


def stop_after(
    requests: int, number: signal.Signals = signal.SIGTERM
) -> Callable[..., Awaitable[None]]:
    """Return a hook that sends this process a signal with the first request after so many."""
    left = [requests]

    async def hook(*_: object) -> None:
        left[0] -= 1
        if left[0] == -1:
            os.kill(os.getpid(), number)

    return hook


def test_a_task_that_is_stopped_releases_its_claims_and_writes_the_audit(
    open_world: OpenWorld,
    small_images: Path,
    portal: BlockingPortal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opening = open_world(small(small_images, WALLPAPERS), Hooks(image=stop_after(0)))
    with portal.wrap_async_context_manager(opening) as world:
        hand_on(world, monkeypatch)
        with pytest.raises(Interrupted):
            backfill({}, first())
        (row,) = portal.call(world.rows, AUDITS)
        assert (row["run_id"], row["status"]) == ("first", "interrupted")
        assert row["images_uploaded"] < WALLPAPERS
        assert portal.call(world.value, CLAIMED) == 0

        counts = backfill({}, second())

        assert counts["images_uploaded"] + counts["images_adopted"] == WALLPAPERS


def test_a_task_that_is_stopped_while_it_plans_is_audited(
    open_world: OpenWorld,
    small_images: Path,
    portal: BlockingPortal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def page(number: int, answer: dict[str, Any]) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        return answer

    opening = open_world(small(small_images, WALLPAPERS), Hooks(page=page))
    with portal.wrap_async_context_manager(opening) as world:
        hand_on(world, monkeypatch)
        with pytest.raises(Interrupted):
            backfill({}, first())
        (row,) = portal.call(world.rows, AUDITS)
        assert (row["run_id"], row["status"]) == ("first", "failed")
        assert row["notes"].startswith("no stage of this run has run")


def test_a_task_fails_where_only_the_audit_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR_MAX_IMAGE_BYTES", "10")
    # Else the transfer says so first.
    monkeypatch.setattr(tally, "is_too_many", lambda *_: False)
    with pytest.raises(RunFailed, match=r"run first failed: .*given up") as caught:
        backfill({}, first())
    assert caught.value.run_id == "first"


def test_a_limit_is_of_one_run_however_many_attempts_it_takes(
    world: World, portal: BlockingPortal
) -> None:
    form, run = {"limit": 26}, first()
    assert backfill(form, run)["images_uploaded"] == 26
    assert backfill(form, run)["images_uploaded"] == 26, "an attempt after one that was killed"
    assert backfill(form, second())["images_uploaded"] == 52
    assert backfill(form, DagRun("third"))["images_uploaded"] == WALLPAPERS
    assert portal.call(world.objects) == world.truth()


def test_an_attempt_after_one_that_was_cut_short_stores_the_rest_of_the_limit(
    open_world: OpenWorld,
    small_images: Path,
    portal: BlockingPortal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opening = open_world(small(small_images, WALLPAPERS), Hooks(image=stop_after(20)))
    with portal.wrap_async_context_manager(opening) as world:
        hand_on(world, monkeypatch)
        run = first()
        with pytest.raises(Interrupted):
            backfill({"limit": 40}, run)

        counts = backfill({"limit": 40}, run)

        assert counts["images_uploaded"] + counts["images_adopted"] == 40


def test_a_part_of_the_list_costs_its_pages_alone(world: World) -> None:
    counts = backfill({"from_page": 2, "to_page": 2}, first())
    assert (counts["plan_pages"], counts["plan_calls_left"]) == (3, 1)
    assert counts["images_uploaded"] == 24


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"from_page": 3, "to_page": 2}, "to_page: must not be below from_page, 3"),
        ({"pages": 3}, "pages: the form has no such field; it has query, collection, from_page"),
        ({"pages_per_slice": 450}, "pages_per_slice: the form has no such field"),
        ({"query": "elf", "collection": "a/1"}, "collection: excludes query"),
    ],
)
def test_a_wrong_form_is_refused_and_audited(
    world: World, portal: BlockingPortal, caplog: pytest.LogCaptureFixture, form: Form, words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        backfill(form, first())
    assert caplog.messages[0].startswith(f"[draenei] {words}")
    assert requests(world) == 0
    (row,) = portal.call(world.rows, AUDITS)
    assert (row["run_id"], row["status"]) == ("first", "failed")
