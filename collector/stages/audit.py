"""Audit: recount a run and write its audit row."""

from __future__ import annotations

from functools import partial

from collector.catalog import Runs
from collector.core.audit import AuditRow, conclude_run, conclude_silent_run, too_many_dead
from collector.core.runs import SILENT_SECONDS, WAITS_LONGER


async def audit(audit_id: int, *, catalog: Runs, max_dead_percent: float) -> AuditRow:
    """Write and return the audit row of the run; every number is counted from the tables.

    Safe to repeat: the row is computed, never added to. If the details of the run are trimmed,
    the row is returned unchanged.
    """
    return await catalog.close_run(
        audit_id, partial(conclude_run, max_dead_percent=max_dead_percent)
    )


async def require_few_dead(audit_id: int, *, catalog: Runs, max_dead_percent: float) -> None:
    """Raise TooManyDead if the audit of the run would fail it for its dead letters.

    Writes nothing.
    """
    problem = too_many_dead(await catalog.recount(audit_id), max_dead_percent)
    if problem is not None:
        raise problem


async def close_crashed(
    catalog: Runs,
    *,
    but: int,
    max_dead_percent: float,
    silent_seconds: float = SILENT_SECONDS,
) -> list[AuditRow]:
    """Write and return the audit rows of running runs, except `but`, whose heartbeat is too old.

    A run with a running stage is closed as crashed after `silent_seconds`. A run that waits for its
    next stage is closed as interrupted after WAITS_LONGER times as long. Numbers are counted as an
    audit counts them; the next load of any run merges what these runs left in staging. Several
    processes may do this at once. A run that continues meanwhile is left alone; one that continues
    later opens again.
    """
    silent = await catalog.silent_runs(but, silent_seconds, silent_seconds * WAITS_LONGER)
    rows = [
        await catalog.close_silent_run(
            run,
            partial(conclude_silent_run, heard_at=run.heard_at, max_dead_percent=max_dead_percent),
        )
        for run in silent
    ]
    return [row for row in rows if row is not None]
