"""Retries: which faults are retried and which are given up."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.errors import Code, Edge, Fault
from collector.core.retry import (
    BACKOFF_CAP_SECONDS,
    MIN_ATTEMPTS,
    SUSPECT_CODES,
    WINDOW_ATTEMPTS,
    EdgeHealth,
    GiveUp,
    OutagePolicy,
    RetryLater,
    Trouble,
    backoff_seconds,
    decide,
    is_sign_of_life,
)

LAST = 0.999_999
jitters = st.floats(0, 1, exclude_max=True)
bases = st.floats(0, 1e6)
HALF = WINDOW_ATTEMPTS // 2
EVERY_SUSPECT = [(edge, code) for edge, codes in SUSPECT_CODES.items() for code in sorted(codes)]
# A base that makes pauses of an hour is as good as none.
seconds = st.floats(0, 300)


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


def edge(
    *,
    worked: int = 0,
    failed: int = 0,
    code: Code = Code.SOURCE_ERROR,
    fault: Fault = Fault.TRANSIENT,
) -> EdgeHealth:
    health = EdgeHealth(Edge.DOWNLOAD)
    for _ in range(worked):
        health.worked()
    for _ in range(failed):
        health.failed(code, fault)
    return health


def test_more_than_half_of_a_full_window_is_an_outage() -> None:
    assert not edge(failed=HALF, worked=HALF).is_down
    assert edge(failed=HALF + 1, worked=HALF - 1).is_down
    assert edge(failed=WINDOW_ATTEMPTS).is_down


def test_a_window_that_is_not_full_says_nothing() -> None:
    assert not edge(failed=WINDOW_ATTEMPTS - 1).is_down
    assert not EdgeHealth(Edge.DOWNLOAD).is_down


def test_only_the_last_attempts_count() -> None:
    assert edge(worked=1000, failed=HALF + 1).is_down
    health = edge(failed=WINDOW_ATTEMPTS)
    for _ in range(HALF):
        assert health.is_down
        health.worked()
    assert not health.is_down


@pytest.mark.parametrize(
    ("at", "code"),
    [(at, code) for at in SUSPECT_CODES for code in Code if (at, code) not in EVERY_SUSPECT],
)
def test_what_only_an_item_can_be_to_blame_for_is_an_answer(at: Edge, code: Code) -> None:
    health = EdgeHealth(at)
    for _ in range(WINDOW_ATTEMPTS):
        health.failed(code, Fault.TRANSIENT)
    assert not health.is_down
    assert not health.never_worked


@pytest.mark.parametrize(("at", "code"), EVERY_SUSPECT)
def test_what_an_edge_may_say_of_any_item_counts_against_it(at: Edge, code: Code) -> None:
    health = EdgeHealth(at)
    for _ in range(WINDOW_ATTEMPTS):
        health.failed(code, Fault.TRANSIENT)
    assert health.is_down
    assert health.never_worked
    assert health.failing_codes == {code: WINDOW_ATTEMPTS}


@pytest.mark.parametrize(
    "code",
    [
        *(Code.NOT_FOUND, Code.GONE, Code.FORBIDDEN, Code.HOST_REFUSED),
        *(Code.SIZE_MISMATCH, Code.TYPE_MISMATCH),
    ],
)
def test_a_host_that_refuses_everything_is_suspect(code: Code) -> None:
    assert edge(failed=WINDOW_ATTEMPTS, code=code).is_down


def test_an_edge_that_never_worked() -> None:
    assert not EdgeHealth(Edge.DOWNLOAD).never_worked
    assert not edge(failed=MIN_ATTEMPTS - 1).never_worked
    assert edge(failed=MIN_ATTEMPTS).never_worked


def test_one_item_is_enough_if_no_connection_can_be_made() -> None:
    assert edge(failed=1, fault=Fault.SYSTEMIC).never_worked


def test_one_success_ever_means_that_the_edge_can_work() -> None:
    assert not edge(worked=1, failed=MIN_ATTEMPTS, fault=Fault.SYSTEMIC).never_worked


def test_a_connection_that_failed_is_forgotten_once_the_host_answers() -> None:
    health = edge(failed=1, fault=Fault.SYSTEMIC)
    assert health.is_unreachable
    health.worked()
    assert not health.is_unreachable

    health = edge(failed=1, fault=Fault.SYSTEMIC)
    health.failed(Code.NOT_FOUND, Fault.TRANSIENT)
    assert not health.is_unreachable


def test_an_edge_that_has_proved_to_work_begins_anew() -> None:
    health = edge(failed=WINDOW_ATTEMPTS)
    health.clear()
    assert not health.is_down
    assert not health.never_worked
    assert not health.ends_failing


def test_hosts_are_refused_if_most_of_enough_attempts_were_at_hosts_that_are_not_listed() -> None:
    assert edge(failed=MIN_ATTEMPTS, code=Code.HOST_REFUSED).refuses_hosts
    assert not edge(failed=MIN_ATTEMPTS - 1, code=Code.HOST_REFUSED).refuses_hosts
    assert not edge(worked=HALF, failed=HALF, code=Code.HOST_REFUSED).refuses_hosts
    assert edge(worked=HALF, failed=HALF + 1, code=Code.HOST_REFUSED).refuses_hosts
    assert not edge(failed=WINDOW_ATTEMPTS).refuses_hosts


def test_the_bounds_at_the_default_base() -> None:
    assert OutagePolicy.of(5.0) == OutagePolicy(
        base_seconds=5.0,
        longest_pause_seconds=60.0,
        outage_seconds=900.0,
        unreached_seconds=15.0,
    )


@given(seconds, st.integers(1, 10_000), jitters)
def test_a_pause_is_never_longer_than_the_longest(base: float, number: int, jitter: float) -> None:
    policy = OutagePolicy.of(base)
    assert 0.0 <= policy.pause_seconds(number, jitter) <= policy.longest_pause_seconds


@given(seconds, jitters)
def test_pauses_grow_to_the_longest(base: float, jitter: float) -> None:
    policy = OutagePolicy.of(base)
    pauses = [policy.pause_seconds(number, jitter) for number in range(1, 10)]
    assert all(later >= earlier for earlier, later in pairwise(pauses))
    assert pauses[-1] == policy.longest_pause_seconds * jitter


@given(seconds, seconds, st.booleans())
def test_waiting_ends(base: float, lasted: float, reached: bool) -> None:
    policy = OutagePolicy.of(base)
    left = policy.left_seconds(lasted, reached=reached)
    most = policy.outage_seconds if reached else policy.unreached_seconds
    assert 0.0 <= left <= most
    assert policy.left_seconds(most, reached=reached) == 0.0


@pytest.mark.parametrize("trouble", Trouble)
def test_silence_and_a_page_of_anybody_are_no_signs_of_life(trouble: Trouble) -> None:
    assert is_sign_of_life(trouble) == (trouble in (Trouble.FAULT, Trouble.BLOCK))
