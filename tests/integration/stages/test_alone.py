"""A stage that a person calls alone: what it leaves of its run."""

from __future__ import annotations

from pathlib import Path

import pytest
from world import FAST, OpenWorld, World, small

from collector.core.errors import Edge, Outage, UnknownRun
from collector.core.runs import Run, StageCall, StageName, StageReport
from collector.runtime.running import run_stage_alone
from collector.simulator import Hooks

THIS = Run("tests", "run")
AUDITS = "SELECT run_id, status, notes, ended_at FROM draenei_content.run_audit ORDER BY id"


async def alone(world: World, stage: StageName, run: Run = THIS) -> object:
    return await run_stage_alone(world.runtime, stage, run, FAST)


async def test_a_stage_that_fails_ends_its_run(open_world: OpenWorld, small_images: Path) -> None:
    def page(number: int, answer: dict[str, object]) -> dict[str, object]:
        return {"error": "broken"} if is_broken else answer

    is_broken = True
    async with open_world(small(small_images, 5), Hooks(page=page)) as world:
        with pytest.raises(Outage):
            await alone(world, StageName.EXTRACT)
        (row,) = await world.rows(AUDITS)
        assert row["status"] == "failed"
        assert row["notes"].startswith("extract: ")
        assert row["ended_at"] is not None

        is_broken = False
        for stage in (StageName.EXTRACT, StageName.LOAD, StageName.TRANSFER, StageName.AUDIT):
            await alone(world, stage)
        (row,) = await world.rows(AUDITS)
        assert (row["status"], row["notes"]) == ("succeeded", None)


async def test_a_stage_that_succeeds_leaves_its_run_waiting(
    open_world: OpenWorld, small_images: Path
) -> None:
    """Another run that loads meanwhile leaves its pages alone."""
    async with open_world(small(small_images, 5)) as world:
        await alone(world, StageName.EXTRACT)
        await alone(world, StageName.LOAD, Run("tests", "other"))
        assert [row["status"] for row in await world.rows(AUDITS)] == ["running", "running"]
        report = await alone(world, StageName.LOAD)
        assert isinstance(report, StageReport)
        assert report.counts["inserted"] == 5


async def test_a_worker_that_fails_ends_no_run_at_which_another_one_is_at_work(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 5)) as world:
        audit_id = await world.runtime.catalog.runs.open_run(THIS)
        await world.runtime.catalog.runs.begin_stage(
            StageCall(audit_id, StageName.TRANSFER, worker=1)
        )
        world.runtime._store = Outage(Edge.UPLOAD, "gone")
        with pytest.raises(Outage):
            await alone(world, StageName.TRANSFER)
        assert [row["status"] for row in await world.rows(AUDITS)] == ["running"]


async def test_a_run_that_never_was_is_not_audited(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        await alone(world, StageName.EXTRACT)
        for run in (Run("tests", "runn"), Run("other", "run")):
            with pytest.raises(UnknownRun):
                await alone(world, StageName.AUDIT, run)
        assert [row["run_id"] for row in await world.rows(AUDITS)] == ["run"]


async def test_a_scheduler_that_audits_a_run_which_was_not_opened_leaves_its_row(
    open_world: OpenWorld, small_images: Path
) -> None:
    """The first task failed before: contract, the audit row is there all the same."""
    async with open_world(small(small_images, 3)) as world:
        await world.stage(StageName.AUDIT)
        (row,) = await world.rows(AUDITS)
        assert (row["status"], row["notes"]) == ("failed", "no stage of this run has run")
