"""Incremental reads leave no gap, read no page too many, and later runs close gaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core.incremental import MAX_SLIPS, IncrementalRead, Stretch, stretches
from collector.core.paging import (
    MAX_UNREADABLE_PAGES,
    CoveredPage,
    LedgerPage,
    PageRead,
    UnreadablePage,
)

PER_PAGE = 4


class Site:
    """A list that grows at its head, and what was read of it.

    Pages that are `unreadable` do not come. `lie` is what it says of its last page.
    """

    def __init__(self, items: int = 0) -> None:
        self.unreadable: set[int] = set()
        self.lie: Callable[[int], int] | None = None
        self.listed: list[str] = []
        self.uploads = 0
        self.upload(items)
        self.mirrored = set(self.listed)
        self.watermark = self.listed[:PER_PAGE]
        self.above: list[Stretch] = []

    def upload(self, count: int) -> None:
        new = [f"i{self.uploads + number}" for number in range(count)]
        self.uploads += count
        self.listed = new[::-1] + self.listed

    def delete(self, *positions: int) -> None:
        for position in positions:
            self.listed.pop(position)

    @property
    def last_page(self) -> int:
        return max(1, ceil(len(self.listed) / PER_PAGE))

    def read_page(self, read: PageRead) -> LedgerPage:
        """Return what the ledger gets: where a page does not come, page 1 says what there is."""
        if read.number not in self.unreadable or read.number > self.last_page:
            return self.page(read)
        total = len(self.listed)
        return UnreadablePage(read.number, "a search", self.last_page, total, "refused")

    def page(self, read: PageRead) -> CoveredPage:
        first = (read.number - 1) * PER_PAGE
        ids = self.listed[first : first + PER_PAGE]
        self.mirrored.update(ids)
        return CoveredPage(
            number=read.number,
            search_key="a search",
            items=len(ids),
            invalid=0,
            known=0,
            ids=ids,
            last_page=self.lie(read.number) if self.lie else self.last_page,
            total=len(self.listed),
            per_page=PER_PAGE,
            reading=read.reading,
        )

    def begin(self, max_pages: int = 10_000, covered: Sequence[LedgerPage] = ()) -> IncrementalRead:
        known = {"watermark": self.watermark, "above": self.above}
        return IncrementalRead(covered, max_pages=max_pages, **known)

    def end(self, descent: IncrementalRead, pages: Sequence[LedgerPage]) -> None:
        """Keep what the catalog keeps of a run."""
        if descent.new_watermark is not None:
            self.watermark, self.above = descent.new_watermark, []
        else:
            staged = [page for page in pages if isinstance(page, CoveredPage)]
            self.above = [*stretches(staged), *self.above]

    def read(self, max_pages: int = 10_000) -> list[int]:
        """Read on a quiet day; return the pages in order."""
        descent, pages = self.begin(max_pages), list[LedgerPage]()
        while (read := descent.take()) is not None:
            pages.append(self.read_page(read))
            descent.note(pages[-1])
        self.end(descent, pages)
        return [page.number for page in pages]


@given(st.integers(0, 200), st.integers(2, 9))
def test_short_runs_come_down_in_the_end(new: int, max_pages: int) -> None:
    site = Site(60)
    site.upload(new)
    days = 1
    while len(site.read(max_pages + 1)) > 1:
        site.upload(1)
        days += 1
    assert days <= ceil(new / PER_PAGE / (max_pages - 1)) + 3
    assert site.above == []
    assert set(site.listed) <= site.mirrored


@given(st.integers(1, 40), st.integers(0, 60))
def test_n_new_items_cost_at_most_their_pages_and_one(known: int, new: int) -> None:
    site = Site(known)
    site.upload(new)
    assert len(site.read()) <= ceil(new / PER_PAGE) + 1
    assert site.mirrored >= set(site.listed)


def test_what_a_short_run_left_open_is_closed_by_the_next_ones() -> None:
    site = Site(100)
    site.upload(40)
    assert site.read(max_pages=4) == [1, 2, 3, 4]
    site.upload(5)
    # Down to the end of what was read, and on from there.
    assert site.read(max_pages=6) == [1, 2, 6, 7, 8, 9]
    assert site.read(max_pages=6) == [1, 9, 10, 11, 12]
    assert site.mirrored >= set(site.listed)
    assert site.read() == [1]


def test_a_stretch_that_has_lost_items_is_found_again_by_bisection() -> None:
    site = Site(100)
    site.upload(40)
    site.read(max_pages=6)
    site.delete(*range(16, 6, -1))
    assert site.read() == [1, 6, 3, 4, 5, 4, 5, 6, 7, 8]
    assert site.mirrored >= set(site.listed)
    assert site.read() == [1]


def test_a_page_before_one_with_a_smaller_total_is_read_again() -> None:
    site = Site(100)
    site.upload(20)
    descent, order = site.begin(), list[PageRead]()
    while (read := descent.take()) is not None:
        order.append(read)
        if len(order) == 3:
            site.delete(0, 1)
        descent.note(site.page(read))
    assert order == [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (4, 1), (5, 1)]
    assert site.mirrored >= set(site.listed)
    assert descent.new_watermark == ["i119", "i118", "i117", "i116"]


def test_a_list_that_shrinks_under_every_reading_is_left_to_the_next_run() -> None:
    site = Site(400)
    site.upload(400)
    descent, calls = site.begin(), 0
    while (read := descent.take()) is not None:
        site.delete(0)
        descent.note(site.page(read))
        calls += 1
    assert calls < 200 + 2 * MAX_SLIPS
    assert descent.new_watermark is None


def test_what_the_run_has_read_before_is_not_read_again() -> None:
    site = Site(100)
    site.upload(30)
    before, pages = site.begin(), list[CoveredPage]()
    for _ in range(3):
        read = before.take()
        assert read is not None
        pages.append(site.page(read))
        before.note(pages[-1])
    assert site.begin(covered=pages).take() == (4, 1)


def test_an_empty_search_ends_at_once_and_leaves_no_mark() -> None:
    site = Site()
    descent = IncrementalRead((), max_pages=5, watermark=["gone"])
    read = descent.take()
    assert read == (1, 1)
    descent.note(site.page(read))
    assert descent.take() is None
    assert descent.new_watermark is None


def test_stretches_end_where_the_list_shrank_or_a_page_was_left_out() -> None:
    site = Site(40)
    pages = [site.page(PageRead(number)) for number in (1, 2, 4, 5)]
    site.delete(0)
    pages.append(site.page(PageRead(6)))
    assert [len(part) // PER_PAGE for part in stretches(pages)] == [2, 2, 1]


def test_a_page_that_came_short_ends_a_stretch_and_moves_no_watermark() -> None:
    site = Site(40)
    site.upload(12)
    pages = [site.page(PageRead(number)) for number in (1, 2, 3, 4)]
    pages[1] = replace(pages[1], items=0, ids=[])
    assert [len(part) // PER_PAGE for part in stretches(pages)] == [1, 2]
    descent = site.begin(covered=pages)
    assert descent.take() is None
    assert descent.new_watermark is None


_DAYS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1, max_size=8)


@settings(max_examples=300)
@given(_DAYS, st.integers(0, 2**32), st.floats(0, 0.4))
def test_whatever_happens_a_whole_reading_has_missed_nothing(
    days: list[tuple[int, int]], seed: int, restlessness: float
) -> None:
    """Each day brings uploads and a short run; items come and go while it reads."""
    site, random = Site(60), Random(seed)
    for uploads, max_pages in days:
        site.upload(uploads)
        listed_before = set(site.listed)
        descent, pages = site.begin(max_pages), list[CoveredPage]()
        while (read := descent.take()) is not None:
            if random.random() < restlessness:
                site.upload(random.randrange(3))
            if random.random() < restlessness and len(site.listed) > PER_PAGE:
                site.delete(*sorted(random.sample(range(len(site.listed)), 2), reverse=True))
            pages.append(site.page(read))
            descent.note(pages[-1])
        if descent.new_watermark is not None:
            assert listed_before & set(site.listed) <= site.mirrored
        site.end(descent, pages)
    site.read()
    assert set(site.listed) <= site.mirrored
    assert site.read() == [1]


# --- Pages that cannot be read, that fall off the end, or that are only said to be there ----------


def test_a_page_that_cannot_be_read_leaves_a_gap_that_the_next_run_closes() -> None:
    site = Site(60)
    site.upload(20)
    watermark, site.unreadable = site.watermark, {3}
    assert site.read() == [1, 2, 3, 4, 5, 6]
    assert site.watermark == watermark, "there is a hole above it"
    assert not site.mirrored >= set(site.listed)
    site.unreadable.clear()
    # Down the stretch above the gap, through the gap, and down the one below.
    assert site.read() == [1, 2, 3, 4, 6]
    assert site.mirrored >= set(site.listed)
    assert site.read() == [1]


def test_who_goes_on_knows_of_the_hole_that_was_left() -> None:
    site = Site(60)
    site.upload(20)
    site.unreadable = {3}
    descent, pages = site.begin(), list[LedgerPage]()
    while (read := descent.take()) is not None:
        pages.append(site.read_page(read))
        descent.note(pages[-1])
    assert descent.new_watermark is None
    again = site.begin(covered=pages)
    assert again.take() is None
    assert again.new_watermark is None


def test_a_site_that_shows_no_further_page_is_not_asked_for_all_of_them() -> None:
    site = Site(400)
    site.upload(200)
    site.unreadable = set(range(3, 1000))
    assert len(site.read()) == 2 + MAX_UNREADABLE_PAGES


def test_what_moved_up_from_a_page_that_has_fallen_off_the_end_is_met() -> None:
    site = Site(5 * PER_PAGE)
    site.watermark = ["gone"]
    descent, order = site.begin(), list[int]()
    while (read := descent.take()) is not None:
        order.append(read.number)
        if read.number == 5:
            site.delete(*range(9, 0, -1))
        descent.note(site.read_page(read))
    # Not 4, which is gone as well: the last page there is, and from one that was seen down again.
    assert order == [1, 2, 3, 4, 5, 3, 2, 3]
    assert site.mirrored >= set(site.listed)
    assert descent.new_watermark is not None


@pytest.mark.parametrize("lie", [lambda number: number + 3, lambda _: 10**6])
def test_two_empty_pages_in_a_row_end_the_reading(lie: Callable[[int], int]) -> None:
    site = Site(7 * PER_PAGE)
    site.watermark, site.lie = ["gone"], lie
    assert site.read() == [*range(1, 10)]
    assert site.watermark == ["gone"], "it is not known to be the end"


@settings(max_examples=300)
@given(_DAYS, st.integers(0, 2**32), st.floats(0, 0.4), st.floats(0, 0.3))
def test_whatever_cannot_be_read_is_never_taken_for_read(
    days: list[tuple[int, int]], seed: int, restlessness: float, unreadable: float
) -> None:
    """Each day other pages do not come, and a run that names them keeps no later one from them."""
    site, random = Site(60), Random(seed)
    for uploads, max_pages in days:
        site.upload(uploads)
        site.unreadable = {number for number in range(2, 80) if random.random() < unreadable}
        listed_before = set(site.listed)
        descent, pages = site.begin(max_pages), list[LedgerPage]()
        while (read := descent.take()) is not None:
            if random.random() < restlessness and len(site.listed) > PER_PAGE:
                site.delete(*sorted(random.sample(range(len(site.listed)), 2), reverse=True))
            pages.append(site.read_page(read))
            descent.note(pages[-1])
            if random.random() < 0.1:
                descent = site.begin(max_pages, pages)  # another process goes on
        if descent.new_watermark is not None:
            assert listed_before & set(site.listed) <= site.mirrored
        site.end(descent, pages)
    site.unreadable.clear()
    site.read()
    assert set(site.listed) <= site.mirrored
    assert site.read() == [1]
