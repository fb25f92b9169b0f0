"""Records and states of the transfer half: from claim to stored object or dead letter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from collector.core.errors import Code, Edge, ItemError, ObjectConflict
from collector.core.maintenance import QuarantinedObject
from collector.core.retry import Decision

# Reasons are read by people and kept for ever; the first 500 characters tell enough.
REASON_CHARACTERS = 500


class Outcome(StrEnum):
    """How an item's last try in a run ended; the `outcome` column of `run_items`."""

    UPLOADED = "uploaded"
    ADOPTED = "adopted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Claim:
    """One item in our hands until its lease lapses.

    `owner` and `fence` prove that it is ours: every commit about the item matches both.
    `attempt` is this try's number, counted at the claim. `stale_upload_id` is a multipart
    upload that an earlier owner left. `is_own`: the pages of this run list the wallpaper.
    """

    audit_id: int
    wallpaper_id: int
    owner: UUID
    fence: int
    attempt: int
    is_own: bool
    wallhaven_id: str
    url: str
    file_type: str | None
    file_size: int | None
    dimension_x: int | None
    dimension_y: int | None
    object_sha256: str | None
    stale_upload_id: str | None


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A verified object: what the row will say of it."""

    key: str
    sha256: str
    size_bytes: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class KnownGood:
    """An image that was stored: a host that works still delivers it, with this size."""

    url: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """A failed try, judged: what the tables will say of it.

    `stranger` is the other object that it met under its key.
    """

    code: Code
    reason: str
    edge: Edge
    decision: Decision
    stranger: QuarantinedObject | None = None

    @classmethod
    def of(cls, error: ItemError, decision: Decision) -> ItemFailure:
        """Say of `error` what is kept: REASON_CHARACTERS of its reason, and whom it met."""
        stranger = None
        if isinstance(error, ObjectConflict):
            stranger = QuarantinedObject(error.s3_key, error.etag, error.size_bytes, error.code)
        return cls(error.code, error.reason[:REASON_CHARACTERS], error.edge, decision, stranger)


@dataclass(frozen=True, slots=True)
class DueImages:
    """Images that a run may carry now: those that its own pages list, and the others.

    `tried` counts those that it has tried before.
    """

    own: int
    others: int
    tried: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """Items without an object, by state."""

    pending: int
    claimed: int
    waiting: int
    dead: int
