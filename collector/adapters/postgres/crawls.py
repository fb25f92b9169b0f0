"""Backfills: which list, which run reads it, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass

from collector.adapters.postgres.database import Database
from collector.core.certificate import CrawlVerdict
from collector.core.runs import Json


@dataclass(frozen=True, slots=True)
class CrawlRange:
    """Pages `from_page` to `to_page` (None: to the end) of the list of a search."""

    search_key: str
    from_page: int = 1
    to_page: int | None = None


@dataclass(frozen=True, slots=True)
class KnownCrawl:
    """A crawl and the run that reads it; `verdict` None while it is open."""

    run_key: int
    dag_id: str
    run_id: str
    verdict: CrawlVerdict | None


class PostgresCrawls:
    """What the database knows of crawls."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, wanted: CrawlRange) -> KnownCrawl | None:
        """Return the open crawl of these pages, or the newest that has ended, or None."""
        async with self._database.session() as session:
            row = await session.first(
                "find_crawl", wanted.search_key, wanted.from_page, wanted.to_page
            )
        if row is None:
            return None
        verdict = CrawlVerdict(row["verdict"]) if row["verdict"] else None
        return KnownCrawl(row["run_key"], row["dag_id"], row["run_id"], verdict)

    async def last(self, limit: int) -> list[dict[str, Json]]:
        """Return the newest backfills, newest first, ready for people or JSON."""
        return [dict(row) for row in await self._database.fetch("last_crawls", limit)]

    async def begin(self, run_key: int, wanted: CrawlRange, *, is_oldest_first: bool) -> None:
        """Note that the run reads these pages; it may have begun before."""
        await self._database.execute(
            "begin_crawl",
            run_key,
            wanted.search_key,
            wanted.from_page,
            wanted.to_page,
            is_oldest_first,
        )

    async def end(self, run_key: int, verdict: CrawlVerdict, joined_to: str | None = None) -> None:
        """Note the verdict: the crawl is over.

        `joined_to` is the search key of the same list, newest first, where all of it was seen: runs
        of that search need not read behind it.
        """
        async with self._database.transaction() as session:
            await session.execute("end_crawl", run_key, verdict)
            if joined_to is not None:
                await session.execute("join_watermark", run_key, joined_to)
