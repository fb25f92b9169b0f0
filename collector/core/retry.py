"""What to do after a failure: of an item, of an edge, of the API.

The caller supplies seconds and randomness.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from collector.core.errors import Code, Edge, Fault

# No wait between tries is longer: an hour is enough for a restart or a rate limit to pass.
BACKOFF_CAP_SECONDS = 3600.0
# With a base of 5 s, doubling 30 times passes any cap; more would overflow a float for nothing.
_MAX_DOUBLINGS = 30
# What each edge may say of any item: in trouble, after a block, or under a wrong setting. Of single
# items a healthy edge says most of these, too; only their share tells the two apart.
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
# Twenty attempts are enough to tell a bad hour from a bad item; more than half of them bad is
# nothing that retries of single items would mend.
WINDOW_ATTEMPTS = 20
MAX_FAILING_SHARE = 0.5
# With no success at all, this many attempts say that it is the edge: a run may have few items.
MIN_ATTEMPTS = 5
# Asked so often in all, however short the waits are: one lost answer is no outage.
MIN_API_ATTEMPTS = 3
# A challenge or a block is not for us to solve, and each request makes it last: asked this often.
MAX_BLOCKED = 3
# In units of COLLECTOR_RETRY_BASE_SECONDS (5 s by default), so that they keep their proportion.
# 60 s: one request a minute does no harm to a site in trouble, and notices soon that it is back.
_LONGEST_PAUSE_BASES = 12.0
# 15 minutes: a restart or a deployment of the site is over by then. What takes longer (outages of
# days were seen in 2024 and 2026) is for the next try of the scheduler or of a person.
_OUTAGE_BASES = 180.0
# 15 s: an API that never gave a sign of itself is more likely our network, or a wrong address.
_UNREACHED_BASES = 3.0


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Try again after `delay_seconds`."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Write a dead letter with this code."""

    code: Code


Decision = RetryLater | GiveUp


def backoff_seconds(attempt: int, base_seconds: float, jitter: float) -> float:
    """Return the full-jitter wait after try number `attempt` (from 1).

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
    """Return what to do after try number `attempt` failed with `fault`.

    Permanent failures end at once; transient ones and defects wait with full jitter, at least
    `retry_after_seconds`, until `max_attempts` tries were made. Systemic ones are never the item's
    fault: it waits, however often it was tried.
    """
    if fault is Fault.PERMANENT:
        return GiveUp(code)
    wait_seconds = max(backoff_seconds(attempt, base_seconds, jitter), retry_after_seconds or 0.0)
    wait_seconds = min(wait_seconds, BACKOFF_CAP_SECONDS)
    if fault is Fault.SYSTEMIC or attempt < max_attempts:
        return RetryLater(wait_seconds)
    return GiveUp(code)


class EdgeHealth:
    """The last attempts at one edge: does it work?"""

    def __init__(self, edge: Edge) -> None:
        self._suspect_codes = SUSPECT_CODES[edge]
        # The code of each failure that may be the edge's; None for all else.
        self._last: deque[Code | None] = deque(maxlen=WINDOW_ATTEMPTS)
        self._attempts = 0
        self._has_worked = False
        self._unreachable = False

    def worked(self) -> None:
        """Note an attempt that the edge did not make fail."""
        self._attempts += 1
        self._last.append(None)
        self._has_worked = True
        self._unreachable = False

    def failed(self, code: Code, fault: Fault) -> None:
        """Note a failed attempt; `fault` systemic says that no connection was made."""
        if code not in self._suspect_codes:
            self.worked()
            return
        self._attempts += 1
        self._last.append(code)
        self._unreachable = fault is Fault.SYSTEMIC

    def clear(self) -> None:
        """The edge has just proved to work: what failed so far says nothing against it."""
        self._last.clear()
        self._has_worked = True

    @property
    def failing_codes(self) -> Counter[Code]:
        """How often each code is among the last attempts."""
        return Counter(code for code in self._last if code is not None)

    @property
    def ends_failing(self) -> bool:
        """True if the last attempt failed in a way that may be the edge's."""
        return bool(self._last) and self._last[-1] is not None

    @property
    def is_unreachable(self) -> bool:
        """True if the last attempt could not connect: no other item need be asked for."""
        return self._unreachable

    @property
    def is_down(self) -> bool:
        """True once more than half of a full window failed."""
        failing = self.failing_codes.total()
        return len(self._last) == WINDOW_ATTEMPTS and failing > MAX_FAILING_SHARE * WINDOW_ATTEMPTS

    @property
    def never_worked(self) -> bool:
        """True if every attempt failed, and they were enough to blame the edge for it."""
        enough = self._unreachable or self._attempts >= MIN_ATTEMPTS
        return self._attempts > 0 and not self._has_worked and enough

    @property
    def refuses_hosts(self) -> bool:
        """True if most of the last attempts were at hosts that the settings do not list."""
        refused = self.failing_codes[Code.HOST_REFUSED]
        return refused >= MIN_ATTEMPTS and refused > MAX_FAILING_SHARE * len(self._last)


class Trouble(StrEnum):
    """What came in place of an answer."""

    SILENCE = "silence"  # no connection, or nothing in time
    PAGE = "page"  # a page with status 200: the site's, or somebody else's
    FAULT = "fault"  # 5xx, Cloudflare's 52x, or a status that no answer has
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
        """Return the bounds that go with COLLECTOR_RETRY_BASE_SECONDS."""
        return cls(
            base_seconds=base_seconds,
            longest_pause_seconds=_LONGEST_PAUSE_BASES * base_seconds,
            outage_seconds=_OUTAGE_BASES * base_seconds,
            unreached_seconds=_UNREACHED_BASES * base_seconds,
        )

    def pause_seconds(self, number: int, jitter: float) -> float:
        """Return the pause before question `number` (from 1): full jitter, growing, bounded."""
        growing_seconds = backoff_seconds(number, self.base_seconds, 1.0)
        return min(growing_seconds, self.longest_pause_seconds) * jitter

    def left_seconds(self, lasted_seconds: float, *, reached: bool) -> float:
        """Return how much longer to wait; `reached`: the API has given a sign of itself before."""
        max_seconds = self.outage_seconds if reached else self.unreached_seconds
        return max(0.0, max_seconds - lasted_seconds)


def is_sign_of_life(trouble: Trouble) -> bool:
    """Say whether the site itself must have sent this, or what stands in front of it."""
    return trouble in (Trouble.FAULT, Trouble.BLOCK)
