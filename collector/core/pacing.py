"""Pacing: who may send the next API request, and what the server's own headers say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import IntEnum

# Wallhaven: 45 calls a minute (https://wallhaven.cc/help/api, 2026-11-23).
WINDOW_SECONDS = 60.0
# A Retry-After beyond this is treated as this: the run then gives up or resumes by itself.
MAX_PAUSE_SECONDS = 300.0
# "At once" is no answer to a 429: without a pause the next one would follow at once, too.
MIN_PAUSE_SECONDS = 1.0
# A 429 that says nothing usable: one full window is surely enough.
DEFAULT_PAUSE_SECONDS = WINDOW_SECONDS
# Enrichment leaves so many slots of each window to the others: a daily run, which reads 3 to 5
# pages of about 100 new wallpapers, then never waits for it.
RESERVED_SLOTS = 5
# Who waits asks again after this at the latest: a limit may have been raised, a slot given back.
ASK_AGAIN_SECONDS = 1.0
# Who waits is known to wait for so long; two questions may be lost before it is forgotten.
WANTED_SECONDS = 3 * ASK_AGAIN_SECONDS


class Priority(IntEnum):
    """Who goes first where several wait for the budget of one API: the lower number."""

    RUN = 0
    BACKFILL = 1
    ENRICHMENT = 2

    @property
    def reserved_slots(self) -> int:
        """How many slots of a window it leaves to the others; never more than half of them."""
        return RESERVED_SLOTS if self is Priority.ENRICHMENT else 0


@dataclass(frozen=True, slots=True)
class Slot:
    """The right to send one request, until its lease ends; of one `holder` alone."""

    number: int
    holder: str


@dataclass(frozen=True, slots=True)
class Wait:
    """No slot is free: none will be for `seconds`, as far as is known now."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Announcement:
    """What an answer of the server says of its limit; None where it says nothing usable."""

    limit: int | None = None
    remaining: int | None = None


# Numbers above this say nothing: no ceiling of ours comes near it.
_MAX_ANNOUNCED = 1_000_000


def announced(headers: Mapping[str, str]) -> Announcement:
    """Return X-RateLimit-Limit (from 1) and X-RateLimit-Remaining (from 0), nonsense as None."""
    limit = _whole_number(headers.get("X-RateLimit-Limit", ""))
    remaining = _whole_number(headers.get("X-RateLimit-Remaining", ""))
    return Announcement(
        limit=min(limit, _MAX_ANNOUNCED) if limit else None,
        remaining=None if remaining is None else min(remaining, _MAX_ANNOUNCED),
    )


def pause_seconds(headers: Mapping[str, str], now_epoch_seconds: float) -> float:
    """Return how long everybody waits after a 429, MIN_PAUSE_SECONDS to MAX_PAUSE_SECONDS.

    Retry-After (seconds or an HTTP date) and X-RateLimit-Reset (epoch seconds) are read, the
    later one wins; nonsense and times that are past are ignored, and with nothing usable it is
    DEFAULT_PAUSE_SECONDS. Times are of the server's clock: what its Date says is now, and
    `now_epoch_seconds` only where it says nothing.
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
    """Return how long it is from an answer's Date to the date in its Retry-After.

    None where one of them is missing or no date, or where the latter is past.
    """
    said, until = _date(headers.get("Date", "")), _date(headers.get("Retry-After", ""))
    return None if said is None else _until(until, said)


def _seconds(text: str) -> int | None:
    # RFC 9110 has whole seconds alone; a decimal is meant well, and rounded up.
    whole, point, fraction = text.strip().partition(".")
    seconds = _whole_number(whole)
    if not point or seconds is None:
        return seconds
    part = _whole_number(fraction)
    return None if part is None else seconds + (part > 0)


def _date(text: str) -> float | None:
    """Return the epoch seconds of an HTTP date."""
    try:
        date = parsedate_to_datetime(text)
        # The oldest of the three date forms names no zone; all of them mean UTC (RFC 9110, 5.6.7).
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _until(epoch_seconds: float | None, now_epoch_seconds: float) -> float | None:
    if epoch_seconds is None or epoch_seconds < now_epoch_seconds:
        return None
    return epoch_seconds - now_epoch_seconds


def _whole_number(text: str) -> int | None:
    # isdigit on ASCII only: "1e9", "nan", "-5" and Arabic digits are nonsense here.
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None
