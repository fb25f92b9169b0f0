"""The sweep reads every wanted page once and no other, and knows when it leaves no gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.paging import (
    MAX_UNREADABLE_PAGES,
    CoveredPage,
    LedgerPage,
    Sweep,
    UnreadablePage,
)

SEARCH = "a search"
PER_PAGE = 3


def page(
    number: int, *ids: str, last_page: int = 99, total: int = 1000, known: int = 0
) -> CoveredPage:
    listed = list(ids) or [f"{number}-{position}" for position in range(PER_PAGE)]
    return CoveredPage(number, SEARCH, len(listed), 0, known, listed, last_page, total)


def sweep(*covered: LedgerPage, max_pages: int = 50, watermark: Sequence[str] = ()) -> Sweep:
    return Sweep(covered, max_pages=max_pages, watermark=watermark)


def unreadable(number: int, last_page: int = 99, total: int = 1000) -> UnreadablePage:
    return UnreadablePage(number, SEARCH, last_page, total, "refused")


def take_all(reading: Sweep) -> list[int]:
    return [number for number, _ in iter(reading.take, None)]


def test_page_1_comes_alone_and_tells_how_many_there_are() -> None:
    reading = sweep()
    assert take_all(reading) == [1]
    reading.note(page(1, last_page=4))
    assert take_all(reading) == [2, 3, 4]


def test_max_pages_bounds_the_reading() -> None:
    assert take_all(sweep(page(1, last_page=1000), max_pages=3)) == [2, 3]


def test_covered_pages_are_not_read_again() -> None:
    assert take_all(sweep(page(1), page(3), page(4), max_pages=6)) == [2, 5, 6]


def test_the_last_page_may_grow_and_shrink() -> None:
    reading = sweep(page(1, last_page=2))
    assert take_all(reading) == [2]
    reading.note(page(2, last_page=4))
    assert reading.take() == (3, 1)
    reading.note(page(3, last_page=3))
    assert reading.take() is None


def test_a_last_page_of_nothing_still_reads_the_first() -> None:
    reading = sweep()
    assert take_all(reading) == [1]
    reading.note(CoveredPage(1, SEARCH, 0, 0, 0, [], 0, 0))
    assert reading.take() is None
    assert reading.new_watermark is None, "nothing was seen that a later reading could meet"


def test_the_watermark_does_not_end_the_reading() -> None:
    reading = sweep(page(1, "old", "b", last_page=3), watermark=["old"])
    assert take_all(reading) == [2, 3]
    assert reading.new_watermark == ["old", "b"]


def test_the_first_reading_leaves_no_hole_however_short() -> None:
    assert sweep(page(1), page(2), max_pages=2).new_watermark == page(1).ids


def test_a_reading_that_stops_short_of_the_watermark_leaves_a_hole() -> None:
    assert sweep(page(1), page(2), max_pages=2, watermark=["old"]).new_watermark is None


def test_a_reading_to_the_last_page_leaves_none() -> None:
    whole = [page(1, last_page=2), page(2, last_page=2)]
    assert sweep(*whole, max_pages=2, watermark=["gone"]).new_watermark == page(1).ids


def test_a_deletion_meanwhile_may_have_hidden_an_item() -> None:
    pages = [page(1, last_page=2, total=6), page(2, last_page=2, total=5)]
    assert sweep(*pages).new_watermark is None
    pages = [page(1, last_page=2, total=5), page(2, last_page=2, total=6)]
    assert sweep(*pages).new_watermark is None, "the order of the answers is not known"


def test_a_page_that_came_short_may_hide_items() -> None:
    short = replace(page(2, "a", last_page=3), per_page=PER_PAGE)
    assert sweep(page(1, last_page=3), short, page(3, last_page=3)).new_watermark is None


@given(st.integers(0, 40), st.integers(1, 12), st.data())
def test_no_page_is_read_twice_or_beyond_max_pages(
    last_page: int, max_pages: int, order: st.DataObject
) -> None:
    reading = sweep(max_pages=max_pages)
    waiting: list[int] = []
    read: list[int] = []
    while True:
        waiting += take_all(reading) if order.draw(st.booleans()) or not waiting else []
        if not waiting:
            break
        read.append(waiting.pop(order.draw(st.integers(0, len(waiting) - 1))))
        reading.note(page(read[-1], last_page=last_page))
    assert sorted(read) == list(range(1, max(1, min(last_page, max_pages)) + 1))


def test_an_unreadable_page_keeps_nobody_from_the_others_and_leaves_a_hole() -> None:
    reading = sweep(page(1, last_page=4), max_pages=4)
    assert take_all(reading) == [2, 3, 4]
    reading.note(unreadable(3, last_page=4))
    for number in (2, 4):
        reading.note(page(number, last_page=4))
    assert reading.take() is None
    assert reading.new_watermark is None


def test_a_run_that_goes_on_tries_unreadable_pages_again() -> None:
    ledger = [page(1, last_page=4), unreadable(3, last_page=4), page(2, last_page=4)]
    reading = sweep(*ledger, max_pages=4)
    assert take_all(reading) == [3, 4]
    for number in (3, 4):
        reading.note(page(number, last_page=4))
    assert reading.new_watermark == page(1).ids


def test_where_hardly_a_page_can_be_read_the_rest_is_not_asked_for() -> None:
    reading = sweep(page(1))
    asked = 0
    while (read := reading.take()) is not None:
        asked += 1
        reading.note(unreadable(read.number))
    assert asked == MAX_UNREADABLE_PAGES


def test_a_last_page_that_another_page_told_counts() -> None:
    reading = sweep(page(1, last_page=9), max_pages=9)
    assert reading.take() == (2, 1)
    reading.note(unreadable(2, last_page=3, total=9))
    assert take_all(reading) == [3]


def empty(number: int, last_page: int, total: int) -> CoveredPage:
    return CoveredPage(number, SEARCH, 0, 0, 0, [], last_page, total, PER_PAGE)


LIES = {
    "the last page": lambda number: (max(7, number) + 3, 7 * PER_PAGE),
    "the last page by far": lambda _: (10**6, 7 * PER_PAGE),
    "the total, too": lambda number: (max(7, number) + 3, (max(7, number) + 3) * PER_PAGE),
}


@pytest.mark.parametrize(("lie", "max_in_vain"), [*zip(LIES, (2, 2, 8), strict=True)])
def test_two_empty_pages_in_a_row_end_the_reading(lie: str, max_in_vain: int) -> None:
    """Seven real pages, eight at once; 93 of a hundred were asked for in vain before."""
    reading, waiting, asked = sweep(max_pages=100), list[int](), list[int]()
    while True:
        while len(waiting) < 8 and (read := reading.take()):
            waiting.append(read.number)
        if not waiting:
            break
        number = waiting.pop(0)
        asked.append(number)
        last_page, total = LIES[lie](number)
        full = replace(page(number, last_page=last_page, total=total), per_page=PER_PAGE)
        reading.note(full if number <= 7 else empty(number, last_page, total))
    assert set(range(1, 8)) <= set(asked)
    assert len(asked) <= 7 + max_in_vain
    assert reading.new_watermark is None


def test_two_empty_pages_before_others_end_nothing() -> None:
    reading = sweep(replace(page(1, last_page=9), per_page=PER_PAGE), max_pages=9)
    assert take_all(reading) == [*range(2, 10)]
    for number in (2, 3):
        reading.note(empty(number, 9, 27))
    reading.note(replace(page(4, last_page=9, total=27), per_page=PER_PAGE))
    assert reading.end == 9


def test_an_empty_search_is_known_as_such() -> None:
    assert not sweep().is_empty
    assert sweep(empty(1, 1, 0)).is_empty
    assert not sweep(page(1)).is_empty
