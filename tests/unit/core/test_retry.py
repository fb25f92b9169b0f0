"""Retries: which fault waits, which ends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.errors import Code, Fault
from collector.core.retry import BACKOFF_CAP_SECONDS, GiveUp, RetryLater, backoff_seconds, decide

LAST = 0.999_999
jitters = st.floats(0, 1, exclude_max=True)
bases = st.floats(0, 1e6)


def judged(fault: Fault, attempt: int = 1, **changes: float) -> RetryLater | GiveUp:
    numbers = {"base_seconds": 5.0, "jitter": 0.5} | changes
    return decide(fault, Code.SOURCE_ERROR, attempt, max_attempts=5, **numbers)


def test_a_permanent_failure_ends_at_once() -> None:
    decision = decide(Fault.PERMANENT, Code.GONE, 1, max_attempts=5, base_seconds=5.0, jitter=LAST)
    assert decision == GiveUp(Code.GONE)


@pytest.mark.parametrize("fault", [Fault.TRANSIENT, Fault.BUG])
def test_a_failure_that_may_pass_waits_until_the_last_attempt(fault: Fault) -> None:
    assert [judged(fault, attempt) for attempt in (1, 2, 3, 4, 5, 6)] == [
        RetryLater(2.5),
        RetryLater(5.0),
        RetryLater(10.0),
        RetryLater(20.0),
        GiveUp(Code.SOURCE_ERROR),
        GiveUp(Code.SOURCE_ERROR),
    ]


@pytest.mark.parametrize("attempt", [1, 5, 99])
def test_what_is_not_the_items_fault_never_ends_it(attempt: int) -> None:
    assert isinstance(judged(Fault.SYSTEMIC, attempt), RetryLater)


def test_every_fault_is_decided() -> None:
    decisions = {fault: judged(fault) for fault in Fault}
    assert {fault for fault in Fault if isinstance(decisions[fault], GiveUp)} == {Fault.PERMANENT}


@given(st.integers(-3, 10_000), bases, jitters)
def test_the_wait_is_below_the_doubled_base_and_the_cap(
    attempt: int, base_seconds: float, jitter: float
) -> None:
    wait_seconds = backoff_seconds(attempt, base_seconds, jitter)
    ceiling_seconds = base_seconds * 2.0 ** min(max(attempt - 1, 0), 60)
    assert 0.0 <= wait_seconds <= min(BACKOFF_CAP_SECONDS, ceiling_seconds)


def test_the_jitter_is_full() -> None:
    assert backoff_seconds(3, 5.0, 0.0) == 0.0
    assert backoff_seconds(3, 5.0, 0.25) == 5.0
    assert backoff_seconds(3, 5.0, LAST) == pytest.approx(20.0, rel=1e-5)
    assert backoff_seconds(1000, 5.0, LAST) == pytest.approx(BACKOFF_CAP_SECONDS, rel=1e-5)


def test_the_wait_is_at_least_what_the_host_asked_for() -> None:
    assert judged(Fault.TRANSIENT, retry_after_seconds=90.0) == RetryLater(90.0)
    assert judged(Fault.TRANSIENT, retry_after_seconds=1.0) == RetryLater(2.5)
    assert judged(Fault.SYSTEMIC, retry_after_seconds=90.0) == RetryLater(90.0)


@pytest.mark.parametrize("asked_seconds", [1e9, math.inf])
def test_a_host_cannot_ask_for_more_than_the_cap(asked_seconds: float) -> None:
    decision = judged(Fault.TRANSIENT, retry_after_seconds=asked_seconds)
    assert decision == RetryLater(BACKOFF_CAP_SECONDS)


def test_asking_for_a_wait_buys_no_attempt() -> None:
    assert judged(Fault.TRANSIENT, 5, retry_after_seconds=1.0) == GiveUp(Code.SOURCE_ERROR)
