"""The rows that a bucket is compared with, and their repairs."""

from __future__ import annotations

from collections.abc import Sequence

from collector.catalog.database import Database, retry_conflicts
from collector.core.maintenance import KeyedRow, PresentRow, QuarantinedObject


class Verification:
    """The rows that a bucket is compared with, and their repairs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keyed_rows(self, last_key: str, last_id: int, max_items: int) -> list[KeyedRow]:
        """Return the next rows that name an object, after `last_key`, in byte order of keys."""
        rows = await self._database.fetch("keyed_rows", last_key, last_id, max_items)
        return [KeyedRow(**row) for row in rows]

    async def present_rows(self, wallhaven_ids: Sequence[str]) -> dict[str, PresentRow]:
        """Return these wallpapers as they are now, by wallhaven_id; unknown ones are left out."""
        rows = await self._database.fetch("present_rows", list(wallhaven_ids))
        return {row["wallhaven_id"]: PresentRow(**row) for row in rows}

    async def quarantined(self, keys: Sequence[str]) -> dict[str, QuarantinedObject]:
        """Return the quarantined objects among these keys, by key."""
        rows = await self._database.fetch("quarantined", list(keys))
        return {row["s3_key"]: QuarantinedObject(**row) for row in rows}

    async def quarantine(self, found: QuarantinedObject) -> None:
        """Quarantine an object that belongs to no row; replaces an earlier note on the same key."""
        await self._database.execute(
            "quarantine", found.s3_key, found.etag, found.size_bytes, found.reason
        )

    @retry_conflicts
    async def enlist(self) -> None:
        """Add rows without an object to the backlog, as `Transfers.enlist` does."""
        async with self._database.transaction() as session:
            await session.execute("lock_enlisting")
            await session.execute("enlist")

    async def unstore(self, row: KeyedRow) -> bool:
        """Make the row due for another download. False: it has changed meanwhile."""
        found = await self._database.value(
            "unstore", row.wallpaper_id, row.s3_key, row.object_sha256
        )
        return found is not None

    async def adopt(self, row: PresentRow, s3_key: str, sha256: str, size_bytes: int) -> bool:
        """Commit that the object is the row's. False: the row is stored already, or claimed."""
        adopted = await self._database.value("adopt", row.wallpaper_id, s3_key, sha256, size_bytes)
        return adopted is not None

    async def retry(self, row: PresentRow) -> bool:
        """Make the row due at once, even if its image was given up. False: it is claimed."""
        return await self._database.value("retry_dead", row.wallpaper_id) is not None
