"""Load: merge what was staged into `wallpapers`, once."""

from __future__ import annotations

from dataclasses import asdict

from collector.core.runs import StageName, StageReport
from collector.failpoints import Point, reach
from collector.ports import LoadCatalog


async def load(run_key: int, *, catalog: LoadCatalog) -> StageReport:
    """Merge this run's staged pages, and those that an ended run left behind.

    One transaction: on failure or cancellation nothing has changed and the staged rows wait for
    the next load. Raises StagingMismatch where staging and ledger disagree. The report says what
    the loads of the run have done so far.
    """
    await catalog.merge(run_key)
    reach(Point.MERGED)
    return StageReport(StageName.LOAD, asdict(await catalog.loaded(run_key)))
