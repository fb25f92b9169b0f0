"""Load: merge staged pages into `wallpapers`, once."""

from __future__ import annotations

from dataclasses import asdict

from collector.catalog import Loads
from collector.core.runs import StageName, StageReport
from collector.failpoints import Point, reach


async def load(audit_id: int, *, catalog: Loads) -> StageReport:
    """Merge this run's staged pages, then those that ended runs left.

    In transactions of bounded size: on failure or cancellation what was merged stays, and the rest
    waits for the next load. Raises StagingMismatch if staging and ledger disagree about pages of
    this run; problems with pages of other runs are logged, and the pages left. The report covers
    all loads of the run so far.
    """
    await catalog.merge(audit_id)
    await catalog.merge_leftovers(audit_id)
    reach(Point.MERGED)
    return StageReport(StageName.LOAD, asdict(await catalog.loaded(audit_id)))
