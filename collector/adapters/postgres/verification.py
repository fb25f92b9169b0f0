"""Rows in the order of a bucket's keys, and what a comparison may put right about them."""

from __future__ import annotations

from collections.abc import Sequence

from collector.adapters.postgres.database import Database, retry_conflicts
from collector.core.verification import KeyedRow, PresentRow, QuarantinedObject


class PostgresVerification:
    """VerifyCatalog on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keyed_rows(self, behind_key: str, behind_row: int, most: int) -> list[KeyedRow]:
        """Return the next rows that name an object, in the byte order of their keys."""
        rows = await self._database.fetch("keyed_rows", behind_key, behind_row, most)
        return [KeyedRow(**row) for row in rows]

    async def present_rows(self, wallhaven_ids: Sequence[str]) -> dict[str, PresentRow]:
        """Return these wallpapers as they are now, by id; unknown ones are left out."""
        rows = await self._database.fetch("present_rows", list(wallhaven_ids))
        return {row["wallhaven_id"]: PresentRow(**row) for row in rows}

    async def quarantined(self, keys: Sequence[str]) -> dict[str, QuarantinedObject]:
        """Return those of the keys that are in quarantine, as they were found."""
        rows = await self._database.fetch("quarantined", list(keys))
        return {row["s3_key"]: QuarantinedObject(**row) for row in rows}

    async def quarantine(self, found: QuarantinedObject) -> None:
        """Note an object that is nobody's; the same key again is noted anew."""
        await self._database.execute(
            "quarantine", found.s3_key, found.etag, found.size_bytes, found.reason
        )

    @retry_conflicts
    async def enlist(self) -> None:
        """Put into the backlog what has no object and is not in it."""
        async with self._database.transaction() as session:
            await session.execute("lock_enlisting")
            await session.execute("enlist")

    async def unstore(self, row: KeyedRow) -> bool:
        """Make the row one that is to be fetched again. False: it has changed meanwhile."""
        found = await self._database.value(
            "unstore", row.wallpaper_key, row.s3_key, row.object_sha256
        )
        return found is not None

    async def adopt(self, row: PresentRow, s3_key: str, sha256: str, size_bytes: int) -> bool:
        """Commit that the object is the row's. False: it is stored already, or in hand."""
        adopted = await self._database.value("adopt", row.wallpaper_key, s3_key, sha256, size_bytes)
        return adopted is not None

    async def retry(self, row: PresentRow) -> bool:
        """Make the row due at once, given up as it may be. False: it is in hand."""
        return await self._database.value("retry_dead", row.wallpaper_key) is not None
