"""The entry point for schedulers: runs one stage or one backfill and returns its counts."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar

import anyio

from collector.catalog import KnownCrawl
from collector.core.audit import AuditRow
from collector.core.errors import CollectorError, RunFailed, RunTrimmed, SettingsError
from collector.core.maintenance import BucketDiffers, Findings, UploadsLeft
from collector.core.paging import CoveredPage
from collector.core.planning import backfill_api_calls
from collector.core.runs import KEEP_DAYS, Run, RunStatus, StageName, StageReport
from collector.interrupts import run_interruptible
from collector.logs import logger, mark_lines
from collector.runtime.backfilling import (
    BACKFILL_NEEDS,
    BackfillOptions,
    find_crawl,
    is_over,
    run_backfill,
    run_for,
)
from collector.runtime.forms import backfill_of, settings_for
from collector.runtime.opening import Need, RunOptions, Runtime, open_runtime
from collector.runtime.running import STAGE_NEEDS, run_one_stage
from collector.runtime.wiring import (
    UPKEEP_NEEDS,
    JanitorOptions,
    Tidied,
    run_janitor,
    run_plan,
    run_verify,
)
from collector.settings import Settings

T = TypeVar("T")

__all__ = ["backfill", "run_of", "run_stage", "settings_for", "tidy_up", "verify_bucket"]

# Airflow signals a task at its next heartbeat, by default within 5 s, and kills it 5 s later: by
# then it has ended or is dead.
SETTLE_SECONDS = 15.0
SETTLE_POLL_SECONDS = 0.25
# Often enough to show progress, seldom enough to keep the log readable.
LOG_EVERY_SECONDS = 30.0
# How many differences a task logs; `collector verify --json` has more.
MAX_LOGGED = 20
# The figures of a plan that are logged.
_PLAN_LINE = ("images", "pages", "api_calls", "hours", "gigabytes", "puts", "calls_left")


class ScheduledRun(Protocol):
    """What a scheduler knows about a run; Airflow's `dag_run` is one."""

    @property
    def dag_id(self) -> str: ...

    @property
    def run_id(self) -> str: ...

    @property
    def logical_date(self) -> datetime | None: ...

    @property
    def start_date(self) -> datetime | None: ...


def run_stage(
    name: str, settings: Settings, run: Run, *, limit: int | None = None, only: bool = False
) -> dict[str, int]:
    """Run the stage `name` (extract, load, transfer, enrich, audit) of `run`; return its counts.

    `limit` is the stage's own, None: its default. With `only`, the transfer skips images that the
    run's pages do not list. Running the same stage of the same run again counts nothing twice.

    Call it from the main thread of a process. Raises CollectorError once the failure is recorded,
    and Interrupted after a signal once claims are released.
    """
    stage = StageName(name)

    async def work(runtime: Runtime) -> StageReport | AuditRow:
        if stage is StageName.AUDIT:
            await settled(runtime, run)
        return await run_one_stage(runtime, stage, run, RunOptions(limit=limit, only=only))

    return counts_of(run_task(settings, STAGE_NEEDS[stage], work))


def run_task(settings: Settings, need: Need, work: Callable[[Runtime], Awaitable[T]]) -> T:
    """Do the work of one task on a runtime with what it needs.

    Call it from the main thread of a process. Raises CollectorError once it is logged, and
    Interrupted after a signal (see `run_interruptible`) once claims are released.
    """
    # The scheduler decides where lines go, the settings decide which there are.
    logger.setLevel(settings.collector_log_level)
    mark_lines()

    async def main() -> T:
        async with open_runtime(settings, need, LoggedProgress(time.monotonic)) as runtime:
            return await work(runtime)

    try:
        return run_interruptible(main)
    except CollectorError as error:
        logger.error("%s", error)
        # The traceback of a foreseeable error says no more than its line.
        raise error.with_traceback(None) from None


def backfill(form: Mapping[str, Any], scheduled: ScheduledRun) -> dict[str, int]:
    """Mirror the list that the form names; return the counts of its plan and its audit row.

    Resumes the crawl that an earlier run with the same form began: a crawl is one run with one
    audit row, however many scheduler runs it takes. A list that was read to its end is not read
    again, unless the form says `again`, which a scheduler run does once. The form's `limit` is for
    one scheduler run: it counts images stored since `start_date`, by any attempt. That is as exact
    as the clocks of scheduler and database agree.

    Raises what a stage failed with; RunFailed if only the audit failed the run; ImagesLeft if
    another attempt may store more; SettingsError for an invalid form, once the audit row of the
    scheduler's run says so; and what `run_task` raises.
    """
    run = run_of(scheduled)
    settings, asked = _asked_of(form, run)
    asked = replace(asked, limit_since=scheduled.start_date)
    planned: dict[str, int] = {}
    problems: list[CollectorError] = []

    async def work(runtime: Runtime) -> AuditRow:
        known = await find_crawl(runtime, asked)
        options = replace(asked, again=asked.again and not _is_read_by(run, known))
        if known is not None and is_over(known, options):
            logger.info(
                "nothing to do: this list was read to its end by %s (%s)",
                *(known.run_id, known.verdict),
            )
            return await runtime.catalog.runs.audit_row(known.audit_id)

        async def plan(audit_id: int) -> None:
            planned.update(await _planned(runtime, audit_id, options))

        crawl = run_for(known, run, again=options.again)
        row = await run_backfill(runtime, crawl, options, on_problem=problems.append, on_begin=plan)
        if row.status is RunStatus.FAILED and not problems:
            raise RunFailed(row.run_id, row.notes)
        return row

    row = run_task(settings, BACKFILL_NEEDS, work)
    if problems:
        # It was logged when it occurred.
        raise problems[0].with_traceback(None)
    return planned | counts_of(row)


