"""The merge of staged pages into `wallpapers`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import asyncpg

from collector.catalog.database import Database, retry_conflicts
from collector.core.errors import Outage, StagingMismatch
from collector.logs import logger

# Items of one transaction, about 250 pages: half a second of work on two cores, while a statement
# may take 120 s. Larger transactions were no faster (benchmarks/merge.py).
MAX_MERGE_ITEMS = 6_000


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """What the loads of a run did; seen = inserted + updated + unchanged + invalid + duplicates."""

    pages: int
    inserted: int
    updated: int
    unchanged: int
    invalid: int
    duplicates: int


class UnmergedPage(NamedTuple):
    """A page of a run's ledger that is not merged yet, and how many items it lists."""

    number: int
    reading: int
    items: int


class Loads:
    """Merges staged pages, and counts what was merged."""

    def __init__(self, database: Database, max_items: int = MAX_MERGE_ITEMS) -> None:
        self._database = database
        self._max_items = max_items

    async def merge(self, audit_id: int) -> None:
        """Merge this run's staged pages, the oldest first, in transactions of bounded size.

        Raises StagingMismatch if staging and ledger disagree. On failure or cancellation, what was
        merged until then stays merged and the rest stays staged. The watermark moves with the last
        page of a reading.
        """
        rows = await self._database.fetch("unmerged_pages", audit_id)
        for batch in batches((UnmergedPage(*row) for row in rows), self._max_items):
            await self._merge_pages(audit_id, audit_id, batch)

    async def merge_leftovers(self, audit_id: int) -> None:
        """Merge pages that ended runs left, run by run; their rows count in this run.

        Problems with them do not fail this run: they are logged, and the pages left. A run with
        status running keeps its pages; if its process died, `close_crashed` must close it first.
        """
        try:
            rows = await self._database.fetch("leftover_pages", audit_id)
            for (left_by, run_id), pages in groupby(rows, key=itemgetter("audit_id", "run_id")):
                await self._merge_left(audit_id, left_by, run_id, list(pages))
        except Outage as error:
            logger.warning("load: pages of ended runs wait for the next load: %s", error)

    async def _merge_left(
        self, audit_id: int, left_by: int, run_id: str, rows: Sequence[asyncpg.Record]
    ) -> None:
        whole = [UnmergedPage(r["page"], r["reading"], r["items"]) for r in rows if r["is_whole"]]
        left = len(rows) - len(whole)
        for batch in batches(whole, self._max_items):
            left += await self._merge_sound(audit_id, left_by, batch)
        if left:
            logger.warning("load: %d pages of run %s cannot be merged", left, run_id)

    async def _merge_sound(self, audit_id: int, left_by: int, pages: Sequence[UnmergedPage]) -> int:
        """Merge as many of the pages as possible; return how many cannot be. Raises only Outage."""
        try:
            await self._merge_pages(audit_id, left_by, pages)
        except Outage:
            raise
        except Exception:
            if len(pages) > 1:
                half = len(pages) // 2
                first = await self._merge_sound(audit_id, left_by, pages[:half])
                return first + await self._merge_sound(audit_id, left_by, pages[half:])
            logger.exception("load: a page of an ended run cannot be merged, it stays staged")
            return 1
        return 0

    @retry_conflicts
    async def _merge_pages(
        self, audit_id: int, read_by: int, pages: Sequence[UnmergedPage]
    ) -> None:
        """Merge pages that the run `read_by` has staged, in one transaction."""
        numbers, readings = [it.number for it in pages], [it.reading for it in pages]
        async with self._database.transaction() as session:
            await session.execute("lock_merge", read_by)
            taken = await session.one("take_pages", audit_id, read_by, numbers, readings)
            load = taken["load_id"]
            if load is None:
                return
            staged = await session.one("count_staged", load)
            if staged["staged"] != taken["staged"]:
                raise StagingMismatch(staged["staged"], taken["staged"])
            if staged["staged"] and staged["has_newer"]:
                await session.execute("drop_outdated", load)
            merged = await session.one("merge_wallpapers", load, audit_id)
            await session.execute("merge_counters", load)
            if staged["rejected"]:
                await session.execute("give_up_rejected", load, audit_id)
            await session.execute("resolve_loaded", load, audit_id)
            await session.execute("empty_staging", load)
            await session.execute("move_watermarks", load)
            await session.execute("end_load", load, taken["pages"], *merged)

    async def loaded(self, audit_id: int) -> LoadCounts:
        """Return the counts of all loads of the run together, each item counted once."""
        async with self._database.session() as session:
            return LoadCounts(**await session.one("loaded", audit_id))


def batches(pages: Iterable[UnmergedPage], max_items: int) -> Iterator[list[UnmergedPage]]:
    """Split pages, in order, into batches of at most `max_items` items, or of one page."""
    batch: list[UnmergedPage] = []
    items = 0
    for page in pages:
        if batch and items + page.items > max_items:
            yield batch
            batch, items = [], 0
        batch.append(page)
        items += page.items
    if batch:
        yield batch
