"""The merge of staged pages into `wallpapers`."""

from __future__ import annotations

import asyncpg
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from collector.adapters.postgres.database import Database
from collector.core.errors import StagingMismatch
from collector.ports import LoadCounts

# Keys are merged in one order, so a conflict is rare; five tries outlast a burst of them.
_MERGE_TRIES = 5
_MERGE_WAIT_SECONDS = 2.0


class PostgresLoads:
    """LoadCatalog on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retry(
        retry=retry_if_exception_type((asyncpg.DeadlockDetectedError, asyncpg.SerializationError)),
        stop=stop_after_attempt(_MERGE_TRIES),
        wait=wait_random_exponential(max=_MERGE_WAIT_SECONDS),
        reraise=True,
    )
    async def merge(self, run_key: int) -> LoadCounts:
        """Merge this run's staged pages, and those an ended run left, in one transaction.

        Raises StagingMismatch when staging and ledger disagree. On any failure or cancellation
        nothing has changed and the staged rows are still there.
        """
        async with self._database.transaction() as session:
            load = await session.value("begin_load", run_key)
            pages = await session.one("take_pages", load, run_key)
            staged = await session.one("count_staged", load)
            if staged["items"] != pages["items"]:
                raise StagingMismatch(staged["items"], pages["items"])
            merged = await session.one("merge_wallpapers", load)
            await session.execute("merge_counters", load)
            await session.execute("bury_rejected", load, run_key)
            await session.execute("resolve_loaded", load)
            await session.execute("empty_staging", load)
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
    valid = staged["items"] - staged["invalid"]
    return LoadCounts(
        pages=pages["pages"],
        inserted=merged["inserted"],
        updated=merged["updated"],
        unchanged=merged["distinct_items"] - merged["inserted"] - merged["updated"],
        invalid=staged["invalid"],
        duplicates=valid - merged["distinct_items"],
    )
