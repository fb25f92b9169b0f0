"""The history of one item, and dead letters, as the tables tell them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from collector.core.runs import Json


class ItemState(StrEnum):
    """Where an item stands."""

    STORED = "stored"
    PENDING = "pending"
    WAITING = "waiting"
    CLAIMED = "claimed"
    DEAD = "dead"
    REJECTED = "rejected"
    LISTED = "listed"


@dataclass(frozen=True, slots=True)
class Listing:
    """A page that listed the item."""

    run_id: str
    search_key: str
    page: int
    fetched_at: datetime


@dataclass(frozen=True, slots=True)
class Attempt:
    """How the last of a run's tries ended, and how many there were."""

    run_id: str
    outcome: str
    edge: str | None
    code: str | None
    tries: int
    bytes: int
    ended_at: datetime


@dataclass(frozen=True, slots=True)
class ItemRow:
    """The wallpaper's row, and its backlog row where it has one."""

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
        """Where the item stands; a row that is not in the backlog yet is pending."""
        if self.s3_key is not None:
            return ItemState.STORED
        if self.transfer_state == ItemState.DEAD:
            return ItemState.DEAD
        if self.transfer_state == ItemState.CLAIMED and not self.has_lapsed:
            return ItemState.CLAIMED
        return ItemState.WAITING if self.is_waiting else ItemState.PENDING


@dataclass(frozen=True, slots=True)
class Details:
    """What enrichment has brought."""

    enriched_at: datetime | None
    missing_at: datetime | None
    uploader: str | None
    tags: list[str]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the item."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class History:
    """All that is known of one item; `row` is None where it was only ever rejected."""

    wallhaven_id: str
    row: ItemRow | None
    listings: Sequence[Listing]
    tries: Sequence[Attempt]
    letters: Sequence[DeadLetter]
    details: Details | None

    @property
    def is_known(self) -> bool:
        """True where anything is known at all."""
        return bool(self.row or self.listings or self.letters)

    @property
    def state(self) -> ItemState:
        """Where the item stands; one without a row was rejected, or waits to be merged."""
        if self.row:
            return self.row.state
        is_rejected = any(letter.resolved_at is None for letter in self.letters)
        return ItemState.REJECTED if is_rejected else ItemState.LISTED

    def events(self) -> list[Event]:
        """What happened, in order of time."""
        return sorted(self._events(), key=lambda event: event.at)

    def as_json(self) -> dict[str, Json]:
        """Return it as one JSON object; times are ISO 8601."""
        row = _jsonable(asdict(self.row)) if self.row else {}
        return {
            **row,
            "wallhaven_id": self.wallhaven_id,
            "state": self.state,
            "tries": [_jsonable(asdict(each)) for each in self.tries],
            "dead_letters": [letter.as_json() for letter in self.letters],
            "details": _jsonable(asdict(self.details)) if self.details else None,
            "events": [_jsonable(asdict(event)) for event in self.events()],
        }

    def _events(self) -> Iterator[Event]:
        for listing in self.listings:
            where = f"page {listing.page} of {listing.search_key}"
            yield Event(listing.fetched_at, f"listed on {where}, read by {listing.run_id}")
        if row := self.row:
            yield Event(row.created_at, f"row made by {row.first_run_id or 'an earlier version'}")
            if row.updated_at:
                yield Event(row.updated_at, "row changed last")
        for each in self.tries:
            yield Event(each.ended_at, _told(each))
        for letter in self.letters:
            yield Event(letter.last_failed_at, f"given up at {letter.stage}: {letter.code}")
            if letter.resolved_at:
                yield Event(letter.resolved_at, f"dead letter {letter.id} closed")
        if self.details and self.details.enriched_at:
            yield Event(self.details.enriched_at, f"enriched with {len(self.details.tags)} tags")


def _told(each: Attempt) -> str:
    tries = f"{each.tries} tries" if each.tries > 1 else "1 try"
    if each.code:
        return f"not stored by {each.run_id} in {tries}: {each.code} at {each.edge}"
    return f"{each.outcome} by {each.run_id} in {tries}"


def _jsonable(values: dict[str, object]) -> dict[str, Json]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value  # type: ignore[misc]
        for name, value in values.items()
    }


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One row of `dead_letters`; open where `resolved_at` is None."""

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
        """Return the row as one JSON object; times are ISO 8601."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """Open dead letters: all, those with a code, those that are named, or named ones with a code.

    A name is a wallpaper's id, or a dead letter's number where no wallpaper has that id.
    """

    names: Sequence[str] | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Changed:
    """What was done to a choice: letters closed, ones left open, names of which nothing is open."""

    closed: Sequence[DeadLetter]
    left: Sequence[DeadLetter]
    unknown: Sequence[str]
