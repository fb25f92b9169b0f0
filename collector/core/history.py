"""The history of one item, and its dead letters, as the tables record them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from collector.core.runs import Json, record_as_json


class ItemState(StrEnum):
    """The state of an item in `status` and `explain`.

    Waiting: pending, but not due yet. Listed: on a page, but without a row so far.
    """

    STORED = "stored"
    PENDING = "pending"
    WAITING = "waiting"
    CLAIMED = "claimed"
    DEAD = "dead"
    REJECTED = "rejected"
    LISTED = "listed"


@dataclass(frozen=True, slots=True)
class Listing:
    run_id: str
    search_key: str
    page: int
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """How a run's last attempt at the item ended; `attempts` counts the run's."""

    run_id: str
    outcome: str
    edge: str | None
    code: str | None
    attempts: int
    bytes: int
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class ItemRow:
    """The wallpaper's row, joined with its row in the backlog if it has one.

    `is_waiting`: not due yet. `has_lapsed`: the lease of its claim has expired.
    """

    id: int
    wallhaven_id: str
    url: str
    pending_url: str | None
    page_url: str | None
    category: str | None
    purity: str | None
    resolution: str | None
    file_size: int | None
    file_type: str | None
    s3_key: str | None
    object_sha256: str | None
    object_bytes: int | None
    stored_at: datetime | None
    created_at: datetime
    updated_at: datetime | None
    first_run_id: str | None
    transfer_state: str | None
    attempts: int | None
    next_attempt_at: datetime | None
    lease_until: datetime | None
    is_waiting: bool | None
    has_lapsed: bool | None

    @property
    def state(self) -> ItemState:
        """The item's state; a row that is not in the backlog yet is pending."""
        if self.s3_key is not None:
            return ItemState.STORED
        if self.transfer_state == ItemState.DEAD:
            return ItemState.DEAD
        if self.transfer_state == ItemState.CLAIMED and not self.has_lapsed:
            return ItemState.CLAIMED
        return ItemState.WAITING if self.is_waiting else ItemState.PENDING


@dataclass(frozen=True, slots=True)
class Details:
    """What enrichment has recorded."""

    enriched_at: datetime | None
    missing_at: datetime | None
    uploader: str | None
    tags: list[str]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One row of `dead_letters`; open while `resolved_at` is None."""

    id: int
    stage: str
    wallhaven_id: str | None
    code: str
    reason: str
    attempts: int
    first_failed_at: datetime
    last_failed_at: datetime
    run_id: str
    resolved_at: datetime | None

    def as_json(self) -> dict[str, Json]:
        return record_as_json(self)


@dataclass(frozen=True, slots=True)
class Event:
    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class History:
    """All that is known of one item; `row` is None if it was never merged."""

    wallhaven_id: str
    row: ItemRow | None
    listings: Sequence[Listing]
    attempts_by_run: Sequence[Attempt]
    letters: Sequence[DeadLetter]
    details: Details | None

    @property
    def is_known(self) -> bool:
        return bool(self.row or self.listings or self.letters)

    @property
    def state(self) -> ItemState:
        """The item's state; without a row it was rejected, or waits to be merged."""
        if self.row:
            return self.row.state
        is_rejected = any(letter.resolved_at is None for letter in self.letters)
        return ItemState.REJECTED if is_rejected else ItemState.LISTED

    def events(self) -> list[Event]:
        """Return what happened, oldest first."""
        return sorted(self._events(), key=lambda event: event.at)

    def as_json(self) -> dict[str, Json]:
        return {
            **(record_as_json(self.row) if self.row else {}),
            "wallhaven_id": self.wallhaven_id,
            "state": self.state,
            "attempts_by_run": [record_as_json(attempt) for attempt in self.attempts_by_run],
            "dead_letters": [record_as_json(letter) for letter in self.letters],
            "details": record_as_json(self.details) if self.details else None,
            "events": [record_as_json(event) for event in self.events()],
        }

    def _events(self) -> Iterator[Event]:
        for listing in self.listings:
            page = f"page {listing.page} of {listing.search_key}"
            yield Event(listing.fetched_at, f"listed on {page}, read by {listing.run_id}")
        if row := self.row:
            run_id = row.first_run_id or "an earlier version"
            yield Event(row.created_at, f"row created by {run_id}")
            if row.updated_at:
                yield Event(row.updated_at, "row last changed")
        for attempt in self.attempts_by_run:
            yield Event(attempt.ended_at, _describe(attempt))
        for letter in self.letters:
            yield Event(letter.last_failed_at, f"given up at {letter.stage}: {letter.code}")
            if letter.resolved_at:
                yield Event(letter.resolved_at, f"dead letter {letter.id} closed")
        if self.details and self.details.enriched_at:
            yield Event(self.details.enriched_at, f"enriched with {len(self.details.tags)} tags")


def _describe(attempt: Attempt) -> str:
    attempts = f"{attempt.attempts} attempts" if attempt.attempts > 1 else "1 attempt"
    if attempt.code:
        problem = f"{attempt.code} at {attempt.edge}"
        return f"not stored by {attempt.run_id} in {attempts}: {problem}"
    return f"{attempt.outcome} by {attempt.run_id} in {attempts}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Which open dead letters: those with one of the `names` and with the `code`; None means any.

    A name is a wallpaper's id, or a dead letter's number if no wallpaper has that id.
    """

    names: Sequence[str] | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """Dead letters that were closed or left open, and names without an open one."""

    closed: Sequence[DeadLetter]
    left: Sequence[DeadLetter]
    unknown: Sequence[str]
