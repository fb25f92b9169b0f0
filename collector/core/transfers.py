"""Records of the transfer: from claim to stored object or dead letter."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from collector.core.errors import Code, Edge, ItemError, ObjectConflict
from collector.core.maintenance import QuarantinedObject
from collector.core.retry import Decision

# Reasons are read by people and kept for good; the first 500 characters say enough.
REASON_CHARACTERS = 500


class Outcome(StrEnum):
    """How an item's last attempt in a run ended; the `outcome` column of `run_items`."""

    UPLOADED = "uploaded"
    ADOPTED = "adopted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Claim:
    """One item that this worker has claimed until its lease lapses.

    `owner` and `fence` prove the claim: every commit about the item matches both. `attempt` counts
    the item's attempts, this one included. `stale_upload_id` is a multipart upload that an earlier
    owner left. `is_own`: the pages of this run list the wallpaper.
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
    """A verified object, as its row will describe it."""

    key: str
    sha256: str
    size_bytes: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class KnownGood:
    """An image that was stored before: a host that works still delivers it with this size."""

    url: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """A failed attempt and what follows from it, as the tables will record it.

    `conflict` is the other object that was found under the item's key.
    """

    code: Code
    reason: str
    edge: Edge
    decision: Decision
    conflict: QuarantinedObject | None = None

    @classmethod
    def of(cls, error: ItemError, decision: Decision) -> ItemFailure:
        """Return the record of `error`; its reason is cut to REASON_CHARACTERS."""
        conflict = None
        if isinstance(error, ObjectConflict):
            conflict = QuarantinedObject(error.s3_key, error.etag, error.size_bytes, error.code)
        return cls(error.code, error.reason[:REASON_CHARACTERS], error.edge, decision, conflict)


@dataclass(frozen=True, slots=True)
class DueImages:
    """Images that a run may transfer now: `own` ones are listed by its own pages.

    `tried` counts those that it has attempted before.
    """

    own: int
    others: int
    tried: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many items have no object yet, by state."""

    pending: int
    claimed: int
    waiting: int
    dead: int
