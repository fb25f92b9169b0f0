"""The door for schedulers: one stage of a run, with a form before it and counts after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import anyio

from collector.core.audit import AuditRow
from collector.core.errors import CollectorError, RunTrimmed, SettingsError
from collector.core.maintenance import BucketDiffers, Findings, UploadsLeft
from collector.core.runs import KEEP_DAYS, Run, StageName, StageReport
from collector.interrupts import run_interruptible
from collector.runtime.opening import Need, RunOptions, Runtime, open_runtime
from collector.runtime.progress import LoggedProgress
from collector.runtime.running import STAGE_NEEDS, run_one_stage
from collector.runtime.wiring import (
    UPKEEP_NEEDS,
    JanitorOptions,
    Tidied,
    run_janitor,
    run_verify,
)
from collector.settings import Settings, load_settings

logger = logging.getLogger("collector")

T = TypeVar("T")

# Airflow tells a task at its next heartbeat, by default within 5 s, and kills it 5 s later. What
# has not ended by then was killed.
SETTLE_SECONDS = 15.0
SETTLE_POLL_SECONDS = 0.25
# Differences that a task's log names; `collector verify --json` has more.
MOST_LOGGED = 20

# The form's fields, and the settings that they stand for in one run.
_SETTING_OF = {
    "query": "wallhaven_query",
    "collection": "wallhaven_collection",
    "pages": "wallhaven_max_pages",
    "limit": "upload_batch_limit",
    "in_flight": "collector_in_flight",
}
# Fields of the form that stand for no setting: `run_stage` takes them.
_OPTION_FIELDS = ("only",)


NO_FORM: Mapping[str, Any] = MappingProxyType({})


class ScheduledRun(Protocol):
    """What a scheduler knows about a run; Airflow's `dag_run` is one."""

    @property
    def dag_id(self) -> str: ...

    @property
    def run_id(self) -> str: ...

    @property
    def logical_date(self) -> datetime | None: ...


def run_stage(
    name: str, settings: Settings, run: Run, *, limit: int | None = None, only: bool = False
) -> dict[str, int]:
    """Run the stage `name` (extract, load, transfer, enrich, audit) of `run`; return its counts.

    `limit` is the stage's own, None stands for its default. With `only`, the transfer leaves images
    alone that the run's pages do not list.

    Call it from the main thread of a process. Raises CollectorError, after the stage's failure
    was noted; Interrupted, after a signal to end and once everything was released. The same
    stage of the same run again counts nothing twice.
    """
    stage = StageName(name)

    async def work(runtime: Runtime) -> StageReport | AuditRow:
        if stage is StageName.AUDIT:
            await settled(runtime, run)
        return await run_one_stage(runtime, stage, run, RunOptions(limit=limit, only=only))

    return counts_of(run_task(settings, STAGE_NEEDS[stage], work))


def run_task(settings: Settings, need: Need, work: Callable[[Runtime], Awaitable[T]]) -> T:
    """Do the work of one task on a runtime with what it needs.

    Call it from the main thread of a process. Raises CollectorError, after it was logged; and
    Interrupted, after a signal to end (see `run_interruptible`) and once everything was released.
    """
    # Where lines go is the scheduler's matter; which ones there are is ours.
    logger.setLevel(settings.collector_log_level)

    async def main() -> T:
        async with open_runtime(settings, need, LoggedProgress(time.monotonic)) as runtime:
            return await work(runtime)

    try:
        return run_interruptible(main)
    except CollectorError as error:
        logger.error("[draenei] %s", error)
        # Where a foreseeable error came from tells its reader nothing that the line does not.
        raise error.with_traceback(None) from None


