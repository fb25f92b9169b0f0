"""Pacing arithmetic: when may the next API request leave? Time comes in as a number."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

# Wallhaven: 45 calls a minute (https://wallhaven.cc/help/api, 2026-11-23).
WINDOW_SECONDS = 60.0
# A Retry-After beyond this is treated as this: the run then gives up or resumes by itself.
MAX_PAUSE_SECONDS = 300.0
# "At once" is no answer to a 429: without a pause the next one would follow at once, too.
LEAST_PAUSE_SECONDS = 1.0
# A 429 that says nothing usable: one full window is surely enough.
DEFAULT_PAUSE_SECONDS = WINDOW_SECONDS


class SlidingWindow:
    """At most `limit` requests in any window, however the server's own window lies.

    A slot is counted as taken from its start until `window_seconds` after its END: the server
    saw the request somewhere between, so no window of its clock can hold more than `limit`.
    Times are seconds on one monotonic clock, passed in by the caller.
    """

    def __init__(self, limit: int, window_seconds: float = WINDOW_SECONDS) -> None:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self.limit = limit
        self.window_seconds = window_seconds
        self._in_flight = 0
        self._ended: deque[float] = deque()
        self._paused_until = float("-inf")

    def delay_seconds(self, now: float) -> float | None:
        """Return 0 if a request may leave now, else the wait; None: wait for one to end."""
        self._forget(now)
        if now < self._paused_until:
            return self._paused_until - now
        if self._in_flight + len(self._ended) < self.limit:
            return 0.0
        return self._ended[0] + self.window_seconds - now if self._ended else None

    def begin(self) -> None:
        """Take a slot; call only after `delay_seconds` answered 0."""
        self._in_flight += 1

    def end(self, now: float) -> None:
        """The answer came, or the request was given up: the slot frees one window later."""
        self._in_flight -= 1
        self._ended.append(now)

    def lower(self, limit: int) -> None:
        """Obey a lower limit that the server announced; a higher one is ignored."""
        self.limit = max(1, min(self.limit, limit))

    def pause(self, now: float, seconds: float) -> None:
        """Let nobody start before `now + seconds`; a longer pause already in force stays."""
        self._paused_until = max(self._paused_until, now + seconds)

    def is_paused(self, now: float) -> bool:
        """Say whether a pause is in force."""
        return now < self._paused_until

    def _forget(self, now: float) -> None:
        while self._ended and self._ended[0] + self.window_seconds <= now:
            self._ended.popleft()


def announced_limit(headers: Mapping[str, str]) -> int | None:
    """Return X-RateLimit-Limit when it is a positive whole number, else None."""
    return _whole_number(headers.get("X-RateLimit-Limit", "")) or None


def pause_seconds(headers: Mapping[str, str], now_epoch_seconds: float) -> float:
    """Return how long everybody waits after a 429, LEAST_PAUSE_SECONDS to MAX_PAUSE_SECONDS.

    Retry-After (seconds or an HTTP date) and X-RateLimit-Reset (epoch seconds) are read, the
    later one wins; nonsense is ignored, and with nothing usable it is DEFAULT_PAUSE_SECONDS.
    """
    asked = [
        wait
        for wait in (
            _retry_after(headers.get("Retry-After", ""), now_epoch_seconds),
            _until(headers.get("X-RateLimit-Reset", ""), now_epoch_seconds),
        )
        if wait is not None
    ]
    wait_seconds = max(asked) if asked else DEFAULT_PAUSE_SECONDS
    return min(MAX_PAUSE_SECONDS, max(LEAST_PAUSE_SECONDS, wait_seconds))


def _retry_after(text: str, now_epoch_seconds: float) -> float | None:
    seconds = _whole_number(text)
    if seconds is not None:
        return float(seconds)
    try:
        date = parsedate_to_datetime(text)
        # The oldest of the three date forms names no zone; all of them mean UTC (RFC 9110, 5.6.7).
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now_epoch_seconds)
    except (ValueError, TypeError, OverflowError):
        return None


def _until(text: str, now_epoch_seconds: float) -> float | None:
    epoch_seconds = _whole_number(text)
    return None if epoch_seconds is None else max(0.0, epoch_seconds - now_epoch_seconds)


def _whole_number(text: str) -> int | None:
    # isdigit on ASCII only: "1e9", "nan", "-5" and Arabic digits are nonsense here.
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else None
