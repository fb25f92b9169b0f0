"""Health: an edge that is down, told from items that are bad."""

from __future__ import annotations

import pytest

from collector.core.errors import Code, Fault
from collector.core.health import LEAST_TRIES, OUTAGE_CODES, WINDOW_TRIES, EdgeHealth

HALF = WINDOW_TRIES // 2


def edge(*, failed: int = 0, answered: int = 0, fault: Fault = Fault.TRANSIENT) -> EdgeHealth:
    health = EdgeHealth()
    for _ in range(answered):
        health.answered()
    for _ in range(failed):
        health.failed(Code.SOURCE_ERROR, fault)
    return health


def test_more_than_half_of_a_full_window_is_an_outage() -> None:
    assert not edge(failed=HALF, answered=HALF).is_down
    assert edge(failed=HALF + 1, answered=HALF - 1).is_down
    assert edge(failed=WINDOW_TRIES).is_down


def test_a_window_that_is_not_full_says_nothing() -> None:
    assert not edge(failed=WINDOW_TRIES - 1).is_down
    assert not EdgeHealth().is_down


def test_only_the_last_tries_count() -> None:
    assert edge(answered=1000, failed=HALF + 1).is_down
    health = edge(failed=WINDOW_TRIES)
    for _ in range(HALF):
        assert health.is_down
        health.answered()
    assert not health.is_down


@pytest.mark.parametrize("code", sorted(set(Code) - OUTAGE_CODES))
def test_a_bad_item_is_an_answer(code: Code) -> None:
    health = EdgeHealth()
    for _ in range(WINDOW_TRIES):
        health.failed(code, Fault.TRANSIENT)
    assert not health.is_down
    assert not health.never_answered


@pytest.mark.parametrize("code", sorted(OUTAGE_CODES))
def test_what_a_host_in_trouble_says_counts_against_it(code: Code) -> None:
    health = EdgeHealth()
    for _ in range(WINDOW_TRIES):
        health.failed(code, Fault.TRANSIENT)
    assert health.is_down
    assert health.never_answered


def test_nobody_was_there() -> None:
    assert not EdgeHealth().never_answered
    assert not edge(failed=LEAST_TRIES - 1).never_answered
    assert edge(failed=LEAST_TRIES).never_answered


def test_one_item_is_enough_where_no_connection_can_be_made() -> None:
    assert edge(failed=1, fault=Fault.SYSTEMIC).never_answered


def test_one_answer_ever_means_that_somebody_was_there() -> None:
    assert not edge(answered=1, failed=LEAST_TRIES, fault=Fault.SYSTEMIC).never_answered
