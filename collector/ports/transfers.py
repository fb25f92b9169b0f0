"""The backlog of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from collector.core.errors import Code
from collector.core.transfers import Claim, DueImages, ItemFailure, KnownGood, StoredObject


class TransferCatalog(Protocol):
    """The backlog of images: claims with a lease and a fence, and what became of them."""

    async def claim(
        self, run_key: int, most: int, run_limit: int = 0, *, only: bool = False
    ) -> list[Claim]:
        """Claim up to `most` due items for a fresh owner; counts one attempt each.

        What the run's own pages list goes first, and nothing else is claimed if `only`.
        With a `run_limit`, what the run has stored and what all its workers have in hand never
        exceed it together.
        """

    async def mark_listed(self, run_key: int) -> None:
        """Make what the run's merged pages list its own, so that it is claimed first."""

    async def heartbeat(self, claims: Sequence[Claim]) -> set[int]:
        """Extend the leases; return the wallpaper keys that are still ours."""

    async def journal_upload(self, claim: Claim, upload_id: str) -> bool:
        """Note a multipart upload before its first part. False: not ours."""

    async def confirm(self, claim: Claim, stored: StoredObject) -> bool:
        """Commit that the object is stored. False: not ours any more; nothing changed."""

    async def fail(self, claim: Claim, failure: ItemFailure) -> bool:
        """Commit a failed try: a later attempt or a dead letter. False: not ours any more."""

    async def release(self, claims: Sequence[Claim]) -> None:
        """Hand claims back at once and refund their attempts."""

    async def refund_outage(self, run_key: int, codes: Sequence[Code]) -> None:
        """Give back the tries of this run that failed with `codes`: an edge was down.

        Safe to repeat, and while other workers of the run go on.
        """

    async def next_due_seconds(
        self, run_key: int, run_limit: int = 0, *, only: bool = False, awaits_others: bool = True
    ) -> float | None:
        """Return the wait until this run may claim again, None if it need not wait.

        Only what its own pages list counts if `only`. Without `awaits_others`, claims of others
        count only where their holder seems to be dead.
        """

    async def enlist(self) -> None:
        """Put into the backlog what has no object and is not in it: rows that others inserted."""

    async def known_good(self, origin: str) -> list[KnownGood]:
        """Return a few images that were stored from addresses beginning with `origin`.

        The newest first; none if nothing was stored from there in living memory.
        """

    async def due_images(self, run_key: int) -> DueImages:
        """Return how many images are due or claimed, those of the run's own pages apart."""
