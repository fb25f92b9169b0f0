"""The merge of staged pages into `wallpapers`."""

from __future__ import annotations

import asyncpg

from collector.adapters.postgres.database import Database, retry_conflicts
from collector.core.errors import StagingMismatch
from collector.core.runs import SILENT_SECONDS
from collector.ports import LoadCounts


class PostgresLoads:
    """LoadCatalog on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retry_conflicts
    async def merge(self, run_key: int) -> LoadCounts:
        """Merge this run's staged pages, and those an ended run left, in one transaction.

        Raises StagingMismatch when staging and ledger disagree. On any failure or cancellation
        nothing has changed and the staged rows are still there.
        """
        async with self._database.transaction() as session:
            load = await session.value("begin_load", run_key)
            pages = await session.one("take_pages", load, run_key, SILENT_SECONDS)
            met = await session.fetch("met_items", load, run_key)
            staged = await session.one("count_staged", load, [row["item"] for row in met])
            if staged["items"] != pages["items"]:
                raise StagingMismatch(staged["items"], pages["items"])
            met_rows = [row["item"] for row in met if row["as_row"]]
            merged = await session.one("merge_wallpapers", load, met_rows)
            await session.execute("merge_counters", load)
            await session.execute("bury_rejected", load, run_key)
            await session.execute("resolve_loaded", load)
            await session.execute("empty_staging", load)
            await session.execute("move_watermarks", load)
            counts = _counts(pages, staged, merged)
            await session.execute(
                "end_load",
                load,
                counts.pages,
                counts.inserted,
                counts.updated,
                counts.unchanged,
                counts.invalid,
                counts.duplicates,
            )
        return counts


def _counts(pages: asyncpg.Record, staged: asyncpg.Record, merged: asyncpg.Record) -> LoadCounts:
    unchanged = merged["distinct_items"] - merged["inserted"] - merged["updated"]
    return LoadCounts(
        pages=pages["pages"],
        inserted=merged["inserted"],
        updated=merged["updated"],
        unchanged=unchanged,
        invalid=staged["invalid"],
        duplicates=staged["items"] - staged["invalid"] - merged["distinct_items"],
    )