def _asked_of(form: Mapping[str, Any], run: Run) -> tuple[Settings, BackfillOptions]:
    """Read a backfill's form; if it is invalid, write an audit row of `run` that says so."""
    try:
        return backfill_of(form)
    except SettingsError:
        with suppress(CollectorError):
            run_stage(StageName.AUDIT, settings_for(), run)
        raise


def _is_read_by(run: Run, known: KnownCrawl | None) -> bool:
    return known is not None and (known.dag_id, known.run_id) == (run.dag_id, run.run_id)


async def _planned(runtime: Runtime, audit_id: int, options: BackfillOptions) -> dict[str, int]:
    """Log what the list costs and what is left to read; return the whole numbers.

    Returns nothing if the API fails: the crawl then fails too, and its audit says why.
    """
    try:
        report = await run_plan(runtime)
    except CollectorError as error:
        logger.warning("no plan could be made, the backfill starts without one: %s", error)
        return {}
    listed = report.plan.pages
    last = listed if options.to_page is None else min(options.to_page, listed)
    covered = await runtime.catalog.pages.crawled_pages(audit_id)
    read = len({page.number for page in covered if isinstance(page, CoveredPage)})
    left = max(0, backfill_api_calls(last - options.from_page + 1) - read)
    figures = report.as_json() | {"pages_read": read, "calls_left": left}
    logger.info("plan: %s", " ".join(f"{name}={figures[name]}" for name in _PLAN_LINE))
    return {f"plan_{name}": value for name, value in figures.items() if isinstance(value, int)}


def tidy_up(settings: Settings, *, keep_days: int = KEEP_DAYS) -> dict[str, int]:
    """Clean up after processes that died, trim details of old runs; return what was done.

    Raises UploadsLeft if the store did not abort all stale uploads; see `run_task` for the rest.
    """

    async def work(runtime: Runtime) -> Tidied:
        tidied = await run_janitor(runtime, JanitorOptions(keep_days=keep_days))
        if tidied.uploads_left:
            raise UploadsLeft(tidied.uploads_left)
        return tidied

    return asdict(run_task(settings, UPKEEP_NEEDS, work))


def verify_bucket(settings: Settings, *, deep: bool, repair: bool) -> dict[str, int]:
    """Compare bucket and tables; return the numbers.

    Raises BucketDiffers if they differ and were not repaired; see `run_task` for the rest.
    """

    async def work(runtime: Runtime) -> Findings:
        findings = await run_verify(runtime, deep=deep, repair=repair)
        for difference in findings.listed[:MAX_LOGGED]:
            logger.warning("%s: %s", difference.kind, difference.s3_key)
        if findings.left:
            raise BucketDiffers(findings)
        return findings

    return run_task(settings, UPKEEP_NEEDS, work).counts()


async def settled(runtime: Runtime, run: Run) -> None:
    """Wait for stages of the run that are ending.

    When a run is marked failed, Airflow starts its teardown at once and ends its other tasks some
    seconds later.
    """
    try:
        audit_id = await runtime.catalog.runs.open_run(run)
    except RunTrimmed:
        return  # it ended long ago
    with anyio.move_on_after(SETTLE_SECONDS):
        while await runtime.catalog.runs.running_stages(audit_id):
            await anyio.sleep(SETTLE_POLL_SECONDS)


def counts_of(result: StageReport | AuditRow) -> dict[str, int]:
    """Return the whole numbers of a report or a row, which a scheduler may keep."""
    values = result.counts if isinstance(result, StageReport) else result.as_json()
    return {name: value for name, value in values.items() if isinstance(value, int)}


def run_of(scheduled: ScheduledRun, worker: int = 0) -> Run:
    """Return the collector's run for a run of the scheduler."""
    return Run(scheduled.dag_id, scheduled.run_id, scheduled.logical_date, worker)


class LoggedProgress:
    """Logs a line every LOG_EVERY_SECONDS; `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tasks: dict[str, _Task] = {}

    def start(self, task: str, total: int | None) -> None:
        now = self._clock()
        self._tasks[task] = _Task(total, now, now)

    def advance(self, task: str, items: int, size_bytes: int = 0) -> None:
        work, now = self._tasks[task], self._clock()
        work.items += items
        work.size_bytes += size_bytes
        if now - work.logged_at >= LOG_EVERY_SECONDS:
            work.logged_at = now
            logger.info("%s: %s", task, work.line(now))

    def finish(self, task: str) -> None:
        del self._tasks[task]


@dataclass
class _Task:
    total: int | None
    started_at: float
    logged_at: float
    items: int = 0
    size_bytes: int = 0

    def line(self, now: float) -> str:
        of_total = "" if self.total is None else f" of {self.total}"
        megabytes = f", {self.size_bytes / 1e6:.0f} MB" if self.size_bytes else ""
        per_second = self.items / (now - self.started_at)
        return f"{self.items}{of_total}{megabytes}, {per_second:.1f} per second"
