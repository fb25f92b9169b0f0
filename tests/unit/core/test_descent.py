"""The way down to what is known: no hole, no page too many, gaps closed by the next runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core.descent import MOST_SLIPS, Descent, Stretch, stretches
from collector.core.paging import CoveredPage, PageRead

PER_PAGE = 4


class Site:
    """A list that grows at its head, and what was read of it."""

    def __init__(self, items: int = 0) -> None:
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
            last_page=max(1, ceil(len(self.listed) / PER_PAGE)),
            total=len(self.listed),
            per_page=PER_PAGE,
            reading=read.reading,
        )

    def begin(self, max_pages: int = 10_000, covered: Sequence[CoveredPage] = ()) -> Descent:
        return Descent(covered, max_pages=max_pages, watermark=self.watermark, above=self.above)

    def end(self, descent: Descent, pages: list[CoveredPage]) -> None:
        """Keep what the catalog keeps of a run."""
        if descent.new_watermark is not None:
            self.watermark, self.above = descent.new_watermark, []
        else:
            self.above = [*stretches(pages), *self.above]

    def read(self, max_pages: int = 10_000) -> list[int]:
        """Read on a quiet day; return the pages in order."""
        descent, pages = self.begin(max_pages), list[CoveredPage]()
        while (read := descent.take()) is not None:
            pages.append(self.page(read))
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
    assert calls < 200 + 2 * MOST_SLIPS
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
    descent = Descent((), max_pages=5, watermark=["gone"])
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
