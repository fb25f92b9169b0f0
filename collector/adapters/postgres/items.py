"""What the tables know of one wallpaper."""

from __future__ import annotations

from typing import Any

from collector.adapters.postgres.database import Database, Session
from collector.core.dead_letters import DeadLetter
from collector.core.lives import Details, ItemRow, Life, Listing, Try


class PostgresItems:
    """Single wallpapers, read only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def life(self, wallhaven_id: str) -> Life:
        """Return all that is known of an item, in one snapshot."""
        async with self._database.transaction("repeatable_read") as session:
            row = await session.first("item_row", wallhaven_id)
            listings = await session.fetch("item_listings", wallhaven_id)
            letters = await session.fetch("item_letters", wallhaven_id)
            more = await _of_row(session, row["id"]) if row else {}
        return Life(
            wallhaven_id,
            ItemRow(**row) if row else None,
            [Listing(**each) for each in listings],
            letters=[DeadLetter(**each) for each in letters],
            tries=more.get("tries", []),
            details=more.get("details"),
        )


async def _of_row(session: Session, wallpaper_key: int) -> dict[str, Any]:
    details = await session.first("item_details", wallpaper_key)
    return {
        "tries": [Try(**each) for each in await session.fetch("item_tries", wallpaper_key)],
        "details": Details(**details) if details else None,
    }
