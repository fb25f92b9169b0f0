"""What is needed to compare bucket and tables, and to tidy up after the dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from collector.core.upkeep import Lapsed, NotedUpload, RunDetail
from collector.core.verification import KeyedRow, PresentRow, QuarantinedObject


class VerifyCatalog(Protocol):
    """The rows that a bucket is compared with, and what may be put right about them."""

    async def keyed_rows(self, behind_key: str, behind_row: int, most: int) -> list[KeyedRow]:
        """Return the next rows that name an object, in the byte order of their keys."""

    async def present_rows(self, wallhaven_ids: Sequence[str]) -> dict[str, PresentRow]:
        """Return these wallpapers as they are now, by id; unknown ones are left out."""

    async def quarantined(self, keys: Sequence[str]) -> dict[str, QuarantinedObject]:
        """Return those of the keys that are in quarantine, as they were found."""

    async def quarantine(self, found: QuarantinedObject) -> None:
        """Note an object that is nobody's; the same key again is noted anew."""

    async def enlist(self) -> None:
        """Put into the backlog what has no object and is not in it."""

    async def unstore(self, row: KeyedRow) -> bool:
        """Make the row one that is to be fetched again. False: it has changed meanwhile."""

    async def adopt(self, row: PresentRow, s3_key: str, sha256: str, size_bytes: int) -> bool:
        """Commit that the object is the row's. False: it is stored already, or in hand."""

    async def retry(self, row: PresentRow) -> bool:
        """Make the row due at once, given up as it may be. False: it is in hand."""


class JanitorCatalog(Protocol):
    """What dead processes and old runs leave in the tables."""

    async def release_lapsed(self) -> Lapsed:
        """Take claims from who let their leases lapse: due again, or dead letters."""

    async def noted_uploads(self, behind_row: int, most: int) -> list[NotedUpload]:
        """Return the next uploads noted for wallpapers that nobody has in hand, by row."""

    async def forget_upload(self, noted: NotedUpload) -> None:
        """Note that the upload is gone; a newer one of the same wallpaper stays noted."""

    async def uploads_in_hand(self, upload_ids: Sequence[str]) -> set[str]:
        """Return those of the uploads that belong to claims which live."""

    async def mark_trimmed(self, keep_days: int, most: int) -> int:
        """Close for good up to `most` runs that ended so long ago; return how many.

        Their audit stays as it is, and their details may go. Runs of open crawls are left alone.
        """

    async def trim(self, detail: RunDetail, keep_days: int, most: int) -> int:
        """Delete up to `most` rows of runs that are closed for good; return how many.

        Left are those that a search still needs to know what it has read, or another run to be
        counted, and dead letters that are open.
        """
