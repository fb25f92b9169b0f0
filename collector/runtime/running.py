"""Run stages, note how they end, and see to it that the audit is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio

from collector.core.audit import OUTAGE_SECONDS, AuditRow
from collector.core.errors import CollectorError, RunTrimmed, UnknownRun
from collector.core.pacing import Priority
from collector.core.runs import Json, Run, StageCall, StageEnd, StageName, StageReport, StageStatus
from collector.failpoints import Point, reach
from collector.flow import committed, task_group
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
from collector.stages.api import ApiClient
from collector.stages.audit import close_crashed, require_few_dead

# A clean exit after SIGTERM has 4 s in all; the last words to the database get this share.
LAST_WORDS_SECONDS = 1.0
# Far below SILENT_SECONDS of collector/core/runs.py, after which a run counts as crashed.
HEARTBEAT_SECONDS = 60.0

STAGE_NEEDS = {
    StageName.EXTRACT: Need.SCHEMA | Need.HTTP,
    StageName.LOAD: Need.SCHEMA,
    StageName.TRANSFER: Need.SCHEMA | Need.STORE | Need.HTTP,
    StageName.AUDIT: Need.SCHEMA,
    StageName.ENRICH: Need.SCHEMA | Need.HTTP,
}


# What a run does before its audit.
MAIN_JOB = (StageName.EXTRACT, StageName.LOAD, StageName.TRANSFER)
ENRICHMENT = (StageName.ENRICH,)
# Stages that ask the API, and how urgently.
_PRIORITY_OF = {StageName.EXTRACT: Priority.RUN, StageName.ENRICH: Priority.ENRICHMENT}


async def run_one_stage(
    runtime: Runtime, stage: StageName, run: Run, options: RunOptions
) -> StageReport | AuditRow:
    """Run one stage of `run`, as `run.worker`, and note in the database how it ended.

    Raises what the stage raised, after it was noted: failed, or interrupted on cancellation; and
    RunTrimmed, where the run's details are trimmed and there is nothing to do but its audit. A
    transfer that ended well raises TooManyDead where the run has given up on too many items by
    then: its caller may never see the audit's verdict.
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
        # Noted as succeeded: the audit says by itself that too many items were given up.
        await require_few_dead(
            audit_id,
            catalog=runtime.catalog.runs,
            max_dead_percent=runtime.settings.collector_max_dead_percent,
        )
    return report


async def run_stage_alone(
    runtime: Runtime, stage: StageName, run: Run, options: RunOptions
) -> StageReport | AuditRow:
    """Run one stage of `run` as a person calls it, without a scheduler that calls the audit.

    Where it fails or is interrupted, and no other worker of the run is at work, the audit is
    written: the run has ended, and the same run id opens it again. Where it succeeds, the run stays
    `running`: it waits for its next stage or its audit, and keeps its staged pages until then. One
    that waits for a week is closed as interrupted (`close_crashed`).

    Raises what `run_one_stage` raises, and UnknownRun for the audit of a run that never was.
    """
    if stage is StageName.AUDIT and await runtime.catalog.runs.find_run(run) is None:
        raise UnknownRun(run.dag_id, run.run_id)
    try:
        return await run_one_stage(runtime, stage, run, options)
    except BaseException:
        await _closed_where_idle(runtime, run)
        raise


async def _closed_where_idle(runtime: Runtime, run: Run) -> None:
    with anyio.move_on_after(LAST_WORDS_SECONDS, shield=True):
        try:
            audit_id = await runtime.catalog.runs.find_run(run)
            if audit_id is not None and not await runtime.catalog.runs.running_stages(audit_id):
                await _audited(runtime, audit_id)
        except CollectorError as error:
            logger.warning("the audit could not be written: %s", error)


async def run_all_stages(
    runtime: Runtime,
    run: Run,
    options: RunOptions,
    on_audit: Callable[[AuditRow], None],
    stages: Sequence[StageName] = MAIN_JOB,
) -> AuditRow:
    """Run the stages and the audit in line; return the audit row, tell `on_audit` too.

    A stage that fails keeps none of the others from being done: pages that were staged are loaded,
    and the backlog of images is carried. The audit then says `failed`, with the problems in its
    notes. Cancellation, or a defect, ends the line, and the audit is written before that goes on.
    Raises what went wrong where even the audit cannot be written.
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
    """Do the work of a run that is open, and write its audit, whatever happens.

    A CollectorError of the work is logged; cancellation, or a defect, goes on after the audit.
    Raises what went wrong where even the audit cannot be written.
    """
    try:
        async with _heartbeat(runtime, audit_id):
            await work()
    except CollectorError as error:
        logger.error("%s", error)
    except BaseException:
        await _last_words(runtime, audit_id, on_audit)
        raise
    # A signal that comes now comes too late: the work is done, and its row shall say so.
    with anyio.CancelScope(shield=True):
        row = await _audited(runtime, audit_id)
    on_audit(row)
    return row


async def _last_words(
    runtime: Runtime, audit_id: int, on_audit: Callable[[AuditRow], None]
) -> None:
    with anyio.move_on_after(LAST_WORDS_SECONDS, shield=True):
        try:
            on_audit(await _audited(runtime, audit_id))
        except CollectorError as error:
            logger.warning("the audit could not be written: %s", error)


@asynccontextmanager
async def _heartbeat(runtime: Runtime, audit_id: int) -> AsyncIterator[None]:
    """Say now and then that the run lives: of one that does not, others take the staged pages."""

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
    api = _api_of(runtime, call)
    return await recorded(runtime, call, api, lambda: _done(runtime, call, options, api))


async def recorded(
    runtime: Runtime,
    call: StageCall,
    api: ApiClient | None,
    work: Callable[[], Awaitable[StageReport]],
) -> StageReport:
    """Do a stage, and note in the database that it begins and how it ends, whatever happens.

    `api` is the client that it asks with. Raises what the work raised, after it was noted.
    """
    try:
        await runtime.catalog.runs.begin_stage(call)
        report = await work()
    except BaseException as error:
        await _note_end(runtime, call, _end(error, api))
        raise
    end = StageEnd(StageStatus.SUCCEEDED, {**report.as_json(), **_outage(api)})
    await runtime.catalog.runs.end_stage(call, end)
    counts = " ".join(f"{name}={count}" for name, count in report.counts.items())
    logger.info("%s: %s", call.stage, counts)
    return report


def _api_of(runtime: Runtime, call: StageCall) -> ApiClient | None:
    """Return the client of a stage that asks the API."""
    priority = _PRIORITY_OF.get(call.stage)
    return None if priority is None else runtime.api(priority, call)


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
    """Write the audits of runs that crashed; a problem with them is no problem of this run."""
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
    # A defect is named by its type: its text may hold anything.
    problem = str(error) if isinstance(error, CollectorError) else type(error).__name__
    return StageEnd(StageStatus.FAILED, _outage(api), problem)


def _outage(api: ApiClient | None) -> dict[str, Json]:
    seconds = round(api.outage_seconds, 1) if api else 0.0
    return {OUTAGE_SECONDS: seconds} if seconds else {}


async def _note_end(runtime: Runtime, call: StageCall, end: StageEnd) -> None:
    with anyio.move_on_after(LAST_WORDS_SECONDS, shield=True):
        try:
            await runtime.catalog.runs.end_stage(call, end)
        except CollectorError as error:
            logger.warning("the end of %s could not be noted: %s", call.stage, error)
