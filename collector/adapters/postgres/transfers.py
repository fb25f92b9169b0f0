"""The backlog of images: claims with lease and fence, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from collector.adapters.postgres.database import Database, retry_conflicts
from collector.core.errors import Code
from collector.core.retry import GiveUp, RetryLater
from collector.core.transfers import Backlog, Claim, ItemFailure, StoredObject

# Contract: of an item's tries at most two fall into one run.
RUN_ATTEMPTS = 2
_EXHAUSTED_REASON = "its process died, or lost its lease, in the last permitted try"


@dataclass(frozen=True, slots=True)
class ClaimPolicy:
    """How long a claim lives without a heartbeat, and how many tries an item has."""

    lease_seconds: float
    max_attempts: int


class PostgresTransfers:
    """TransferCatalog on Postgres. All times are the database's clock."""

    def __init__(self, database: Database, policy: ClaimPolicy) -> None:
        self._database = database
        self._policy = policy

    @retry_conflicts
    async def claim(self, run_key: int, limit: int) -> list[Claim]:
        """Claim up to `limit` due items for a fresh owner; counts one attempt each.

        Claims of others whose lease has lapsed come back first: they are due at once, or dead
        letters (`exhausted`) where no try is left.
        """
        async with self._database.transaction() as session:
            lapsed = await session.fetch("reap_leases", self._policy.max_attempts)
            dead = [row["wallpaper_id"] for row in lapsed if row["is_dead"]]
            if dead:
                await session.execute(
                    "bury_exhausted", dead, run_key, Code.EXHAUSTED, _EXHAUSTED_REASON
                )
            rows = await session.fetch(
                "claim", run_key, uuid4(), RUN_ATTEMPTS, limit, self._policy.lease_seconds
            )
        return [Claim(**row) for row in rows]

    async def heartbeat(self, claims: Sequence[Claim]) -> set[int]:
        """Extend the leases; return the wallpaper keys that are still ours."""
        rows = await self._database.fetch(
            "heartbeat", *_identities(claims), self._policy.lease_seconds
        )
        return {row["wallpaper_id"] for row in rows}

    async def journal_upload(self, claim: Claim, upload_id: str) -> bool:
        """Note a multipart upload before its first part. False: not ours."""
        return (
            await self._database.value("journal_upload", *_identity(claim), upload_id)
        ) is not None

    async def confirm(self, claim: Claim, stored: StoredObject) -> bool:
        """Commit that the object is stored. False: the claim was no longer ours."""
        confirmed = await self._database.value(
            "confirm",
            *_identity(claim),
            claim.run_key,
            stored.key,
            stored.sha256,
            stored.size_bytes,
            stored.outcome,
        )
        return confirmed is not None

    async def fail(self, claim: Claim, failure: ItemFailure) -> bool:
        """Commit a failed try: a later attempt or a dead letter. False: not ours any more."""
        match failure.decision:
            case RetryLater(delay_seconds):
                noted = await self._database.value(
                    "postpone",
                    *_identity(claim),
                    claim.run_key,
                    failure.edge,
                    failure.code,
                    delay_seconds,
                )
            case GiveUp(code):
                noted = await self._database.value(
                    "bury", *_identity(claim), claim.run_key, failure.edge, code, failure.reason
                )
        return noted is not None

    @retry_conflicts
    async def release(self, claims: Sequence[Claim]) -> None:
        """Hand claims back at once and refund their attempts."""
        await self._database.execute("release", *_identities(claims))

    @retry_conflicts
    async def refund_outage(self, run_key: int, codes: Sequence[Code]) -> None:
        """Give back the tries of this run that failed with `codes`: an edge was down."""
        await self._database.execute("refund_outage", run_key, list(codes))

    async def next_due_seconds(self, run_key: int) -> float | None:
        """Return the wait until this run may try an item again, None if there is none."""
        wait: float | None = await self._database.value("next_due_seconds", run_key, RUN_ATTEMPTS)
        return None if wait is None else max(0.0, wait)

    async def enlist(self) -> None:
        """Put into the backlog what has no object and is not in it: rows that others inserted."""
        await self._database.execute("enlist")

    async def known_good_url(self) -> str | None:
        """Return the address of the image that was stored last, None where there is none."""
        url: str | None = await self._database.value("known_good_url")
        return url

    async def stored_in_run(self, run_key: int) -> int:
        """Return how many images this run has stored or adopted so far."""
        return int(await self._database.value("stored_in_run", run_key))

    async def backlog(self) -> Backlog:
        """Return the number of items by state."""
        rows = await self._database.fetch("backlog")
        return Backlog(**rows[0])


def _identity(claim: Claim) -> tuple[int, UUID, int]:
    return claim.wallpaper_key, claim.owner, claim.fence


def _identities(claims: Sequence[Claim]) -> tuple[list[int], list[UUID], list[int]]:
    return (
        [claim.wallpaper_key for claim in claims],
        [claim.owner for claim in claims],
        [claim.fence for claim in claims],
    )
