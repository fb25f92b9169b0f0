"""Rows in the order of a bucket's keys, and what a comparison may put right about them."""

from __future__ import annotations

from collections.abc import Sequence

from collector.catalog.database import Database, retry_conflicts
from collector.catalog.transfers import EXHAUSTED_REASON
from collector.core.errors import Code
from collector.core.maintenance import (
    KeyedRow,
    Lapsed,
    NotedUpload,
    PresentRow,
    QuarantinedObject,
    RunDetail,
)


class Verification:
    """The rows that a bucket is compared with, and what may be put right about them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keyed_rows(self, behind_key: str, behind_row: int, max_items: int) -> list[KeyedRow]:
        """Return the next rows that name an object, in the byte order of their keys."""
        rows = await self._database.fetch("keyed_rows", behind_key, behind_row, max_items)
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
        """Note an object that belongs to no row; a later note on the same key replaces it."""
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
            "unstore", row.wallpaper_id, row.s3_key, row.object_sha256
        )
        return found is not None

    async def adopt(self, row: PresentRow, s3_key: str, sha256: str, size_bytes: int) -> bool:
        """Commit that the object is the row's. False: it is stored already, or claimed."""
        adopted = await self._database.value("adopt", row.wallpaper_id, s3_key, sha256, size_bytes)
        return adopted is not None

    async def retry(self, row: PresentRow) -> bool:
        """Make the row due at once, even if it was given up. False: it is claimed."""
        return await self._database.value("retry_dead", row.wallpaper_id) is not None


class Janitor:
    """What dead processes and old runs leave in the tables. All times are the database's clock."""

    def __init__(self, database: Database, max_attempts: int) -> None:
        self._database = database
        self._max_attempts = max_attempts

    @retry_conflicts
    async def release_lapsed(self) -> Lapsed:
        """Take claims from who let their leases lapse: due again, or dead letters."""
        async with self._database.session() as session:
            row = await session.one(
                "release_lapsed", self._max_attempts, Code.EXHAUSTED, EXHAUSTED_REASON
            )
        return Lapsed(**row)

    async def noted_uploads(self, behind_row: int, max_items: int) -> list[NotedUpload]:
        """Return the next uploads noted for wallpapers that no worker has claimed, by row."""
        rows = await self._database.fetch("noted_uploads", behind_row, max_items)
        return [NotedUpload(**row) for row in rows]

    async def forget_upload(self, noted: NotedUpload) -> None:
        """Note that the upload is gone; a newer one of the same wallpaper stays noted."""
        await self._database.execute("forget_upload", noted.wallpaper_id, noted.upload_id)

    async def uploads_in_hand(self, upload_ids: Sequence[str]) -> set[str]:
        """Return those of the uploads that belong to claims which live."""
        rows = await self._database.fetch("uploads_in_hand", list(upload_ids))
        return {row["upload_id"] for row in rows}

    async def mark_trimmed(self, keep_days: int, max_items: int) -> int:
        """Close for good up to `max_items` runs that ended so long ago; return how many."""
        return int(await self._database.value("mark_trimmed", keep_days, max_items))

    async def trim(self, detail: RunDetail, keep_days: int, max_items: int) -> int:
        """Delete up to `max_items` rows of runs that are closed for good, in one transaction."""
        return int(await self._database.value(f"trim_{detail}", keep_days, max_items))
