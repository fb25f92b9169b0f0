"""Decide what follows a failure of an item, of an edge or of the API.

The caller supplies time and randomness.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from collector.core.errors import Code, Edge, Fault

# The longest wait between attempts: an hour is enough for a restart or a rate limit to pass.
BACKOFF_CAP_SECONDS = 3600.0
# With a base of 5 s, doubling 30 times passes any cap; more would overflow a float for nothing.
_MAX_DOUBLINGS = 30
# The codes that an edge may give to every item: in trouble, after a block, or under a wrong
# setting. A healthy edge gives most of them to single items too; only their share tells which.
SUSPECT_CODES: Mapping[Edge, frozenset[Code]] = {
    Edge.DOWNLOAD: frozenset(
        {
            *(Code.SOURCE_ERROR, Code.HTML_RESPONSE, Code.REDIRECT_REFUSED, Code.HOST_REFUSED),
            *(Code.FORBIDDEN, Code.NOT_FOUND, Code.GONE),
            *(Code.EMPTY, Code.TRUNCATED, Code.MAGIC_MISMATCH, Code.TYPE_MISMATCH),
            *(Code.SIZE_MISMATCH, Code.LENGTH_MISMATCH, Code.DIMENSION_MISMATCH),
        }
    ),
    Edge.UPLOAD: frozenset({Code.STORE_ERROR}),
}
# Twenty attempts are enough to tell a bad hour from a bad item. If more than half of them failed,
# retries of single items would not help.
WINDOW_ATTEMPTS = 20
MAX_FAILING_SHARE = 0.5
# If all failed, this many attempts are enough to blame the edge: a run may have few items.
MIN_ATTEMPTS = 5
# The least number of requests before an outage, however short the waits: one lost answer is none.
MIN_API_ATTEMPTS = 3
# The most requests during a challenge or a block: we do not solve it, and requests prolong it.
MAX_BLOCKED = 3
# In units of COLLECTOR_RETRY_BASE_SECONDS (5 s by default), so that they keep their proportion.
# 60 s: a request or two a minute do not harm a site in trouble, and soon notice that it is back.
_LONGEST_PAUSE_BASES = 12.0
# 15 minutes: a restart or a deployment of the site is over by then. A longer outage (some of days
# were seen in 2024 and 2026) is left to the next attempt of the scheduler or of a person.
_OUTAGE_BASES = 180.0
# 15 s: if the API was never reached, the local network or the address is more likely to be wrong.
_UNREACHED_BASES = 3.0


@dataclass(frozen=True, slots=True)
class RetryLater:
    delay_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Write a dead letter with this code."""

    code: Code


Decision = RetryLater | GiveUp


def backoff_seconds(attempt: int, base_seconds: float, jitter: float) -> float:
    """Return the full-jitter wait after attempt number `attempt` (from 1).

    `jitter` is uniform in [0, 1). Full jitter spreads retries best for the same load:
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ (2026-11-23).
    """
    doublings = min(max(attempt - 1, 0), _MAX_DOUBLINGS)
    return min(BACKOFF_CAP_SECONDS, base_seconds * 2.0**doublings) * jitter


def decide(
    fault: Fault,
    code: Code,
    attempt: int,
    *,
    max_attempts: int,
    base_seconds: float,
    jitter: float,
    retry_after_seconds: float | None = None,
) -> Decision:
    """Decide what to do after attempt number `attempt` (from 1) failed with `fault`.

    A permanent failure is given up at once. Transient failures and bugs are retried with full
    jitter, after `retry_after_seconds` at least, up to `max_attempts` attempts. A systemic failure
    is not the item's fault and is retried without limit. No wait exceeds BACKOFF_CAP_SECONDS.
    """
    if fault is Fault.PERMANENT:
        return GiveUp(code)
    wait_seconds = max(backoff_seconds(attempt, base_seconds, jitter), retry_after_seconds or 0.0)
    wait_seconds = min(wait_seconds, BACKOFF_CAP_SECONDS)
    if fault is Fault.SYSTEMIC or attempt < max_attempts:
        return RetryLater(wait_seconds)
    return GiveUp(code)


