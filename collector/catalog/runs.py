"""Runs, their stages and their audit rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import asyncpg

from collector.catalog.database import Database, Session, retry_conflicts
from collector.core.audit import AuditRow, Conclusion, Recount
from collector.core.certificate import CrawlFacts
from collector.core.errors import RunTrimmed
from collector.core.maintenance import RunDetail
from collector.core.planning import Holdings
from collector.core.runs import Json, Run, RunStatus, SilentRun, StageCall, StageEnd

# Counters of the loads that are columns of `run_audit`.
_AUDIT_COLUMNS = {
    name: f"metadata_{name}" for name in ("inserted", "updated", "unchanged", "invalid")
}


class Runs:
    """Runs, their stages, their audit rows and the trimming of their details."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retry_conflicts
    async def open_run(self, run: Run) -> int:
        """Begin or resume the run; return its `audit_id`. Raises RunTrimmed."""
        async with self._database.session() as session:
            return await open_run(session, run)

    async def heartbeat(self, audit_id: int) -> None:
        """Note that the run's process is alive."""
        await self._database.execute("run_heartbeat", audit_id)

    async def begin_stage(self, call: StageCall) -> None:
        """Note that a worker begins a stage of the run."""
        await self._database.execute("begin_stage", call.audit_id, call.stage, call.worker)

    async def end_stage(self, call: StageCall, end: StageEnd) -> None:
        """Note how the stage ended for this worker."""
        await self._database.execute(
            "end_stage",
            call.audit_id,
            call.stage,
            call.worker,
            end.status,
            json.dumps(dict(end.report)),
            end.problem,
        )

    async def running_stages(self, audit_id: int) -> int:
        """Return how many stages of the run have begun and not ended, dead ones included."""
        return int(await self._database.value("running_stages", audit_id))

    async def recount(self, audit_id: int) -> Recount:
        """Count from the tables what the run did; write nothing."""
        async with self._database.session() as session:
            return await _recount(session, audit_id)

    @retry_conflicts
    async def close_run(self, audit_id: int, judge: Callable[[Recount], Conclusion]) -> AuditRow:
        """Recount the run and write its audit row, in one snapshot.

        If the run's details are trimmed, the row is returned unchanged.
        """
        async with self._database.transaction("repeatable_read") as session:
            return await _close(session, audit_id, judge)

    async def audit_row(self, audit_id: int) -> AuditRow:
        """Return the audit row of the run as it was last written."""
        async with self._database.session() as session:
            return _audit_row(await session.one("audit_row", audit_id))

    async def stored_by(self, audit_id: int, since: datetime | None = None) -> int:
        """Count the images that the run has stored or adopted, in all or `since` a time."""
        return int(await self._database.value("stored_by", audit_id, since))

    async def find_run(self, run: Run) -> int | None:
        """Return the run's `audit_id`, None if it was never opened."""
        audit_id: int | None = await self._database.value("find_run", run.dag_id, run.run_id)
        return audit_id

    async def silent_runs(
        self, but: int, silent_seconds: float, waiting_seconds: float
    ) -> list[SilentRun]:
        """Return running runs, except `but`, whose last heartbeat is too old.

        Older than `silent_seconds` if one of their stages is running, else `waiting_seconds`: they
        wait for their next stage.
        """
        rows = await self._database.fetch("silent_runs", but, silent_seconds, waiting_seconds)
        return [SilentRun(**row) for row in rows]

    @retry_conflicts
    async def close_silent_run(
        self, silent: SilentRun, judge: Callable[[Recount], Conclusion]
    ) -> AuditRow | None:
        """Close the run as `close_run` does; None if it had a heartbeat meanwhile.

        Of several processes that call this at once, one closes the run.
        """
        async with self._database.transaction("repeatable_read") as session:
            if not await session.value("lock_silent_run", silent.audit_id, silent.heard_at):
                return None
            return await _close(session, silent.audit_id, judge)

    async def last_runs(self, limit: int) -> list[dict[str, Json]]:
        """Return the newest runs, newest first, ready to print or for JSON."""
        rows = await self._database.fetch("last_runs", limit)
        return [
            dict(row) | {"started_at": row["started_at"] and row["started_at"].isoformat()}
            for row in rows
        ]

    async def stored_recently(self, seconds: float) -> tuple[int, int]:
        """Count the images and bytes stored in the last `seconds`."""
        (row,) = await self._database.fetch("stored_recently", seconds)
        return row["images"], row["bytes"]

    async def holdings(self) -> Holdings:
        """Count wallpapers and stored images; write nothing."""
        (row,) = await self._database.fetch("holdings")
        return Holdings(**row)

    async def mark_trimmed(self, keep_days: int, max_items: int) -> int:
        """Close for good up to `max_items` runs that ended so long ago; return how many."""
        return len(await self._database.fetch("mark_trimmed", keep_days, max_items))

    async def trim(self, detail: RunDetail, keep_days: int, max_items: int) -> int:
        """Delete up to `max_items` rows of runs that are closed for good; return how many."""
        return len(await self._database.fetch(f"trim_{detail}", keep_days, max_items))


async def open_run(session: Session, run: Run) -> int:
    """Begin or resume the run, in a session; return its `audit_id`. Raises RunTrimmed."""
    audit_id = await session.value("open_run", run.dag_id, run.run_id, run.logical_date)
    if audit_id is None:
        audit_id = await session.value("find_run", run.dag_id, run.run_id)
        raise RunTrimmed(run.run_id, audit_id)
    return int(audit_id)


async def _close(
    session: Session, audit_id: int, judge: Callable[[Recount], Conclusion]
) -> AuditRow:
    recount = await _recount(session, audit_id)
    conclusion = judge(recount)
    row = await session.first(
        "close_run", audit_id, *_conclusion_values(conclusion), *_counters(recount)
    )
    return _audit_row(row or await session.one("audit_row", audit_id))


async def _recount(session: Session, audit_id: int) -> Recount:
    values: dict[str, Any] = dict(await session.one("recount", audit_id))
    for name, count in (await session.one("loaded", audit_id)).items():
        values[_AUDIT_COLUMNS.get(name, name)] = count
    for name in ("stage_reports", "enrichment"):
        values[name] = json.loads(values[name])
    unreadable = [row["page"] for row in await session.fetch("unreadable_pages", audit_id)]
    crawl = await session.first("crawl_facts", audit_id)
    facts = CrawlFacts(**crawl, unreadable_pages=unreadable) if crawl else None
    return Recount(**values, unreadable_pages=unreadable, crawl=facts)


def _conclusion_values(conclusion: Conclusion) -> tuple[str, str | None, str]:
    return conclusion.status, conclusion.notes, json.dumps(dict(conclusion.report))


def _counters(recount: Recount) -> tuple[int, ...]:
    return (
        recount.metadata_inserted,
        recount.metadata_updated,
        recount.metadata_unchanged,
        recount.metadata_invalid,
        recount.images_uploaded,
        recount.images_adopted,
        recount.bytes_uploaded,
        recount.download_failures,
        recount.upload_failures,
        recount.missing_s3_after_run,
        recount.api_requests,
    )


def _audit_row(row: asyncpg.Record) -> AuditRow:
    values: dict[str, Any] = dict(row)
    values["status"] = RunStatus(values["status"])
    values["report"] = json.loads(values["report"])
    return AuditRow(**values)
