"""The backlog of images: claims with lease and fence, and their outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg

from collector.catalog.database import Database, Session, retry_conflicts
from collector.core.errors import Code
from collector.core.maintenance import Lapsed, NotedUpload
from collector.core.retry import GiveUp, RetryLater
from collector.core.transfers import (
    Backlog,
    Claim,
    DueImages,
    ItemFailure,
    KnownGood,
    StoredObject,
)

# Contract: at most two attempts of an item in one run. Indexes and `claim` repeat the number.
RUN_ATTEMPTS = 2
# The site may have deleted one or two of them since; if all three fail, the host is the cause.
KNOWN_GOOD_IMAGES = 3
# Keeps the look-up cheap. A host without any of so many images counts as unknown.
KNOWN_GOOD_WINDOW = 10_000
EXHAUSTED_REASON = "its process died, or lost its lease, in the last permitted attempt"


@dataclass(frozen=True, slots=True)
class ClaimPolicy:
    """How long a claim lives without a heartbeat, and how many attempts an item has."""

    lease_seconds: float
    max_attempts: int


class Transfers:
    """Claims with a lease and a fence, and their outcomes. All times are the database's clock."""

    def __init__(self, database: Database, policy: ClaimPolicy) -> None:
        self._database = database
        self._policy = policy

    @retry_conflicts
    async def claim(
        self, audit_id: int, max_items: int, run_limit: int = 0, *, only: bool = False
    ) -> list[Claim]:
        """Claim up to `max_items` due items for a new owner; counts one attempt each.

        Items that the run's own pages list go first; with `only`, no others are claimed. Before
        that, claims whose lease has lapsed are released: their items are due at once, or become
        dead letters (`exhausted`) if no attempt is left. With a `run_limit`, the images stored by
        the run and those claimed by all its workers together never exceed it.
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
        """Mark what the run's merged pages list as its own, so that it is claimed first."""
        await self._database.execute("mark_listed", audit_id)

    async def heartbeat(self, claims: Sequence[Claim]) -> set[int]:
        """Extend the leases; return the `wallpaper_id`s of the claims that still hold."""
        rows = await self._database.fetch(
            "heartbeat", *_identities(claims), self._policy.lease_seconds
        )
        return {row["wallpaper_id"] for row in rows}

    async def journal_upload(self, claim: Claim, upload_id: str) -> bool:
        """Note a multipart upload before its first part. False: the claim is lost."""
        noted = await self._database.value("journal_upload", *_identity(claim), upload_id)
        return noted is not None

    async def confirm(self, claim: Claim, stored: StoredObject) -> bool:
        """Commit that the object is stored. False: the claim is lost."""
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
        """Commit a failed attempt: a retry or a dead letter. False: the claim is lost."""
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
            if letter is not None and (found := failure.conflict):
                await session.execute(
                    "quarantine", found.s3_key, found.etag, found.size_bytes, found.reason
                )
        return letter

    async def release(self, claims: Sequence[Claim]) -> None:
        """Release claims and refund their attempts; their items are due at once."""
        await self._database.execute("release", *_identities(claims))

    @retry_conflicts
    async def refund_outage(self, audit_id: int, codes: Sequence[Code]) -> None:
        """Refund the attempts of this run that failed with `codes`: an edge was down.

        Safe to repeat, and while other workers of the run are active: their claims stay theirs,
        and what they gave up for another reason stays given up.
        """
        async with self._database.transaction() as session:
            # Locks first, so the update sees everything that was committed before.
            blamed = await session.fetch("lock_blamed", audit_id, list(codes))
            items = [row["wallpaper_id"] for row in blamed]
            await session.execute("refund_outage", audit_id, items, list(codes))

    async def next_due_seconds(
        self, audit_id: int, run_limit: int = 0, *, only: bool = False, awaits_others: bool = True
    ) -> float | None:
        """Return the wait until this run may claim again, None if nothing will be due.

        With `only`, only items that its own pages list count. If the claims of the run's workers
        use up its limit, the wait lasts until the first of these claims may lapse. Without
        `awaits_others`, claims of others count only once half of their lease has passed without a
        heartbeat: then their holder no longer writes.
        """
        within_seconds = None if awaits_others else self._policy.lease_seconds / 2
        async with self._database.session() as session:
            wait: float | None
            use = await _use(session, audit_id, run_limit)
            if use is None or use["stored"] + use["claimed"] < run_limit:
                wait = await session.value(
                    "next_due_seconds", audit_id, RUN_ATTEMPTS, only, within_seconds
                )
            else:
                wait = use["lapse_seconds"]
        return None if wait is None else max(0.0, wait)

    @retry_conflicts
    async def enlist(self) -> None:
        """Add rows without an object to the backlog: other programs may have inserted some."""
        async with self._database.transaction() as session:
            await session.execute("lock_enlisting")
            await session.execute("enlist")

    async def known_good(self, origin: str) -> list[KnownGood]:
        """Return up to KNOWN_GOOD_IMAGES stored from URLs that begin with `origin`, newest first.

        Searches the newest KNOWN_GOOD_WINDOW stored images only.
        """
        rows = await self._database.fetch(
            "known_good", origin, KNOWN_GOOD_IMAGES, KNOWN_GOOD_WINDOW
        )
        return [KnownGood(**row) for row in rows]

    async def due_images(self, audit_id: int) -> DueImages:
        """Count images that are due or claimed, those of the run's own pages separately."""
        rows = await self._database.fetch("due_images", audit_id)
        return DueImages(**rows[0])

    async def backlog(self) -> Backlog:
        """Count items by state."""
        rows = await self._database.fetch("backlog")
        return Backlog(**rows[0])

    @retry_conflicts
    async def release_lapsed(self) -> Lapsed:
        """Release claims whose lease has lapsed: their items are due again, or dead letters."""
        async with self._database.session() as session:
            row = await session.one(
                "release_lapsed", self._policy.max_attempts, Code.EXHAUSTED, EXHAUSTED_REASON
            )
        return Lapsed(**row)

    async def noted_uploads(self, last_id: int, max_items: int) -> list[NotedUpload]:
        """Return the next uploads noted for wallpapers without a claim, after row `last_id`."""
        rows = await self._database.fetch("noted_uploads", last_id, max_items)
        return [NotedUpload(**row) for row in rows]

    async def forget_upload(self, noted: NotedUpload) -> None:
        """Note that the upload is gone; a newer one of the same wallpaper stays noted."""
        await self._database.execute("forget_upload", noted.wallpaper_id, noted.upload_id)

    async def claimed_uploads(self, upload_ids: Sequence[str]) -> set[str]:
        """Return those of the uploads that belong to live claims."""
        rows = await self._database.fetch("claimed_uploads", list(upload_ids))
        return {row["upload_id"] for row in rows}


async def _room(
    session: Session, audit_id: int, run_limit: int, used: int | None, max_items: int
) -> int:
    """Return how many more images a run may claim.

    `used` is an upper bound of what the run uses of its limit. The exact use is counted only if the
    bound leaves too little room: the more the run has stored, the longer counting takes.
    """
    if used is None or used + max_items > run_limit:
        use = await session.one("limit_use", audit_id)
        used = use["stored"] + use["claimed"]
        await session.execute("note_limit_use", audit_id, used)
    return run_limit - used


async def _use(session: Session, audit_id: int, run_limit: int) -> asyncpg.Record | None:
    """Count what a run uses of its limit; None if its upper bound leaves room."""
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
