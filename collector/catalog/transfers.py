"""The backlog of images: claims with lease and fence, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg

from collector.catalog.database import Database, Session, retry_conflicts
from collector.core.errors import Code
from collector.core.retry import GiveUp, RetryLater
from collector.core.transfers import (
    Backlog,
    Claim,
    DueImages,
    ItemFailure,
    KnownGood,
    StoredObject,
)

# Contract: of an item's tries at most two fall into one run. Indexes and `claim` have it, too.
RUN_ATTEMPTS = 2
# Any of three may have been deleted at the site since; all three at once is the host's doing.
KNOWN_GOOD_IMAGES = 3
# A host of which none of so many came is as good as new, and the look-up stays cheap.
KNOWN_GOOD_WINDOW = 10_000
EXHAUSTED_REASON = "its process died, or lost its lease, in the last permitted try"


@dataclass(frozen=True, slots=True)
class ClaimPolicy:
    """How long a claim lives without a heartbeat, and how many tries an item has."""

    lease_seconds: float
    max_attempts: int


class Transfers:
    """Claims with a lease and a fence, and what became of them. All times: the database's clock."""

    def __init__(self, database: Database, policy: ClaimPolicy) -> None:
        self._database = database
        self._policy = policy

    @retry_conflicts
    async def claim(
        self, audit_id: int, max_items: int, run_limit: int = 0, *, only: bool = False
    ) -> list[Claim]:
        """Claim up to `max_items` due items for a fresh owner; counts one attempt each.

        What the run's own pages list goes first, and nothing else is claimed if `only`.
        Claims of others whose lease has lapsed come back first: they are due at once, or dead
        letters (`exhausted`) where no try is left. With a `run_limit`, what the run has stored
        and what all its workers have in hand never exceed it together.
        """
        async with self._database.transaction() as session:
            used = await session.value("lock_limit", audit_id) if run_limit else None
            await self._reap(session, audit_id)
            if run_limit:
                room = await _room(session, audit_id, run_limit, used, max_items)
                max_items = min(max_items, room)
            rows = await session.fetch(
                "claim",
                audit_id,
                uuid4(),
                RUN_ATTEMPTS,
                max(0, max_items),
                self._policy.lease_seconds,
                only,
            )
        return [Claim(**row) for row in rows]

    async def _reap(self, session: Session, audit_id: int) -> None:
        lapsed = await session.fetch("reap_leases", self._policy.max_attempts)
        dead = [row["wallpaper_id"] for row in lapsed if row["is_dead"]]
        if dead:
            await session.execute(
                "give_up_exhausted", dead, audit_id, Code.EXHAUSTED, EXHAUSTED_REASON
            )

    async def mark_listed(self, audit_id: int) -> None:
        """Make what the run's merged pages list its own, so that it is claimed first."""
        await self._database.execute("mark_listed", audit_id)

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
            claim.audit_id,
            stored.key,
            stored.sha256,
            stored.size_bytes,
            stored.outcome,
            claim.url,
            claim.file_type,
            claim.file_size,
        )
        return confirmed is not None

    async def fail(self, claim: Claim, failure: ItemFailure) -> bool:
        """Commit a failed try: a later attempt or a dead letter. False: not ours any more."""
        match failure.decision:
            case RetryLater(delay_seconds):
                noted = await self._database.value(
                    "postpone",
                    *_identity(claim),
                    claim.audit_id,
                    failure.edge,
                    failure.code,
                    delay_seconds,
                )
            case GiveUp(code):
                noted = await self._give_up(claim, failure, code)
        return noted is not None

    @retry_conflicts
    async def _give_up(self, claim: Claim, failure: ItemFailure, code: Code) -> int | None:
        async with self._database.transaction() as session:
            letter: int | None = await session.value(
                "give_up", *_identity(claim), claim.audit_id, failure.edge, code, failure.reason
            )
            if letter is not None and (met := failure.conflict):
                await session.execute(
                    "quarantine", met.s3_key, met.etag, met.size_bytes, met.reason
                )
        return letter

    async def release(self, claims: Sequence[Claim]) -> None:
        """Hand claims back at once and refund their attempts."""
        await self._database.execute("release", *_identities(claims))

    @retry_conflicts
    async def refund_outage(self, audit_id: int, codes: Sequence[Code]) -> None:
        """Give back the tries of this run that failed with `codes`: an edge was down.

        Safe to repeat, and while other workers of the run go on: what is in their hands stays
        there, and what they gave up for another reason stays given up.
        """
        async with self._database.transaction() as session:
            # First the locks, then the change: it sees what was committed until they were had.
            blamed = await session.fetch("lock_blamed", audit_id, list(codes))
            items = [row["wallpaper_id"] for row in blamed]
            await session.execute("refund_outage", audit_id, items, list(codes))

    async def next_due_seconds(
        self, audit_id: int, run_limit: int = 0, *, only: bool = False, awaits_others: bool = True
    ) -> float | None:
        """Return the wait until this run may claim again, None if it need not wait.

        Only what its own pages list counts if `only`.
        Where the run's limit is used up by what its workers have in hand, that is until the
        first of these claims may be lost. Without `awaits_others`, claims of others count only
        where half of their lease has passed without a heartbeat: their holder writes no more.
        """
        within_seconds = None if awaits_others else self._policy.lease_seconds / 2
        async with self._database.session() as session:
            wait: float | None
            use = await _use(session, audit_id, run_limit)
            if use is None or use["stored"] + use["in_hand"] < run_limit:
                wait = await session.value(
                    "next_due_seconds", audit_id, RUN_ATTEMPTS, only, within_seconds
                )
            else:
                wait = use["lapse_seconds"]
        return None if wait is None else max(0.0, wait)

    @retry_conflicts
    async def enlist(self) -> None:
        """Put into the backlog what has no object and is not in it: rows that others inserted."""
        async with self._database.transaction() as session:
            await session.execute("lock_enlisting")
            await session.execute("enlist")

    async def known_good(self, origin: str) -> list[KnownGood]:
        """Return up to KNOWN_GOOD_IMAGES that were stored from addresses beginning with `origin`.

        The newest first. Only the newest KNOWN_GOOD_WINDOW stored images are looked at.
        """
        rows = await self._database.fetch(
            "known_good", origin, KNOWN_GOOD_IMAGES, KNOWN_GOOD_WINDOW
        )
        return [KnownGood(**row) for row in rows]

    async def due_images(self, audit_id: int) -> DueImages:
        """Return how many images are due or claimed, those of the run's own pages apart."""
        rows = await self._database.fetch("due_images", audit_id)
        return DueImages(**rows[0])

    async def backlog(self) -> Backlog:
        """Return the number of items by state."""
        rows = await self._database.fetch("backlog")
        return Backlog(**rows[0])


async def _room(
    session: Session, audit_id: int, run_limit: int, used: int | None, max_items: int
) -> int:
    """Return how many more a run may have; what it uses is counted only where that may be few.

    `used` is no less than what is used: counting takes as long as the run has stored much.
    """
    if used is None or used + max_items > run_limit:
        use = await session.one("limit_use", audit_id)
        used = use["stored"] + use["in_hand"]
        await session.execute("note_limit_use", audit_id, used)
    return run_limit - used


async def _use(session: Session, audit_id: int, run_limit: int) -> asyncpg.Record | None:
    """Count what a run uses of its limit; None where there is room for certain."""
    if not run_limit:
        return None
    used = await session.value("limit_bound", audit_id)
    if used is not None and used < run_limit:
        return None
    return await session.one("limit_use", audit_id)


def _identity(claim: Claim) -> tuple[int, UUID, int]:
    return claim.wallpaper_id, claim.owner, claim.fence


def _identities(claims: Sequence[Claim]) -> tuple[list[int], list[UUID], list[int]]:
    return (
        [claim.wallpaper_id for claim in claims],
        [claim.owner for claim in claims],
        [claim.fence for claim in claims],
    )
