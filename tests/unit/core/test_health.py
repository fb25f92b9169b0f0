"""Health: an edge that is down, or refuses everything, told from items that are bad."""

from __future__ import annotations

import pytest

from collector.core.errors import Code, Edge, Fault
from collector.core.health import MIN_ATTEMPTS, SUSPECT_CODES, WINDOW_ATTEMPTS, EdgeHealth

HALF = WINDOW_ATTEMPTS // 2
EVERY_SUSPECT = [(edge, code) for edge, codes in SUSPECT_CODES.items() for code in sorted(codes)]


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