class EdgeHealth:
    """Decides from the last attempts whether an edge works."""

    def __init__(self, edge: Edge) -> None:
        self._suspect_codes = SUSPECT_CODES[edge]
        # The code of each failure that the edge may have caused; None for all other attempts.
        self._last: deque[Code | None] = deque(maxlen=WINDOW_ATTEMPTS)
        self._attempts = 0
        self._has_worked = False
        self._unreachable = False

    def worked(self) -> None:
        """Count an attempt that did not fail because of the edge."""
        self._attempts += 1
        self._last.append(None)
        self._has_worked = True
        self._unreachable = False

    def failed(self, code: Code, fault: Fault) -> None:
        """Count a failed attempt; a systemic `fault` means that no connection was made."""
        if code not in self._suspect_codes:
            self.worked()
            return
        self._attempts += 1
        self._last.append(code)
        self._unreachable = fault is Fault.SYSTEMIC

    def clear(self) -> None:
        """Forget the failures so far: a probe has just shown that the edge works."""
        self._last.clear()
        self._has_worked = True

    @property
    def failing_codes(self) -> Counter[Code]:
        return Counter(code for code in self._last if code is not None)

    @property
    def ends_failing(self) -> bool:
        """Whether the last attempt failed, perhaps because of the edge."""
        return bool(self._last) and self._last[-1] is not None

    @property
    def is_unreachable(self) -> bool:
        """Whether the last attempt could not connect: requests for other items are pointless."""
        return self._unreachable

    @property
    def is_down(self) -> bool:
        """Whether more than half of a full window failed."""
        failing = self.failing_codes.total()
        return len(self._last) == WINDOW_ATTEMPTS and failing > MAX_FAILING_SHARE * WINDOW_ATTEMPTS

    @property
    def never_worked(self) -> bool:
        """Whether every attempt failed, and there were enough to blame the edge."""
        enough = self._unreachable or self._attempts >= MIN_ATTEMPTS
        return self._attempts > 0 and not self._has_worked and enough

    @property
    def refuses_hosts(self) -> bool:
        """Whether most of the last attempts were at hosts that the settings do not list."""
        refused = self.failing_codes[Code.HOST_REFUSED]
        return refused >= MIN_ATTEMPTS and refused > MAX_FAILING_SHARE * len(self._last)


class Trouble(StrEnum):
    """What arrived instead of an API answer."""

    SILENCE = "silence"  # no connection, or a timeout
    PAGE = "page"  # a page with status 200, of the site or of a third party
    FAULT = "fault"  # 5xx, Cloudflare's 52x, or an undefined status
    BLOCK = "block"  # a challenge, or a page with status 403


@dataclass(frozen=True, slots=True)
class OutagePolicy:
    """Bounds of an outage, in seconds."""

    base_seconds: float
    longest_pause_seconds: float
    outage_seconds: float
    unreached_seconds: float

    @classmethod
    def of(cls, base_seconds: float) -> OutagePolicy:
        return cls(
            base_seconds=base_seconds,
            longest_pause_seconds=_LONGEST_PAUSE_BASES * base_seconds,
            outage_seconds=_OUTAGE_BASES * base_seconds,
            unreached_seconds=_UNREACHED_BASES * base_seconds,
        )

    def pause_seconds(self, number: int, jitter: float) -> float:
        """Return the pause before request `number` (from 1): growing, bounded, with full jitter."""
        growing_seconds = backoff_seconds(number, self.base_seconds, 1.0)
        return min(growing_seconds, self.longest_pause_seconds) * jitter

    def left_seconds(self, lasted_seconds: float, *, reached: bool) -> float:
        """Return how much longer to wait; `reached`: the API has shown a sign of life before."""
        max_seconds = self.outage_seconds if reached else self.unreached_seconds
        return max(0.0, max_seconds - lasted_seconds)


def is_sign_of_life(trouble: Trouble) -> bool:
    """Return whether the site itself, or the proxy in front of it, must have sent this."""
    return trouble in (Trouble.FAULT, Trouble.BLOCK)
