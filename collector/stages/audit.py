"""Audit: count anew and write the one row that tells the truth about the run."""

from __future__ import annotations

from functools import partial

from collector.core.audit import AuditRow, judge_run
from collector.ports import RunCatalog


async def audit(run_key: int, *, catalog: RunCatalog, max_dead_percent: float) -> AuditRow:
    """Write and return the audit row of the run; every number is counted from the tables.

    Safe to repeat: the row is computed, never added to.
    """
    return await catalog.close_run(run_key, partial(judge_run, max_dead_percent=max_dead_percent))
