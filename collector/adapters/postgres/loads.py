"""The merge of staged pages into `wallpapers`."""

from __future__ import annotations

from collector.adapters.postgres.database import Database, retry_conflicts
from collector.core.errors import StagingMismatch
from collector.core.runs import SILENT_SECONDS
from collector.ports import LoadCounts


class PostgresLoads:
    """LoadCatalog on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retry_conflicts
    async def merge(self, run_key: int) -> None:
        """Merge this run's staged pages, and those an ended run left, in one transaction.

        Raises StagingMismatch when staging and ledger disagree. On any failure or cancellation
        nothing has changed and the staged rows are still there.
        """
        async with self._database.transaction() as session:
            load = await session.value("begin_load", run_key)
            taken = await session.one("take_pages", load, run_key, SILENT_SECONDS)
            staged = await session.value("count_staged", load)
            if staged != taken["staged"]:
                raise StagingMismatch(staged, taken["staged"])
            merged = await session.one("merge_wallpapers", load, run_key)
            await session.execute("merge_counters", load)
            await session.execute("bury_rejected", load, run_key)
            await session.execute("resolve_loaded", load, run_key)
            await session.execute("empty_staging", load)
            await session.execute("move_watermarks", load)
            await session.execute("end_load", load, taken["pages"], *merged)

    async def loaded(self, run_key: int) -> LoadCounts:
        """Return what all loads of the run have done together, each item counted once."""
        async with self._database.session() as session:
            return LoadCounts(**await session.one("loaded", run_key))
