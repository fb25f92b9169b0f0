"""A backlog in memory, to measure the engine without the database."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from uuid import UUID

from work import Body

from collector.core.errors import Code
from collector.core.transfers import Claim, DueImages, ItemFailure, KnownGood, StoredObject

OWNER, FENCE = UUID(int=0), 1
# The token of an attempt; the store of `rig.py` gives it for every object.
TOKEN = f"{OWNER}/{FENCE}"


class MemoryCatalog:
    """Lets each body be claimed once."""

    def __init__(self, found: Sequence[Body], origin_url: str) -> None:
        self._claims = self._all(found, origin_url)

    @staticmethod
    def _all(found: Sequence[Body], origin_url: str) -> Iterator[Claim]:
        for key, body in enumerate(found):
            yield Claim(
                audit_id=1,
                wallpaper_id=key,
                owner=OWNER,
                fence=FENCE,
                attempt=1,
                is_own=True,
                wallhaven_id=body.wallhaven_id,
                url=f"{origin_url}/{body.name}",
                file_type=body.file_type,
                file_size=body.size_bytes,
                dimension_x=None,
                dimension_y=None,
                object_sha256=None,
                stale_upload_id=None,
            )

    async def claim(
        self, _: int, max_items: int, run_limit: int = 0, *, only: bool = False
    ) -> list[Claim]:
        return list(islice(self._claims, max_items))

    async def mark_listed(self, _: int) -> None:
        pass

    async def confirm(self, _: Claim, __: StoredObject) -> bool:
        return True

    async def fail(self, claim: Claim, failure: ItemFailure) -> bool:
        sys.stderr.write(f"{claim.wallhaven_id}: {failure.code}, {failure.reason}\n")
        return True

    async def heartbeat(self, claims: Sequence[Claim]) -> set[int]:
        return {claim.wallpaper_id for claim in claims}

    async def journal_upload(self, _: Claim, __: str) -> bool:
        return True

    async def release(self, _: Sequence[Claim]) -> None:
        pass

    async def refund_outage(self, _: int, __: Sequence[Code]) -> None:
        pass

    async def next_due_seconds(
        self, _: int, run_limit: int = 0, *, only: bool = False, awaits_others: bool = True
    ) -> float | None:
        return None

    async def enlist(self) -> None:
        pass

    async def known_good(self, _: str) -> list[KnownGood]:
        return []

    async def due_images(self, _: int) -> DueImages:
        return DueImages(0, 0, 0)
