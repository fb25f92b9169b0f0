"""What dead processes and old runs leave in the tables."""

from __future__ import annotations

from collections.abc import Sequence

from collector.adapters.postgres.database import Database, retry_conflicts
from collector.adapters.postgres.transfers import EXHAUSTED_REASON
from collector.core.errors import Code
from collector.core.upkeep import Lapsed, NotedUpload, RunDetail


class PostgresJanitor:
    """JanitorCatalog on Postgres. All times are the database's clock."""

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

    async def noted_uploads(self, behind_row: int, most: int) -> list[NotedUpload]:
        """Return the next uploads noted for wallpapers that nobody has in hand, by row."""
        rows = await self._database.fetch("noted_uploads", behind_row, most)
        return [NotedUpload(**row) for row in rows]

    async def forget_upload(self, noted: NotedUpload) -> None:
        """Note that the upload is gone; a newer one of the same wallpaper stays noted."""
        await self._database.execute("forget_upload", noted.wallpaper_key, noted.upload_id)

    async def uploads_in_hand(self, upload_ids: Sequence[str]) -> set[str]:
        """Return those of the uploads that belong to claims which live."""
        rows = await self._database.fetch("uploads_in_hand", list(upload_ids))
        return {row["upload_id"] for row in rows}

    async def mark_trimmed(self, keep_days: int, most: int) -> int:
        """Close for good up to `most` runs that ended so long ago; return how many."""
        return int(await self._database.value("mark_trimmed", keep_days, most))

    async def trim(self, detail: RunDetail, keep_days: int, most: int) -> int:
        """Delete up to `most` rows of runs that are closed for good, in one transaction."""
        return int(await self._database.value(f"trim_{detail}", keep_days, most))
