"""What of a page goes into `staged_wallpapers`: all that is not listed as it was before."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from msgspec.msgpack import Encoder

from collector.adapters.postgres.database import Session
from collector.core.wallpapers import Page, Rejected, Wallpaper

# asyncpg's COPY can wait for ever when the backend dies in the middle, and its own `timeout`
# does not fire then (seen with 0.32.0, 2026-11): pages are small lists, and this bounds them.
COPY_TIMEOUT_SECONDS = 30.0

_ITEM_COLUMNS = ("audit_id", "page", "reading", "position", "code", "reason", "rejected")
_WALLPAPER_COLUMNS = tuple("raw" if name == "extra" else name for name in Wallpaper._fields)
_COLUMNS = (*_ITEM_COLUMNS, *_WALLPAPER_COLUMNS, "listed_digest")
_ACCEPTED = (None, None, None)
_NO_WALLPAPER = (None,) * len(Wallpaper._fields)
_COUNTERS = len(Wallpaper._fields[Wallpaper._fields.index("views") :])
_NO_LASTING_FIELDS = (None,) * (len(Wallpaper._fields) - 1 - _COUNTERS)
# Of SHA-256: as good as a UUID at telling listings apart.
_DIGEST_BYTES = 16
# One form for each value and type. Where a later version wrote another, each row would be staged
# once more, and nothing else.
_encode = Encoder().encode


class ListedBefore(NamedTuple):
    """What the row of an item was like when it was merged last."""

    digest: bytes | None
    views: int | None
    favorites: int | None


async def listed_before(session: Session, ids: list[str]) -> dict[str, ListedBefore]:
    """Return what is known of these items: nothing of those that have no row."""
    rows = await session.fetch("listed_before", ids)
    return {wallhaven_id: ListedBefore(*before) for wallhaven_id, *before in rows}


def staging_records(
    run_key: int, page: Page, reading: int, before: Mapping[str, ListedBefore]
) -> list[tuple[Any, ...]]:
    """Return the page's items as rows of `staged_wallpapers`, rejects included.

    An item whose counters alone have changed has these and its id; one that has not changed at all
    is left out.
    """
    return [
        (run_key, page.number, reading, position, *record)
        for position, item in enumerate(page.items)
        if (record := _record(item, before))
    ]


def listing_digest(wallpaper: Wallpaper) -> bytes:
    """Return 16 bytes that are the same for the same values of all but the counters."""
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
    """COPY rows into `staged_wallpapers`; where that takes too long, the connection is ended."""
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
