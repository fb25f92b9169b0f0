"""Faults of a scheduler: tasks that are killed, doubled, cleared, timed out, or called wrongly.

Airflow itself is not here: its tasks call `collector.runtime.scheduled`, and so do these tests.
What only a scheduler can show is tried in tests/airflow.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Asked, Exchange
from processes import collector
from world import EVERYTHING, FAST, small

from collector.cli.progress import SilentProgress
from collector.core.errors import Outage, Refusal
from collector.core.runs import Run, StageName
from collector.failpoints import Point
from collector.interrupts import Interrupted
from collector.runtime.opening import open_runtime
from collector.runtime.running import run_all_stages, run_one_stage
from collector.runtime.scheduled import backfill, run_stage, tidy_up, verify_bucket

ROOT = Path(__file__).resolve().parents[3]
DAGS = sorted((ROOT / "dags").glob("*.py"))
MAIN_JOB = ("extract", "load", "transfer", "audit")
# What a scheduler keeps of a task has to be small: it lies in a table of its own.
MAX_XCOM_BYTES = 4096
WALLPAPERS = 30
DAILY = Run("dag", "scheduled__2026-11-01")
AUDITS = "SELECT * FROM draenei_content.run_audit ORDER BY id"
IN_OTHER_HANDS = "images claimed by other workers"
HELD = "SELECT count(*) FROM draenei_content.transfers WHERE state = 'claimed' OR attempts > 0"

OpenTask = Callable[..., AbstractContextManager[FaultyWorld]]
Counts = dict[str, int]


@pytest.fixture
def portal() -> Iterator[BlockingPortal]:
    """A loop in a thread for the world: a task brings its own, in the main thread."""
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture
def open_task(open_faults: OpenFaults, portal: BlockingPortal, small_images: Path) -> OpenTask:
    """Open a world for calls that are not async."""

    @contextmanager
    def opening(**settings: Any) -> Iterator[FaultyWorld]:
        options = small(small_images, WALLPAPERS)
        world = open_faults(options, **settings)
        with portal.wrap_async_context_manager(world) as opened:
            yield opened

    return opening


def do(world: FaultyWorld, *stages: str, run: Run = DAILY) -> dict[str, Counts]:
    """Run stages as tasks do, one after the other; return what each would hand on."""
    return {stage: run_stage(stage, world.settings, run) for stage in stages}


def everything(_: Asked) -> bool:
    return True


def stored(row: Mapping[str, Any]) -> int:
    """Count what a run has: a write that was under way when it was stopped is found later."""
    return int(row["images_uploaded"] + row["images_adopted"])


def commits(world: FaultyWorld) -> int:
    """Count the images that the store has written."""
    return sum(key.startswith("wallpapers/") for key in world.store.commits)


# --- Tasks that die, or are doubled --------------------------------------------------------------


@pytest.mark.case("AF-01")
@pytest.mark.parametrize("point", [Point.WRITTEN, Point.CONFIRMED])
def test_a_task_that_was_killed_is_gone_on_with_by_its_next_try(
    open_task: OpenTask, portal: BlockingPortal, point: Point
) -> None:
    with open_task(collector_lease_seconds=3, collector_in_flight=2) as world:
        do(world, "extract", "load")
        words = ("transfer", "--dag-id", DAILY.dag_id, "--run-id", DAILY.run_id)
        dying = partial(collector, world.settings, *words, failpoint=f"{point}:kill:3")
        killed = portal.call(dying)
        assert killed.status == -signal.SIGKILL
        portal.call(
            world.rows,
            "UPDATE draenei_content.transfers SET lease_until = now() WHERE state = 'claimed'",
        )
        counts = do(world, "transfer", "audit")["audit"]
        assert stored(counts) == WALLPAPERS
        (row,) = portal.call(world.rows, AUDITS)
        assert row["status"] == "succeeded"
        portal.call(world.check)


@pytest.mark.case("AF-02")
@pytest.mark.parametrize("stage", [StageName.EXTRACT, StageName.LOAD, StageName.TRANSFER])
async def test_two_living_copies_of_one_task_do_its_work_once(
    open_faults: OpenFaults, small_images: Path, stage: StageName
) -> None:
    """The scheduler has lost sight of one, and starts another beside it."""
    async with (
        open_faults(small(small_images, WALLPAPERS)) as world,
        open_runtime(world.settings, EVERYTHING, SilentProgress()) as another,
    ):
        for each in (StageName.EXTRACT, StageName.LOAD, StageName.TRANSFER):
            async with anyio.create_task_group() as copies:
                copies.start_soon(world.stage, each)
                if each is stage:
                    copies.start_soon(run_one_stage, another, each, Run("tests", "run"), FAST)
        await world.stage(StageName.AUDIT)
        (row,) = await world.rows(AUDITS)
        assert (row["status"], row["metadata_inserted"]) == ("succeeded", WALLPAPERS)
        assert row["images_uploaded"] == WALLPAPERS == commits(world)
        await world.check()


class _TaskTimeOut(BaseException):
    """What Airflow's handler of SIGALRM raises is no Exception either."""


