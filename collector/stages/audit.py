"""Audit: count anew, and write the one row that tells the truth about a run."""

from __future__ import annotations

from functools import partial

from collector.catalog import Runs
from collector.core.audit import AuditRow, conclude_run, conclude_silent_run, too_many_dead
from collector.core.runs import SILENT_SECONDS, WAITS_LONGER


async def audit(audit_id: int, *, catalog: Runs, max_dead_percent: float) -> AuditRow:
    """Write and return the audit row of the run; every number is counted from the tables.

    Safe to repeat: the row is computed, never added to. Where the details of the run are trimmed,
    the row is returned as it is.
    """
    return await catalog.close_run(
        audit_id, partial(conclude_run, max_dead_percent=max_dead_percent)
    )


async def require_few_dead(audit_id: int, *, catalog: Runs, max_dead_percent: float) -> None:
    """Raise TooManyDead where the audit of the run would fail it for its dead letters.

    Writes nothing: what the audit says of it, it counts for itself.
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
    """Write the audit rows of runs that nobody goes on with; return them.

    Those are running runs, except `but`, that fell silent. One with a stage that was running has
    crashed after `silent_seconds`. One that waited for its next stage is no dead one: only after
    WAITS_LONGER times as long is it closed, as interrupted. Their numbers are counted as an audit
    counts them, and what they left in staging is merged by the next load of any run. Several may do
    this at once, and a run that goes on in the meantime is left alone; one that goes on later opens
    again.
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
