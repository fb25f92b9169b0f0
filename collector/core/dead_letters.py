"""Dead letters: what was given up on, and which of it a person means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from collector.core.runs import Json


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
