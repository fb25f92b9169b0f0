"""Runs stages, records how they end, and writes the audit in any case."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import anyio

from collector.core.audit import OUTAGE_SECONDS, AuditRow
from collector.core.errors import CollectorError, RunTrimmed, UnknownRun
from collector.core.pacing import Priority
from collector.core.runs import Json, Run, StageCall, StageEnd, StageName, StageReport, StageStatus
from collector.failpoints import Point, reach
from collector.flow import CLEANUP_SECONDS, committed, task_group
from collector.logs import logger
from collector.runtime.opening import Need, RunOptions, Runtime
from collector.runtime.wiring import (
    log_audit,
    run_audit,
    run_enrich,
    run_extract,
    run_load,
    run_transfer,
)
from collector.stages.api_client import ApiClient
from collector.stages.audit import close_crashed, require_few_dead

# Far below SILENT_SECONDS of collector/core/runs.py, after which a run counts as crashed.
HEARTBEAT_SECONDS = 60.0

STAGE_NEEDS = {
    StageName.EXTRACT: Need.SCHEMA | Need.HTTP,
    StageName.LOAD: Need.SCHEMA,
    StageName.TRANSFER: Need.SCHEMA | Need.STORE | Need.HTTP,
    StageName.AUDIT: Need.SCHEMA,
    StageName.ENRICH: Need.SCHEMA | Need.HTTP,
}
# The stages of a run before its audit.
MAIN_JOB = (StageName.EXTRACT, StageName.LOAD, StageName.TRANSFER)
ENRICHMENT = (StageName.ENRICH,)
# The stages that ask the API.
_PRIORITY_OF = {StageName.EXTRACT: Priority.RUN, StageName.ENRICH: Priority.ENRICHMENT}


async def run_one_stage(
    runtime: Runtime, stage: StageName, run: Run, options: RunOptions
) -> StageReport | AuditRow:
    """Run one stage of `run`, as `run.worker`, and record in the database how it ended.

    Raises what the stage raised, once it is recorded as failed, or as interrupted on cancellation;
    and RunTrimmed for any stage but the audit if the run's details are trimmed. A transfer that
    succeeded raises TooManyDead if the run has given up on too many items by then: its caller may
    never see the audit.
    """
    try:
        audit_id = await committed(runtime.catalog.runs.open_run(run))
    except RunTrimmed as trimmed:
        if stage is not StageName.AUDIT:
            raise
        audit_id = trimmed.audit_id
    if stage is StageName.AUDIT:
        return await _audited(runtime, audit_id)
    async with _heartbeat(runtime, audit_id):
        report = await _recorded(runtime, StageCall(audit_id, stage, run.worker), options)
    if stage is StageName.TRANSFER:
        # The stage stays recorded as succeeded; the audit counts the dead letters itself.
        await require_few_dead(
            audit_id,
            catalog=runtime.catalog.runs,
            max_dead_percent=runtime.settings.collector_max_dead_percent,
        )
    return report


async def run_stage_alone(
    runtime: Runtime, stage: StageName, run: Run, options: RunOptions
) -> StageReport | AuditRow:
    """Run one stage of `run` for a person, without a scheduler that runs the audit later.

    If the stage fails or is interrupted and no other worker of the run is active, the audit is
    written: the run has ended, and the same run id opens it again. If the stage succeeds, the run
    stays `running` and keeps its staged pages for its next stage or its audit. A run that waits
    for a week is closed as interrupted (`close_crashed`).

    Raises what `run_one_stage` raises, and UnknownRun for the audit of a run that does not exist.
    """
    if stage is StageName.AUDIT and await runtime.catalog.runs.find_run(run) is None:
        raise UnknownRun(run.dag_id, run.run_id)
    try:
        return await run_one_stage(runtime, stage, run, options)
    except BaseException:
        with _clean_up("the audit could not be written"):
            audit_id = await runtime.catalog.runs.find_run(run)
            if audit_id is not None and not await runtime.catalog.runs.running_stages(audit_id):
                await _audited(runtime, audit_id)
        raise


@contextmanager
def _clean_up(problem: str) -> Iterator[None]:
    """Shield a last call to the database for CLEANUP_SECONDS; log `problem` if it fails."""
    with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
        try:
            yield
        except CollectorError as error:
            logger.warning("%s: %s", problem, error)


async def run_all_stages(
    runtime: Runtime,
    run: Run,
    options: RunOptions,
    on_audit: Callable[[AuditRow], None],
    stages: Sequence[StageName] = MAIN_JOB,
) -> AuditRow:
    """Run the stages one after the other, then the audit; return its row.

    If a stage fails, the others still run: staged pages are loaded, and the backlog of images is
    stored. The audit then says `failed`, with the problems in its notes. Cancellation or a defect
    skips the remaining stages and is raised after the audit. `on_audit` gets the row in any case.
    Raises CollectorError if the audit itself cannot be written.
    """
    reach(Point.STARTED)
    audit_id = await committed(runtime.catalog.runs.open_run(run))
    reach(Point.RUN_OPENED)

    async def work() -> None:
        for stage in stages:
            try:
                await _recorded(runtime, StageCall(audit_id, stage, run.worker), options)
            except CollectorError as error:
                logger.error("%s", error)

    return await run_audited(runtime, audit_id, work, on_audit)


async def run_audited(
    runtime: Runtime,
    audit_id: int,
    work: Callable[[], Awaitable[None]],
    on_audit: Callable[[AuditRow], None],
) -> AuditRow:
    """Do the work of an open run and write its audit in any case; return the audit row.

    A CollectorError of the work is logged; cancellation or a defect is raised after the audit.
    Raises CollectorError if the audit itself cannot be written.
    """
    try:
        async with _heartbeat(runtime, audit_id):
            await work()
    except CollectorError as error:
        logger.error("%s", error)
    except BaseException:
        with _clean_up("the audit could not be written"):
            on_audit(await _audited(runtime, audit_id))
        raise
    # The work is done, and its row must say so: a signal comes too late now.
    with anyio.CancelScope(shield=True):
        row = await _audited(runtime, audit_id)
    on_audit(row)
    return row


@asynccontextmanager
async def _heartbeat(runtime: Runtime, audit_id: int) -> AsyncIterator[None]:
    """Report regularly that the run is alive: other runs merge staged pages of a dead one."""

    async def beat() -> None:
        while True:
            await anyio.sleep(HEARTBEAT_SECONDS)
            await runtime.catalog.runs.heartbeat(audit_id)

    async with task_group() as tasks:
        tasks.start_soon(beat)
        yield
        tasks.cancel_scope.cancel()


async def _audited(runtime: Runtime, audit_id: int) -> AuditRow:
    row = await run_audit(runtime, audit_id)
    log_audit(row)
    return row


async def _recorded(runtime: Runtime, call: StageCall, options: RunOptions) -> StageReport:
    priority = _PRIORITY_OF.get(call.stage)
    api = None if priority is None else runtime.api(priority, call)
    return await recorded(runtime, call, api, lambda: _done(runtime, call, options, api))


async def recorded(
    runtime: Runtime,
    call: StageCall,
    api: ApiClient | None,
    work: Callable[[], Awaitable[StageReport]],
) -> StageReport:
    """Do the work of a stage; record in the database that it began and how it ended, in any case.

    `api` is the stage's client of the API. Raises what the work raised, once it is recorded.
    """
    try:
        await runtime.catalog.runs.begin_stage(call)
        report = await work()
    except BaseException as error:
        with _clean_up(f"the end of {call.stage} could not be recorded"):
            await runtime.catalog.runs.end_stage(call, _end(error, api))
        raise
    end = StageEnd(StageStatus.SUCCEEDED, {**report.as_json(), **_outage(api)})
    await runtime.catalog.runs.end_stage(call, end)
    counts = " ".join(f"{name}={count}" for name, count in report.counts.items())
    logger.info("%s: %s", call.stage, counts)
    return report


async def _done(
    runtime: Runtime, call: StageCall, options: RunOptions, api: ApiClient | None
) -> StageReport:
    if call.stage is StageName.LOAD:
        return await run_load(runtime, call.audit_id)
    if api is None:
        return await run_transfer(runtime, call.audit_id, options)
    if call.stage is StageName.ENRICH:
        return await run_enrich(runtime, call.audit_id, options, api)
    await close_crashed_runs(runtime, call.audit_id)
    return await run_extract(runtime, call.audit_id, options, api)


async def close_crashed_runs(runtime: Runtime, audit_id: int) -> None:
    """Write the audits of runs that crashed; log a problem, so that it does not fail this run."""
    try:
        rows = await close_crashed(
            runtime.catalog.runs,
            but=audit_id,
            max_dead_percent=runtime.settings.collector_max_dead_percent,
        )
    except CollectorError as error:
        logger.warning("crashed runs could not be closed: %s", error)
    except Exception:
        logger.exception("crashed runs could not be closed")
    else:
        for row in rows:
            log_audit(row)


def _end(error: BaseException, api: ApiClient | None) -> StageEnd:
    if not isinstance(error, Exception):
        return StageEnd(StageStatus.INTERRUPTED, _outage(api), "interrupted")
    # Only the type of a defect: its text may contain anything, secrets too.
    problem = str(error) if isinstance(error, CollectorError) else type(error).__name__
    return StageEnd(StageStatus.FAILED, _outage(api), problem)


def _outage(api: ApiClient | None) -> dict[str, Json]:
    seconds = round(api.outage_seconds, 1) if api else 0.0
    return {OUTAGE_SECONDS: seconds} if seconds else {}
