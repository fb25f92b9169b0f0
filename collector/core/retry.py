"""Decide what becomes of a failed try; the caller supplies the randomness."""

from __future__ import annotations

from dataclasses import dataclass

from collector.core.errors import Code, Fault

# No wait between tries is longer: an hour is enough for a restart or a rate limit to pass.
BACKOFF_CAP_SECONDS = 3600.0
# With a base of 5 s, doubling 30 times passes any cap; more would overflow a float for nothing.
_MOST_DOUBLINGS = 30


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
    doublings = min(max(attempt - 1, 0), _MOST_DOUBLINGS)
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
