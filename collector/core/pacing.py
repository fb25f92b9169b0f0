"""Pacing of API requests: priorities, slots, and the limits that the server's headers announce."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import IntEnum

# Wallhaven: 45 calls a minute (https://wallhaven.cc/help/api, 2026-11-23).
WINDOW_SECONDS = 60.0
# A longer Retry-After is cut to this: the run then gives up or resumes by itself.
MAX_PAUSE_SECONDS = 300.0
# A 429 with a wait of 0 gets this pause, or the next 429 would follow at once.
MIN_PAUSE_SECONDS = 1.0
# For a 429 that names no usable time, one full window is surely enough.
DEFAULT_PAUSE_SECONDS = WINDOW_SECONDS
# Enrichment leaves this many slots of each window to the others: a daily run, which reads 3 to 5
# pages of about 100 new wallpapers, then never waits for it.
RESERVED_SLOTS = 5
# A waiting caller asks again after this at the latest: the limit may have been raised, or a slot
# released.
ASK_AGAIN_SECONDS = 1.0
# A caller counts as waiting for this long after it asked, so two of its questions may get lost.
WANTED_SECONDS = 3 * ASK_AGAIN_SECONDS


class Priority(IntEnum):
    """Priority among callers that wait for the budget of one API: the lowest number goes first."""

    RUN = 0
    BACKFILL = 1
    ENRICHMENT = 2

    @property
    def reserved_slots(self) -> int:
        """How many slots of a window it leaves to the others, half of them at most."""
        return RESERVED_SLOTS if self is Priority.ENRICHMENT else 0


@dataclass(frozen=True, slots=True)
class Slot:
    """The right of one `holder` to send one request, until its lease ends."""

    number: int
    holder: str


@dataclass(frozen=True, slots=True)
class Wait:
    """No slot is free; `seconds` is the expected wait."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Announcement:
    """The limit that an answer's headers announce; None for what they do not say usably."""

    limit: int | None = None
    remaining: int | None = None


# Larger announcements are cut to this; no configured ceiling comes near it.
_MAX_ANNOUNCED = 1_000_000


def announced(headers: Mapping[str, str]) -> Announcement:
    """Return X-RateLimit-Limit (1 or more) and X-RateLimit-Remaining (0 or more), else None."""
    limit = _whole_number(headers.get("X-RateLimit-Limit", ""))
    remaining = _whole_number(headers.get("X-RateLimit-Remaining", ""))
    return Announcement(
        limit=min(limit, _MAX_ANNOUNCED) if limit else None,
        remaining=None if remaining is None else min(remaining, _MAX_ANNOUNCED),
    )


def pause_seconds(headers: Mapping[str, str], now_epoch_seconds: float) -> float:
    """Return how long all callers wait after a 429, MIN_PAUSE_SECONDS to MAX_PAUSE_SECONDS.

    The later of Retry-After (seconds or an HTTP date) and X-RateLimit-Reset (epoch seconds) wins.
    Nonsense and past times are ignored; without a usable one the pause is DEFAULT_PAUSE_SECONDS.
    Times are compared with the answer's Date, and with `now_epoch_seconds` only if it has none.
    """
    date = _date(headers.get("Date", ""))
    now = now_epoch_seconds if date is None else date
    retry_after = headers.get("Retry-After", "")
    asked = [
        _seconds(retry_after),
        _until(_date(retry_after), now),
        _until(_whole_number(headers.get("X-RateLimit-Reset", "")), now),
    ]
    wait_seconds = max((it for it in asked if it is not None), default=DEFAULT_PAUSE_SECONDS)
    return min(MAX_PAUSE_SECONDS, max(MIN_PAUSE_SECONDS, wait_seconds))


def retry_date_seconds(headers: Mapping[str, str]) -> float | None:
    """Return the seconds from an answer's Date to the date in its Retry-After.

    None if one of them is missing or not a date, or if the latter is past.
    """
    now, retry_at = _date(headers.get("Date", "")), _date(headers.get("Retry-After", ""))
    return None if now is None else _until(retry_at, now)


def _seconds(text: str) -> int | None:
    # RFC 9110 allows whole seconds only; a decimal is accepted and rounded up.
    whole, point, fraction = text.strip().partition(".")
    seconds = _whole_number(whole)
    if not point or seconds is None:
        return seconds
    part = _whole_number(fraction)
    return None if part is None else seconds + (part > 0)


def _date(text: str) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        # One of the three HTTP date forms names no zone; all of them mean UTC (RFC 9110, 5.6.7).
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _until(epoch_seconds: float | None, now_epoch_seconds: float) -> float | None:
    if epoch_seconds is None or epoch_seconds < now_epoch_seconds:
        return None
    return epoch_seconds - now_epoch_seconds


def _whole_number(text: str) -> int | None:
    # ASCII digits only: "1e9", "nan", "-5" and Arabic digits are nonsense here.
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None
