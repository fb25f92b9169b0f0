"""Tally: what a transfer has done, and when it has to end."""

from __future__ import annotations

import pytest

from collector.core.audit import MIN_DEAD_FOR_FAILURE
from collector.core.tally import (
    DEAD_SHARE_IMAGES,
    MIN_SPARE_ATTEMPTS,
    SPARE_ATTEMPTS_SHARE,
    Tally,
)
from collector.core.transfers import Outcome, StoredObject


def tally(
    *,
    limit: int = 0,
    stored_before: int = 0,
    planned: int | None = None,
    tried_before: int = 0,
    stored: int = 0,
    dead: int = 0,
    failed: int = 0,
) -> Tally:
    counted = Tally(limit=limit, stored_before=stored_before, max_dead_percent=5)
    if planned is not None or tried_before:
        counted.plan(planned, tried_before=tried_before)
    for _ in range(stored):
        counted.stored(StoredObject("key", "00", 7, Outcome.UPLOADED), is_own=True)
    for number in range(dead + failed):
        counted.failed(is_given_up=number < dead)
    return counted


def test_what_is_stored_is_counted_by_how_and_for_whom() -> None:
    counted = tally(stored=2, dead=1, failed=3)
    counted.stored(StoredObject("key", "00", 7, Outcome.ADOPTED), is_own=False)
    assert counted.counts() == {
        "images_uploaded": 2,
        "images_adopted": 1,
        "bytes_uploaded": 14,
        "dead_letters": 1,
        "failed_attempts": 4,
    }
    details = counted.details()
    assert (details["stored_of_own_pages"], details["stored_of_backlog"]) == (2, 1)


def test_a_limit_is_of_the_run_and_not_of_the_call() -> None:
    assert not tally(limit=10, stored_before=5, stored=4).is_limit_reached
    assert tally(limit=10, stored_before=5, stored=5).is_limit_reached
    assert not tally(stored=1000).is_limit_reached


@pytest.mark.parametrize(
    ("limit", "spare"),
    [(1, MIN_SPARE_ATTEMPTS), (10_000, 10_000 * SPARE_ATTEMPTS_SHARE)],
)
def test_with_a_limit_few_more_attempts_may_fail(limit: int, spare: int) -> None:
    assert tally(limit=limit).spare_attempts == spare
    last = tally(limit=limit, failed=int(spare) - 1)
    assert (last.spare_attempts, last.are_attempts_used_up) == (1, False)
    assert tally(limit=limit, failed=int(spare)).are_attempts_used_up


def test_without_a_limit_any_number_of_attempts_may_fail() -> None:
    assert tally(failed=10_000).spare_attempts is None
    assert not tally(failed=10_000).are_attempts_used_up


@pytest.mark.parametrize(
    ("dead", "stored", "planned", "is_too_many"),
    [
        (MIN_DEAD_FOR_FAILURE - 1, 0, 20, False),
        (MIN_DEAD_FOR_FAILURE, 0, 20, True),
        (MIN_DEAD_FOR_FAILURE, 0, 200, False),
        (MIN_DEAD_FOR_FAILURE + 1, 0, 200, True),
        (DEAD_SHARE_IMAGES // 20, 0, 1_000_000, False),
        (DEAD_SHARE_IMAGES // 20 + 1, 0, 1_000_000, True),
        (DEAD_SHARE_IMAGES // 20 + 1, 2000, 1_000_000, False),
        (DEAD_SHARE_IMAGES // 20 + 1, 0, None, True),
    ],
)
def test_dead_letters_are_too_many_of_all_that_may_come_or_of_a_thousand(
    dead: int, stored: int, planned: int | None, *, is_too_many: bool
) -> None:
    counted = tally(dead=dead, stored=stored, planned=planned)
    assert (counted.too_many_dead is not None) == is_too_many
    if counted.too_many_dead:
        assert counted.too_many_dead.handled == dead + stored


def test_what_the_run_has_tried_before_belongs_to_the_share() -> None:
    few = tally(dead=10, planned=10, tried_before=180)
    assert few.too_many_dead is not None
    assert few.too_many_dead.handled == 190
    assert tally(dead=10, planned=10, tried_before=190).too_many_dead is None