@contextmanager
def limit_of_a_task() -> Iterator[None]:
    """Handle SIGALRM as Airflow does around a task with an `execution_timeout`."""

    def handler(*_: object) -> None:
        raise _TaskTimeOut

    before = signal.signal(signal.SIGALRM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


def sending(number: signal.Signals) -> http.Fault:
    """Send this process a signal, and never answer."""

    async def fault(exchange: Exchange) -> None:
        os.kill(os.getpid(), number)
        await http.hang(exchange)

    return fault


@pytest.mark.case("AF-03")
def test_a_task_that_takes_too_long_lets_go_of_all_before_it_says_so(
    open_task: OpenTask, portal: BlockingPortal
) -> None:
    with open_task() as world, limit_of_a_task():
        do(world, "extract", "load")
        world.images.on(everything, sending(signal.SIGALRM), skip=3)
        with pytest.raises(_TaskTimeOut):
            do(world, "transfer")
        assert portal.call(world.value, HELD) == 0
        do(world, "audit")
        (row,) = portal.call(world.rows, AUDITS)
        assert row["status"] == "interrupted"
        world.heal()
        do(world, "transfer", "audit")
        (row,) = portal.call(world.rows, AUDITS)
        assert (row["status"], stored(row)) == ("succeeded", WALLPAPERS)
        portal.call(world.check)


@pytest.mark.case("AF-09")
@pytest.mark.parametrize(
    ("stage", "number"), [("extract", signal.SIGTERM), ("transfer", signal.SIGINT)]
)
def test_a_task_that_ends_with_its_scheduler_is_gone_on_with(
    open_task: OpenTask, portal: BlockingPortal, stage: str, number: signal.Signals
) -> None:
    with open_task() as world:
        done = MAIN_JOB[: MAIN_JOB.index(stage)]
        do(world, *done)
        peer = world.api if stage == "extract" else world.images
        peer.on(everything, sending(number), skip=1)
        with pytest.raises(Interrupted):
            do(world, stage)
        assert portal.call(world.value, HELD) == 0
        world.heal()
        do(world, *MAIN_JOB[len(done) :])
        (row,) = portal.call(world.rows, AUDITS)
        assert (row["status"], stored(row)) == ("succeeded", WALLPAPERS)
        portal.call(world.check)


# --- Runs that are repeated, or meet -------------------------------------------------------------


@pytest.mark.case("AF-04")
def test_a_run_that_is_cleared_counts_nothing_twice(
    open_task: OpenTask, portal: BlockingPortal
) -> None:
    with open_task() as world:
        first = do(world, *MAIN_JOB)["audit"]
        for again in (MAIN_JOB, ("transfer", "audit")):
            counts = do(world, *again)["audit"]
            assert {**counts, "api_requests": 0} == {**first, "api_requests": 0}
        (row,) = portal.call(world.rows, AUDITS)
        assert (row["status"], row["metadata_inserted"]) == ("succeeded", WALLPAPERS)
        assert commits(world) == WALLPAPERS
        portal.call(world.check)


@pytest.mark.case("AF-04")
def test_each_interval_that_is_made_up_for_has_a_row_of_its_own(
    open_task: OpenTask, portal: BlockingPortal
) -> None:
    with open_task() as world:
        for day in (1, 2):
            do(world, *MAIN_JOB, run=Run("dag", f"backfill__{day}"))
        rows = portal.call(world.rows, AUDITS)
        said = [(row["status"], row["metadata_inserted"], row["images_uploaded"]) for row in rows]
        assert said == [("succeeded", WALLPAPERS, WALLPAPERS), ("succeeded", 0, 0)]
        portal.call(world.check)


def is_whole_or_left_to_others(row: Mapping[str, Any]) -> bool:
    """Tell whether all that a run did not store was in living hands when it looked last."""
    if row["status"] == "succeeded":
        return True
    lacks_nothing_else = row["notes"].startswith(IN_OTHER_HANDS) and ";" not in row["notes"]
    failures = row["download_failures"] + row["upload_failures"] + row["metadata_invalid"]
    return row["status"] == "partial" and lacks_nothing_else and failures == 0


@pytest.mark.case("AF-05")
async def test_two_runs_and_a_backfill_at_once_store_each_image_once(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with (
        open_faults(small(small_images, 3 * WALLPAPERS)) as world,
        open_runtime(world.settings, EVERYTHING, SilentProgress()) as another,
        anyio.create_task_group() as tasks,
    ):
        ends: list[int] = []

        async def backfill() -> None:
            ended = await collector(world.settings, "backfill", "--json")
            assert ended.status == 0, ended.stderr
            ends.append(json.loads(ended.stdout)["missing_s3_after_run"])

        tasks.start_soon(backfill)
        tasks.start_soon(run_all_stages, another, Run("dag", "two"), FAST, lambda _: None)
        await world.run("one")
        while not ends:
            await anyio.sleep(0.05)
        rows = await world.rows(AUDITS)
        assert all(is_whole_or_left_to_others(row) for row in rows), rows
        assert sum(row["images_uploaded"] for row in rows) == 3 * WALLPAPERS == commits(world)
        assert sum(row["metadata_inserted"] for row in rows) == 3 * WALLPAPERS
        await world.converge()


@pytest.mark.case("AF-06")
def test_an_extract_that_fails_is_audited_and_the_next_run_goes_on(
    open_task: OpenTask, portal: BlockingPortal
) -> None:
    with open_task() as world:
        world.api.on(everything, http.status(401), times=None)
        with pytest.raises(Refusal, match="API key"):
            do(world, "extract")
        do(world, "audit")
        (row,) = portal.call(world.rows, AUDITS)
        assert (row["status"], row["images_uploaded"]) == ("failed", 0)
        assert "API key" in row["notes"]
        world.heal()
        do(world, *MAIN_JOB, run=Run("dag", "next"))
        portal.call(world.check)


@pytest.mark.case("AF-06")
def test_a_task_that_failed_may_be_tried_again_in_the_same_run(
    open_task: OpenTask, portal: BlockingPortal
) -> None:
    with open_task() as world:
        world.api.on(everything, http.status(403), times=None)
        with pytest.raises(Outage):
            do(world, "extract")
        world.heal()
        do(world, *MAIN_JOB)
        (row,) = portal.call(world.rows, AUDITS)
        assert (row["status"], row["images_uploaded"]) == ("succeeded", WALLPAPERS)
        portal.call(world.check)


# --- What a scheduler keeps, and what it needs ---------------------------------------------------


@dataclass(frozen=True)
class Scheduled:
    """A run of the scheduler, as it tells a task about it."""

    dag_id: str = "dag"
    run_id: str = "backfill"
    logical_date: datetime | None = None
    start_date: datetime | None = None


def kept(world: FaultyWorld, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return all that the tasks of all DAGs hand on after one run."""
    for name in world.settings.model_fields_set:
        value = getattr(world.settings, name)
        text = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
        monkeypatch.setenv(name.upper(), text)
    counts: list[Any] = list(do(world, *MAIN_JOB).values())
    counts.append(do(world, "enrich", run=Run("dag", "enrichment")))
    do(world, "audit", run=Run("dag", "enrichment"))
    counts.append(backfill({}, Scheduled()))
    return [*counts, tidy_up(world.settings), verify_bucket(world.settings, deep=True, repair=True)]


@pytest.mark.case("AF-07")
def test_what_a_scheduler_keeps_are_a_few_numbers(
    open_task: OpenTask, portal: BlockingPortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_task() as world:
        found = kept(world, monkeypatch)
        texts = [json.dumps(counts) for counts in found]
        assert max(map(len, texts)) < MAX_XCOM_BYTES
        for counts in found:
            for number in counts.values():
                assert isinstance(number, int | dict)
        secrets = [world.settings.aws_secret_access_key, world.settings.database_url]
        hidden = [secret.get_secret_value() for secret in secrets if secret]
        ids = [wallpaper.id for wallpaper in world.simulator.catalogue]
        assert not [text for text in texts for name in ids if name in text]
        portal.call(partial(world.check, secrets=hidden, texts=texts))


@pytest.mark.case("AF-08")
@pytest.mark.parametrize("path", DAGS, ids=lambda path: path.stem)
def test_a_dag_is_read_without_the_engine(path: Path) -> None:
    """What it imports at once is the standard library and Airflow's own words."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        roots = {name.partition(".")[0] for name in names}
        assert roots <= {*sys.stdlib_module_names, "airflow"}


@pytest.mark.case("AF-10")
@pytest.mark.parametrize("path", DAGS, ids=lambda path: path.stem)
def test_no_dag_makes_up_for_days_by_itself(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    (made,) = [it for it in calls if isinstance(it.func, ast.Name) and it.func.id == "dag"]
    said = {word.arg: ast.unparse(word.value) for word in made.keywords}
    assert (said["catchup"], said["max_active_runs"]) == ("False", "1")


# As if what page 3 listed had been the newest until now: two pages came while the DAG was paused.
KNOWN_FROM_PAGE_3 = """
    UPDATE draenei_content.searches SET newest_ids = (
        SELECT ids FROM draenei_content.staged_pages WHERE page = 3
    )
"""


@pytest.mark.case("AF-10")
async def test_one_run_reads_all_that_came_while_the_dag_was_paused(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 24 * 5)) as world:
        await world.run("before")
        await world.rows(KNOWN_FROM_PAGE_3)
        asked = len(world.api.asked)
        await world.run("after the pause")
        assert len(world.api.asked) - asked == 3
        await world.run("next")
        assert len(world.api.asked) - asked == 4
        await world.check()


@pytest.mark.case("AF-11")
async def test_a_task_within_a_running_loop_is_refused_and_does_nothing(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always")
            with pytest.raises(RuntimeError, match="running"):
                run_stage("extract", world.settings, DAILY)
            gc.collect()
        assert [str(warning.message) for warning in left] == [], "nothing is left half begun"
        assert await world.rows(AUDITS) == []
        assert world.api.asked == []
        await world.run()
        await world.check()


@pytest.mark.case("AF-12")
def test_the_tables_of_the_scheduler_are_not_needed(
    open_task: OpenTask, portal: BlockingPortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "postgresql+psycopg2://airflow:airflow@127.0.0.1:9/airflow"
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", nowhere)
    monkeypatch.setenv("AIRFLOW__CELERY__RESULT_BACKEND", f"db+{nowhere}")
    monkeypatch.setitem(sys.modules, "airflow", None)
    with open_task() as world:
        do(world, *MAIN_JOB)
        (row,) = portal.call(world.rows, AUDITS)
        assert (row["status"], row["images_uploaded"]) == ("succeeded", WALLPAPERS)
        portal.call(world.check)
