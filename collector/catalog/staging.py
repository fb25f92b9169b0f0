"""The page ledger and the staging table of extract, and what is known of searches."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

import anyio
import asyncpg
from msgspec.msgpack import Encoder

from collector.catalog.database import Database, Session, retry_conflicts
from collector.core.paging import CoveredPage, LedgerPage, UnreadablePage
from collector.core.wallpapers import Page, Rejected, Wallpaper
from collector.failpoints import Point, reach

_COVERED = tuple(field.name for field in fields(CoveredPage))
_UNREADABLE = tuple(field.name for field in fields(UnreadablePage))
# asyncpg's COPY can hang if the backend dies meanwhile, and its own `timeout` does not fire then
# (seen with 0.32.0, 2026-11). A page is a small list, so this is plenty.
COPY_TIMEOUT_SECONDS = 30.0

_ITEM_COLUMNS = ("audit_id", "page", "reading", "position", "code", "reason", "rejected")
_WALLPAPER_COLUMNS = tuple("raw" if name == "extra" else name for name in Wallpaper._fields)
_COLUMNS = (*_ITEM_COLUMNS, *_WALLPAPER_COLUMNS, "listed_digest")
_ACCEPTED = (None, None, None)
_NO_WALLPAPER = (None,) * len(Wallpaper._fields)
_COUNTERS = len(Wallpaper._fields[Wallpaper._fields.index("views") :])
_NO_LASTING_FIELDS = (None,) * (len(Wallpaper._fields) - 1 - _COUNTERS)
# Of SHA-256: as unlikely to collide as a UUID.
_DIGEST_BYTES = 16
# Equal values encode equally. If a later version encodes differently, each row is staged once more.
_encode = Encoder().encode


@dataclass(frozen=True, slots=True)
class SearchTotal:
    """How many wallpapers a search had `age_seconds` ago."""

    total: int
    age_seconds: float


class Pages:
    """Staged pages, and what is known of searches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = anyio.Lock()
        self._waiting: list[_Entry] = []

    async def covered_pages(self, audit_id: int) -> list[LedgerPage]:
        """Return the run's pages in the ledger, in the order in which they came."""
        return [_entry(row) for row in await self._database.fetch("covered_pages", audit_id)]

    async def watermark(self, search_key: str) -> list[str]:
        """Return the first page's ids of the last reading without a hole that was merged, or []."""
        return list(await self._database.value("watermark", search_key) or ())

    async def crawled_pages(self, audit_id: int) -> list[LedgerPage]:
        """Return `covered_pages`, with ids only if they may still prove a border of two pages."""
        return [_entry(row) for row in await self._database.fetch("crawled_pages", audit_id)]

    async def pages_above(self, search_key: str, audit_id: int) -> list[list[CoveredPage]]:
        """Return pages that earlier runs read since the watermark was set, by run, newest first.

        Between these pages and the watermark is a gap.
        """
        rows = await self._database.fetch("pages_above", search_key, audit_id)
        return [
            [_covered(row) for row in run] for _, run in groupby(rows, key=itemgetter("audit_id"))
        ]

    async def search_total(self, search_key: str) -> SearchTotal | None:
        """Return the total that was noted last, None if none was."""
        async with self._database.session() as session:
            row = await session.first("search_total", search_key)
        return SearchTotal(**row) if row else None

    async def note_search_total(self, search_key: str, total: int) -> None:
        """Note how many wallpapers a search has now."""
        await self._database.execute("note_search_total", search_key, total)

    async def has_read(self, audit_id: int, search_key: str) -> bool:
        """Say whether the run is the last one that read the search without a hole."""
        return await self._database.value("has_read", audit_id, search_key) is not None

    async def note_reading(self, audit_id: int, search_key: str, newest_ids: list[str]) -> None:
        """Note that the run read the search without a hole.

        `newest_ids`, the ids of its first page, become the watermark when the run's pages are
        merged.
        """
        await self._database.execute("note_reading", audit_id, search_key, newest_ids)

    async def stage_page(
        self, audit_id: int, search_key: str, page: Page, reading: int = 1
    ) -> CoveredPage:
        """Add the page to the ledger and COPY its new and changed items, in one transaction.

        Items that are listed as in the last merge are only counted. Pages that wait while another
        one commits share the next transaction, so a burst of answers costs few commits. If the
        ledger already has this reading, it is kept and returned. If cancelled, the page may or may
        not be staged.
        """
        entry = _Entry(audit_id, search_key, page, reading)
        self._waiting.append(entry)
        try:
            async with self._turn:
                if entry.covered is None:
                    await self._commit([each for each in self._waiting if each.covered is None])
        finally:
            self._waiting.remove(entry)
        assert entry.covered is not None
        return entry.covered

    async def note_unreadable(self, audit_id: int, page: UnreadablePage) -> None:
        """Note in the ledger that the page could not be read."""
        await self._database.execute(
            "note_unreadable",
            audit_id,
            page.number,
            page.search_key,
            page.last_page,
            page.total,
            page.problem,
        )

    @retry_conflicts
    async def _commit(self, entries: list[_Entry]) -> None:
        async with self._database.transaction() as session:
            before = await listed_before(
                session, [id_ for each in entries for id_ in each.page.ids]
            )
            for each in entries:
                each.known = sum(wallhaven_id in before for wallhaven_id in each.page.ids)
                each.records = staging_records(each.audit_id, each.page, each.reading, before)
            rows = await session.fetch_each("note_page", [each.arguments for each in entries])
            covered = {(row["audit_id"], row["number"], row["reading"]): row for row in rows}
            # Of several entries with the same key, the first one was added.
            new = {each.key: each for each in reversed(entries) if each.key in covered}
            await copy_records(session, [it for each in new.values() for it in each.records])
            reach(Point.PAGE_COPIED)
            for each in entries:
                if each.key not in covered:
                    covered[each.key] = await session.one("covered_page", *each.key)
        for each in entries:
            each.covered = _covered(covered[each.key])