def tidy_up(settings: Settings, *, keep_days: int = KEEP_DAYS) -> dict[str, int]:
    """Tidy up after processes that died, trim details of old runs; return what was done.

    Raises UploadsLeft where the store would not let go of all; see `run_task` for the rest.
    """

    async def work(runtime: Runtime) -> Tidied:
        tidied = await run_janitor(runtime, JanitorOptions(keep_days=keep_days))
        if tidied.uploads_left:
            raise UploadsLeft(tidied.uploads_left)
        return tidied

    return asdict(run_task(settings, UPKEEP_NEEDS, work))


def verify_bucket(settings: Settings, *, deep: bool, repair: bool) -> dict[str, int]:
    """Compare bucket and tables; return the numbers.

    Raises BucketDiffers where they differ and that was not put right; see `run_task` for the rest.
    """

    async def work(runtime: Runtime) -> Findings:
        findings = await run_verify(runtime, deep=deep, repair=repair)
        for difference in findings.listed[:MOST_LOGGED]:
            logger.warning("[draenei] %s: %s", difference.kind, difference.s3_key)
        if findings.left:
            raise BucketDiffers(findings)
        return findings

    return run_task(settings, UPKEEP_NEEDS, work).counts()


async def settled(runtime: Runtime, run: Run) -> None:
    """Wait for stages that are on their way out.

    Airflow starts the teardown of a run that was marked failed at once, and ends its other tasks
    some seconds later.
    """
    try:
        run_key = await runtime.catalog.runs.open_run(run)
    except RunTrimmed:
        return  # settled long ago
    with anyio.move_on_after(SETTLE_SECONDS):
        while await runtime.catalog.runs.running_stages(run_key):
            await anyio.sleep(SETTLE_POLL_SECONDS)


def counts_of(result: StageReport | AuditRow) -> dict[str, int]:
    """Return its whole numbers, which is what a scheduler may keep of it."""
    values = result.counts if isinstance(result, StageReport) else result.as_json()
    return {name: value for name, value in values.items() if isinstance(value, int)}


def settings_for(form: Mapping[str, Any] = NO_FORM) -> Settings:
    """Return the environment's settings, with what the form names instead.

    Fields are `query`, `collection`, `pages`, `limit` and `in_flight`; None, a blank or a missing
    one stands for the setting, and a query counts even where the settings name a collection.
    Raises SettingsError, after it was logged: also for a field that is none of these, and where
    servers are not named, since a scheduled run never starts embedded ones.
    """
    try:
        return _settings_for(form)
    except SettingsError as error:
        logger.error("[draenei] %s", error)
        raise


def _settings_for(form: Mapping[str, Any]) -> Settings:
    fields = (*_SETTING_OF, *_OPTION_FIELDS)
    for field in form:
        if field not in fields:
            raise SettingsError(field, f"the form has no such field; it has {', '.join(fields)}")
    settings = load_settings(**_overrides(form))
    if settings.uses_local_postgres:
        raise SettingsError("DATABASE_URL", "must be set: scheduled runs start no embedded server")
    if settings.uses_local_s3:
        raise SettingsError(
            "S3_ENDPOINT_URL", "must be set (empty means AWS), or AWS credentials must be"
        )
    return settings


def _overrides(form: Mapping[str, Any]) -> dict[str, Any]:
    chosen = {
        field: value
        for field, value in form.items()
        if field in _SETTING_OF and not _is_empty(value)
    }
    if {"query", "collection"} <= chosen.keys():
        raise SettingsError("collection", "excludes query: leave one of the two fields empty")
    settings = {_SETTING_OF[field]: value for field, value in chosen.items()}
    return settings | {"wallhaven_collection": ""} if "query" in chosen else settings


def _is_empty(value: object) -> bool:
    # A field that was filled in and emptied again comes as an empty text.
    return value is None or (isinstance(value, str) and not value.strip())


def run_of(scheduled: ScheduledRun, worker: int = 0) -> Run:
    """Return the run of ours that belongs to one of the scheduler's."""
    return Run(scheduled.dag_id, scheduled.run_id, scheduled.logical_date, worker)
