"""Runs: a row for each worker of a stage, and an end for those that crashed."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import asyncpg
import pytest

from collector.catalog import Allowance, Database, Runs, SharedBudget
from collector.core.audit import AuditRow, conclude_run
from collector.core.pacing import Slot, Wait
from collector.core.runs import Run, RunStatus, StageCall, StageEnd, StageName, StageStatus
from collector.stages.audit import close_crashed

SILENT_SECONDS = 3600.0
WEEK_SECONDS = 7 * 86_400.0
judge = partial(conclude_run, max_dead_percent=5)


@pytest.fixture
def runs(database: Database) -> Runs:
    return Runs(database)


async def rows(database: Database, statement: str, *arguments: Any) -> list[asyncpg.Record]:
    async with database.session() as session:
        return await session.connection.fetch(statement, *arguments)


async def silence(database: Database, audit_id: int, **ago: float) -> None:
    """Let it be some time ago that the run was heard of."""
    await rows(
        database,
        "UPDATE draenei_content.run_audit SET started_at = now() - 2 * $2::interval,"
        " heartbeat_at = now() - $2::interval WHERE id = $1",
        audit_id,
        timedelta(**ago),
    )


async def begin_and_die(runs: Runs, name: str, stage: StageName = StageName.TRANSFER) -> int:
    """Open a run whose process ends in the middle of a stage."""
    audit_id = await runs.open_run(Run("tests", name))
    await runs.begin_stage(StageCall(audit_id, stage))
    return audit_id


async def begin_and_end(
    runs: Runs, call: StageCall, problem: str | None = None, api_requests: int = 0
) -> None:
    await runs.begin_stage(call)
    budget = SharedBudget(runs._database, Allowance("api.test", 100), call=call)
    for _ in range(api_requests):
        assert isinstance(await budget.take(), Slot)
    status = StageStatus.FAILED if problem else StageStatus.SUCCEEDED
    await runs.end_stage(call, StageEnd(status, {"worker": call.worker}, problem))


async def test_no_worker_overwrites_what_another_one_said(runs: Runs) -> None:
    audit_id = await runs.open_run(Run("tests", "run"))
    calls = [StageCall(audit_id, StageName.TRANSFER, worker) for worker in range(4)]
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(
                partial(begin_and_end, runs, call, "late" if call.worker == 1 else None, 2)
            )
    await runs.begin_stage(calls[3])

    recount = await runs.recount(audit_id)

    assert recount.any_failed
    assert recount.api_requests == 8
    assert recount.stage_reports == {
        "transfer": {
            "workers": [
                {"worker": 0, "status": "succeeded"},
                {"worker": 1, "status": "failed"},
                {"worker": 2, "status": "succeeded"},
                {"worker": 3, "status": "running"},
            ]
        }
    }
    assert set(str(recount.problems).split("; ")) == {"transfer: late", "transfer: did not end"}


async def test_requests_are_counted_when_they_leave_and_again_where_a_stage_is_repeated(
    runs: Runs, database: Database
) -> None:
    audit_id = await runs.open_run(Run("tests", "run"))
    call = StageCall(audit_id, StageName.EXTRACT)
    await begin_and_end(runs, call, "api: out", api_requests=3)
    await runs.begin_stage(call)
    budget = SharedBudget(database, Allowance("api.test", 4), call=call)
    assert isinstance(await budget.take(), Slot)
    assert isinstance(await budget.take(), Wait), "a request that may not leave is not counted"
    assert (await runs.recount(audit_id)).api_requests == 4


async def test_a_worker_that_did_it_alone_is_not_listed(runs: Runs) -> None:
    audit_id = await runs.open_run(Run("tests", "run"))
    await begin_and_end(runs, StageCall(audit_id, StageName.TRANSFER))
    recount = await runs.recount(audit_id)
    assert recount.stage_reports == {"transfer": {"worker": 0, "status": "succeeded"}}
    assert recount.problems is None


async def test_a_problem_of_several_workers_stands_once_and_in_its_turn(
    runs: Runs,
) -> None:
    audit_id = await runs.open_run(Run("tests", "run"))
    await begin_and_end(runs, StageCall(audit_id, StageName.EXTRACT), "api: slow")
    for worker in range(3):
        await begin_and_end(runs, StageCall(audit_id, StageName.TRANSFER, worker), "upload: down")
    recount = await runs.recount(audit_id)
    assert recount.problems == "extract: api: slow; transfer: upload: down"


async def test_a_run_that_is_read_anew_may_have_fewer_workers(runs: Runs) -> None:
    audit_id = await runs.open_run(Run("tests", "run"))
    for worker in range(3):
        await begin_and_end(runs, StageCall(audit_id, StageName.TRANSFER, worker), "upload: down")
    for stage in (StageName.EXTRACT, StageName.LOAD, StageName.TRANSFER):
        await begin_and_end(runs, StageCall(audit_id, stage))
    recount = await runs.recount(audit_id)
    assert not recount.any_failed
    assert recount.stage_reports["transfer"] == {"worker": 0, "status": "succeeded"}


async def test_a_recount_writes_nothing(runs: Runs, database: Database) -> None:
    audit_id = await runs.open_run(Run("tests", "run"))
    everything = "SELECT xmin::text, * FROM draenei_content.run_audit"
    before = await rows(database, everything)
    await runs.recount(audit_id)
    assert await rows(database, everything) == before


async def closed(runs: Runs, but: int) -> list[AuditRow]:
    return await close_crashed(runs, but=but, max_dead_percent=5, silent_seconds=SILENT_SECONDS)


async def test_a_run_that_is_silent_for_long_is_closed_as_crashed(
    runs: Runs, database: Database
) -> None:
    own = await runs.open_run(Run("tests", "own"))
    crashed = await runs.open_run(Run("tests", "crashed"))
    await begin_and_end(runs, StageCall(crashed, StageName.EXTRACT), api_requests=7)
    await runs.begin_stage(StageCall(crashed, StageName.TRANSFER))
    quiet = await runs.open_run(Run("tests", "quiet"))
    ended = await runs.open_run(Run("tests", "ended"))
    await runs.close_run(ended, judge)
    for audit_id in (own, crashed, ended):
        await silence(database, audit_id, minutes=61)
    await silence(database, quiet, minutes=59)
    await rows(
        database,
        "UPDATE draenei_content.run_stages SET ended_at = now() - '2 h'::interval"
        " WHERE ended_at IS NOT NULL",
    )

    (row,) = await closed(runs, but=own)

    (heard,) = await rows(
        database, "SELECT heartbeat_at FROM draenei_content.run_audit WHERE id = $1", crashed
    )
    heard_at = heard["heartbeat_at"]
    assert (row.run_id, row.status, row.api_requests) == ("crashed", RunStatus.CRASHED, 7)
    assert row.notes == (
        f"last heartbeat at {heard_at.isoformat(timespec='seconds')}; transfer: did not end"
    )
    assert row.ended_at == heard_at
    assert row.duration_seconds == pytest.approx(61 * 60)
    statuses = await rows(database, "SELECT run_id, status FROM draenei_content.run_audit")
    assert dict(map(tuple, statuses)) == {
        "own": "running",
        "crashed": "crashed",
        "quiet": "running",
        "ended": "failed",
    }
    assert await closed(runs, but=own) == []


async def test_a_crashed_run_that_goes_on_opens_again(runs: Runs, database: Database) -> None:
    audit_id = await begin_and_die(runs, "crashed")
    await silence(database, audit_id, hours=2)
    assert [row.run_id for row in await closed(runs, but=0)] == ["crashed"]

    assert await runs.open_run(Run("tests", "crashed")) == audit_id

    assert await closed(runs, but=0) == []
    await begin_and_end(runs, StageCall(audit_id, StageName.TRANSFER))
    assert (await runs.close_run(audit_id, judge)).status is RunStatus.SUCCEEDED


async def test_several_that_close_crashed_runs_at_once_close_each_once(
    runs: Runs, database: Database
) -> None:
    for number in range(5):
        await silence(database, await begin_and_die(runs, str(number)), hours=2)
    written: list[str] = []

    async def close() -> None:
        written.extend(row.run_id for row in await closed(runs, but=0))

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(close)
    assert sorted(written) == ["0", "1", "2", "3", "4"]


async def test_a_run_that_goes_on_before_it_is_closed_stays_open(
    runs: Runs, database: Database
) -> None:
    audit_id = await begin_and_die(runs, "run")
    await silence(database, audit_id, hours=2)
    (silent,) = await runs.silent_runs(0, SILENT_SECONDS, WEEK_SECONDS)
    assert silent.audit_id == audit_id
    await runs.heartbeat(audit_id)

    def never(*_: object) -> Any:
        raise AssertionError("it is alive")

    assert await runs.close_silent_run(silent, never) is None


@pytest.mark.case("AF-13")
@pytest.mark.parametrize("stages", [[], [StageName.EXTRACT], [StageName.EXTRACT, StageName.LOAD]])
async def test_a_run_that_waits_for_its_next_stage_is_not_dead(
    runs: Runs, database: Database, stages: list[StageName]
) -> None:
    """Its next task stands in a pool, behind transfers of twelve hours each."""
    audit_id = await runs.open_run(Run("tests", "waits"))
    for stage in stages:
        await begin_and_end(runs, StageCall(audit_id, stage))
    await silence(database, audit_id, hours=30)
    assert await closed(runs, but=0) == []
    await begin_and_end(runs, StageCall(audit_id, StageName.TRANSFER))
    assert (await runs.close_run(audit_id, judge)).status is RunStatus.SUCCEEDED


@pytest.mark.case("AF-13")
async def test_a_run_that_waits_without_end_is_closed_as_interrupted(
    runs: Runs, database: Database
) -> None:
    """Its process died between two stages, and no scheduler ever says so."""
    audit_id = await runs.open_run(Run("tests", "forgotten"))
    await begin_and_end(runs, StageCall(audit_id, StageName.EXTRACT))
    await silence(database, audit_id, days=7, minutes=1)
    (row,) = await closed(runs, but=0)
    assert (row.run_id, row.status) == ("forgotten", RunStatus.INTERRUPTED)
    assert str(row.notes).startswith("waited for its next stage since ")
    (last,) = await rows(database, "SELECT ended_at FROM draenei_content.run_stages")
    assert row.ended_at == last["ended_at"]
    assert await closed(runs, but=0) == []


@pytest.mark.parametrize("status", list(StageStatus))
async def test_what_a_repeated_audit_says_of_the_backlog_stays_until_the_run_goes_on(
    runs: Runs, database: Database, status: StageStatus
) -> None:
    await rows(
        database,
        "INSERT INTO draenei_content.wallpapers (wallhaven_id, url)"
        " SELECT 'w' || n, 'https://w/' || n FROM generate_series(1, 3) AS n",
    )
    await rows(
        database,
        "INSERT INTO draenei_content.transfers (wallpaper_id, state, owner, lease_until)"
        " SELECT id, 'claimed', gen_random_uuid(), now() FROM draenei_content.wallpapers",
    )
    audit_id = await runs.open_run(Run("tests", "run"))
    call = StageCall(audit_id, StageName.TRANSFER)
    await begin_and_end(runs, call)
    first = await runs.close_run(audit_id, judge)
    assert (first.missing_s3_after_run, first.report["claimed_by_others"]) == (3, 3)

    await rows(database, "DELETE FROM draenei_content.wallpapers WHERE wallhaven_id = 'w1'")
    await runs.open_run(Run("tests", "run"))
    assert await runs.close_run(audit_id, judge) == first

    if status is StageStatus.RUNNING:
        await runs.begin_stage(call)
    else:
        await runs.end_stage(call, StageEnd(status, {}))
    later = await runs.close_run(audit_id, judge)
    assert (later.missing_s3_after_run, later.report["claimed_by_others"]) == (2, 2)


async def test_an_audit_of_a_run_without_stages_is_repeated_word_for_word(
    runs: Runs,
) -> None:
    audit_id = await runs.open_run(Run("tests", "run"))
    first = await runs.close_run(audit_id, judge)
    await runs.open_run(Run("tests", "run"))
    assert await runs.close_run(audit_id, judge) == first


async def test_a_run_is_found_by_its_names(runs: Runs) -> None:
    audit_id = await runs.open_run(Run("tests", "run"))
    assert await runs.find_run(Run("tests", "run")) == audit_id
    assert await runs.find_run(Run("other", "run")) is None