@dataclass(eq=False, slots=True)
class _Entry:
    """A page that waits to be staged; `covered` is set once it is committed."""

    audit_id: int
    search_key: str
    page: Page
    reading: int
    known: int = 0
    records: list[tuple[Any, ...]] = field(default_factory=list)
    covered: CoveredPage | None = None

    @property
    def key(self) -> tuple[int, int, int]:
        return self.audit_id, self.page.number, self.reading

    @property
    def arguments(self) -> tuple[Any, ...]:
        page = self.page
        return (
            self.audit_id,
            page.number,
            len(page.items),
            page.last_page,
            page.total,
            page.ids,
            self.search_key,
            self.reading,
            page.per_page,
            [rejected.item for rejected in page.rejected],
            self.known,
            len(self.records),
        )


def _entry(row: asyncpg.Record) -> LedgerPage:
    if row["problem"] is None:
        return _covered(row)
    return UnreadablePage(**{name: row[name] for name in _UNREADABLE})


def _covered(row: asyncpg.Record) -> CoveredPage:
    return CoveredPage(**{name: row[name] for name in _COVERED})


class ListedBefore(NamedTuple):
    """An item's row as it was last merged."""

    digest: bytes | None
    views: int | None
    favorites: int | None


async def listed_before(session: Session, ids: list[str]) -> dict[str, ListedBefore]:
    """Return the items that have a row, by wallhaven_id."""
    rows = await session.fetch("listed_before", ids)
    return {wallhaven_id: ListedBefore(*before) for wallhaven_id, *before in rows}


def staging_records(
    audit_id: int, page: Page, reading: int, before: Mapping[str, ListedBefore]
) -> list[tuple[Any, ...]]:
    """Return the page's items as rows of `staged_wallpapers`, rejects included.

    If only its counters have changed, an item's row holds them and its id; an unchanged item is
    left out.
    """
    return [
        (audit_id, page.number, reading, position, *record)
        for position, item in enumerate(page.items)
        if (record := _record(item, before))
    ]


def listing_digest(wallpaper: Wallpaper) -> bytes:
    """Return 16 bytes that are equal for equal values, counters aside."""
    return sha256(_encode(wallpaper[:-_COUNTERS])).digest()[:_DIGEST_BYTES]


def _record(item: Wallpaper | Rejected, before: Mapping[str, ListedBefore]) -> tuple[Any, ...]:
    if isinstance(item, Rejected):
        return (item.code.value, item.reason, item.raw, item.wallhaven_id, *_NO_WALLPAPER)
    known, digest = before.get(item.wallhaven_id), listing_digest(item)
    if known is None or known.digest != digest:
        return (*_ACCEPTED, *item, digest)
    if item.counters in ((known.views, known.favorites), (None, None)):
        return ()
    return (*_ACCEPTED, item.wallhaven_id, *_NO_LASTING_FIELDS, *item.counters, None)


async def copy_records(session: Session, records: list[tuple[Any, ...]]) -> None:
    """COPY rows into `staged_wallpapers`; on timeout, terminates the connection."""
    try:
        async with asyncio.timeout(COPY_TIMEOUT_SECONDS):
            await session.connection.copy_records_to_table(
                "staged_wallpapers",
                schema_name="draenei_content",
                columns=_COLUMNS,
                records=records,
            )
    except TimeoutError:
        session.connection.terminate()
        raise
