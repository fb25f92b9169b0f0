"""Dead letters: list, requeue, resolve; and the history of single wallpapers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import asyncpg

from collector.catalog.database import Database, Session, retry_conflicts
from collector.core.history import (
    Attempt,
    Changed,
    Choice,
    DeadLetter,
    Details,
    History,
    ItemRow,
    Listing,
)
from collector.core.runs import StageName

_COLUMNS = tuple(field.name for field in fields(DeadLetter))


class DeadLetters:
    """Items that were given up."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open_letters(self, code: str | None = None) -> list[DeadLetter]:
        """Return open dead letters, with this code or any, the oldest first."""
        return [_letter(row) for row in await self._database.fetch("open_dead_letters", code)]

    @retry_conflicts
    async def requeue(self, choice: Choice) -> Changed:
        """Make given-up images due again, with all their attempts, and close their letters.

        Letters about metadata stay open: they have no row to retry, only another listing can bring
        one. On failure or cancellation nothing has changed.
        """
        async with self._database.transaction() as session:
            rows = await _chosen(session, choice)
            images = [row for row in rows if row["stage"] == StageName.TRANSFER]
            others = [row for row in rows if row["stage"] != StageName.TRANSFER]
            await session.execute("requeue_transfers", [row["item"] for row in images])
            return await _close(session, choice, images, others)

    @retry_conflicts
    async def resolve(self, choice: Choice) -> Changed:
        """Close letters for good: their items stay given up."""
        async with self._database.transaction() as session:
            return await _close(session, choice, await _chosen(session, choice), [])


async def _chosen(session: Session, choice: Choice) -> list[asyncpg.Record]:
    names = None if choice.names is None else list(choice.names)
    return await session.fetch("lock_dead_letters", choice.code, names)


async def _close(
    session: Session,
    choice: Choice,
    closed: Sequence[asyncpg.Record],
    left: Sequence[asyncpg.Record],
) -> Changed:
    await session.execute("resolve_dead_letters", [row["id"] for row in closed])
    found = {name for row in (*closed, *left) for name in (row["item"], str(row["id"]))}
    return Changed(
        closed=[_letter(row) for row in closed],
        left=[_letter(row) for row in left],
        unknown=[name for name in choice.names or () if name not in found],
    )


def _letter(row: asyncpg.Record) -> DeadLetter:
    values: dict[str, Any] = {name: row[name] for name in _COLUMNS}
    return DeadLetter(**values)


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A wallpaper whose image is in the bucket."""

    wallhaven_id: str
    url: str
    s3_key: str
    object_sha256: str
    object_bytes: int


class Items:
    """Single wallpapers, read only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def history(self, wallhaven_id: str) -> History:
        """Return everything known about an item, in one snapshot."""
        async with self._database.transaction("repeatable_read") as session:
            row = await session.first("item_row", wallhaven_id)
            listings = await session.fetch("item_listings", wallhaven_id)
            letters = await session.fetch("item_letters", wallhaven_id)
            attempts = await session.fetch("item_attempts", row["id"]) if row else []
            details = await session.first("item_details", row["id"]) if row else None
        return History(
            wallhaven_id,
            ItemRow(**row) if row else None,
            [Listing(**each) for each in listings],
            letters=[DeadLetter(**each) for each in letters],
            attempts_by_run=[Attempt(**each) for each in attempts],
            details=Details(**details) if details else None,
        )

    async def stored(self, limit: int | None = None) -> list[StoredRow]:
        """Return the newest `limit` wallpapers whose image is stored (None: all)."""
        return [StoredRow(**row) for row in await self._database.fetch("stored_objects", limit)]

    async def collection(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the `limit` wallpapers that were stored last (None: all), by column."""
        return [dict(row) for row in await self._database.fetch("collection", limit)]
