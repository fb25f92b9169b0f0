"""How long an API that does not answer is waited for. Pure: seconds come in as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from collector.core.retry import backoff_seconds

# Asked so often in all, however short the waits are: one lost answer is no outage.
LEAST_TRIES = 3
# A challenge or a block is not for us to solve, and each request makes it last: asked this often.
MOST_BLOCKED = 3
# In units of COLLECTOR_RETRY_BASE_SECONDS (5 s by default), so that they keep their proportion.
# 60 s: one request a minute does no harm to a site in trouble, and notices soon that it is back.
_LONGEST_PAUSE_BASES = 12.0
# 15 minutes: a restart or a deployment of the site is over by then. What takes longer (outages of
# days were seen in 2024 and 2026) is for the next try of the scheduler or of a person.
_OUTAGE_BASES = 180.0
# 15 s: an API that never gave a sign of itself is more likely our network, or a wrong address.
_UNREACHED_BASES = 3.0


class Trouble(StrEnum):
    """What came in place of an answer."""

    SILENCE = "silence"  # no connection, or nothing in time
    PAGE = "page"  # a page with status 200: the site's, or somebody else's
    FAULT = "fault"  # 5xx, Cloudflare's 52x, or a status that no answer has
    BLOCK = "block"  # a challenge, or a page with status 403


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds of an outage, in seconds."""

    base_seconds: float
    longest_pause_seconds: float
    outage_seconds: float
    unreached_seconds: float

    @classmethod
    def of(cls, base_seconds: float) -> Patience:
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
        most_seconds = self.outage_seconds if reached else self.unreached_seconds
        return max(0.0, most_seconds - lasted_seconds)


def is_sign_of_life(trouble: Trouble) -> bool:
    """Say whether the site itself must have sent this, or what stands in front of it."""
    return trouble in (Trouble.FAULT, Trouble.BLOCK)
