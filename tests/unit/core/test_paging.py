"""The frontier: every page that is wanted, once, and no further; and no hole left behind."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from collector.core.paging import CoveredPage, Frontier

SEARCH = "a search"
PER_PAGE = 3


def page(
    number: int, *ids: str, last_page: int = 99, total: int = 1000, known: int = 0
) -> CoveredPage:
    listed = list(ids) or [f"{number}-{position}" for position in range(PER_PAGE)]
    return CoveredPage(number, SEARCH, len(listed), 0, known, listed, last_page, total)


def frontier(
    *covered: CoveredPage,
    max_pages: int = 50,
    watermark: Sequence[str] = (),
    refresh: bool = False,
) -> Frontier:
    return Frontier(covered, max_pages=max_pages, watermark=watermark, refresh=refresh)


def take_all(reading: Frontier) -> list[int]:
    return list(iter(reading.take, None))


def test_page_1_comes_alone_and_tells_how_many_there_are() -> None:
    reading = frontier()
    assert take_all(reading) == [1]
    reading.note(page(1, last_page=4))
    assert take_all(reading) == [2, 3, 4]


def test_max_pages_bounds_the_reading() -> None:
    assert take_all(frontier(page(1, last_page=1000), max_pages=3)) == [2, 3]


def test_covered_pages_are_not_read_again() -> None:
    assert take_all(frontier(page(1), page(3), page(4), max_pages=6)) == [2, 5, 6]


def test_the_last_page_may_grow_and_shrink() -> None:
    reading = frontier(page(1, last_page=2))
    assert take_all(reading) == [2]
    reading.note(page(2, last_page=4))
    assert reading.take() == 3
    reading.note(page(3, last_page=3))
    assert reading.take() is None


def test_a_last_page_of_nothing_still_reads_the_first() -> None:
    reading = frontier()
    assert take_all(reading) == [1]
    reading.note(CoveredPage(1, SEARCH, 0, 0, 0, [], 0, 0))
    assert reading.take() is None
    assert reading.new_watermark is None, "nothing was seen that a later reading could meet"


def test_the_watermark_ends_the_reading() -> None:
    reading = frontier(page(1), watermark=["old", "older"])
    assert reading.take() == 2
    reading.note(page(2, "new", "older", "oldest"))
    assert reading.take() is None
    assert reading.new_watermark == page(1).ids


def test_what_other_searches_know_ends_nothing() -> None:
    reading = frontier(page(1, known=PER_PAGE), watermark=["old"], max_pages=3)
    assert take_all(reading) == [2, 3]


def test_refresh_reads_on_beyond_the_watermark() -> None:
    reading = frontier(page(1, "old", "b", last_page=3), watermark=["old"], refresh=True)
    assert take_all(reading) == [2, 3]
    assert reading.new_watermark == ["old", "b"]


def test_a_search_with_a_watermark_is_not_read_ahead() -> None:
    assert frontier(watermark=["old"]).is_incremental
    assert not frontier().is_incremental
    assert not frontier(watermark=["old"], refresh=True).is_incremental


def test_the_first_reading_leaves_no_hole_however_short() -> None:
    assert frontier(page(1), page(2), max_pages=2).new_watermark == page(1).ids


def test_a_reading_that_stops_short_of_the_watermark_leaves_a_hole() -> None:
    assert frontier(page(1), page(2), max_pages=2, watermark=["old"]).new_watermark is None


def test_a_reading_to_the_last_page_leaves_none() -> None:
    whole = [page(1, last_page=2), page(2, last_page=2)]
    assert frontier(*whole, max_pages=2, watermark=["gone"]).new_watermark == page(1).ids


def test_a_deletion_meanwhile_may_have_hidden_an_item() -> None:
    pages = [page(1, last_page=2, total=6), page(2, last_page=2, total=5)]
    assert frontier(*pages).new_watermark is None
    pages = [page(1, last_page=2, total=5), page(2, last_page=2, total=6)]
    assert frontier(*pages).new_watermark is not None, "an insertion only repeats items"


class Site:
    """A search that grows at its head, and what was mirrored of it."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self.mirrored: set[str] = set()
        self.watermark: list[str] = []

    def upload(self, count: int) -> None:
        new = [f"i{len(self.listed) + number}" for number in range(count)]
        self.listed = new[::-1] + self.listed

    def read(self, max_pages: int, stop_after: int | None, reorder: st.DataObject) -> None:
        """Read as `extract` does; `stop_after` pages the process is killed."""
        reading = frontier(max_pages=max_pages, watermark=self.watermark)
        waiting: list[int] = []
        done = 0
        while True:
            number = reading.take()
            if number is not None:
                waiting.append(number)
            if waiting and (number is None or reorder.draw(st.booleans())):
                reading.note(
                    self._page(waiting.pop(reorder.draw(st.integers(0, len(waiting) - 1))))
                )
                done += 1
                if done == stop_after:
                    return
            elif number is None:
                break
        self.watermark = reading.new_watermark or self.watermark

    def _page(self, number: int) -> CoveredPage:
        ids = self.listed[(number - 1) * PER_PAGE : number * PER_PAGE]
        self.mirrored.update(ids)
        last_page = max(1, -(-len(self.listed) // PER_PAGE))
        return CoveredPage(number, SEARCH, len(ids), 0, 0, ids, last_page, len(self.listed))


runs = st.lists(st.tuples(st.integers(0, 20), st.none() | st.integers(1, 6)), max_size=12)


@given(runs, st.data())
def test_whatever_is_cut_short_the_next_whole_reading_makes_it_good(
    runs: list[tuple[int, int | None]], reorder: st.DataObject
) -> None:
    site = Site()
    for uploads, stop_after in runs:
        site.upload(uploads)
        site.read(max_pages=10_000, stop_after=stop_after, reorder=reorder)
        if stop_after is None:
            assert site.mirrored == set(site.listed)


@given(runs, st.integers(1, 4), st.data())
def test_no_page_is_read_twice_or_beyond_max_pages(
    runs: list[tuple[int, int | None]], max_pages: int, reorder: st.DataObject
) -> None:
    site = Site()
    read: list[int] = []
    original = site._page
    site._page = lambda number: (read.append(number), original(number))[1]  # type: ignore[method-assign]
    for uploads, stop_after in runs:
        site.upload(uploads)
        site.read(max_pages, stop_after, reorder)
        assert len(read) == len(set(read))
        assert all(number <= max_pages for number in read)
        read.clear()
