"""The order in which a crawl reads pages, and that it misses nothing that stays listed."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from math import ceil
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core.crawl import MOST_READINGS, Crawl, PageRead
from collector.core.paging import CoveredPage

PER_PAGE = 4


class Listing:
    """A list, oldest first: new items join its end, any may go."""

    def __init__(self, items: int) -> None:
        self.items = list(range(items))
        self.upcoming = items
        self.always = set(self.items)

    def insert(self) -> None:
        self.items.append(self.upcoming)
        self.upcoming += 1

    def delete(self, where: float) -> None:
        if self.items:
            self.always.discard(self.items.pop(int(where * len(self.items))))

    def page(self, read: PageRead) -> CoveredPage:
        first = (read.number - 1) * PER_PAGE
        ids = [str(item) for item in self.items[first : first + PER_PAGE]]
        return CoveredPage(
            number=read.number,
            search_key="search",
            items=len(ids),
            invalid=0,
            known=0,
            ids=ids,
            last_page=max(1, ceil(len(self.items) / PER_PAGE)),
            total=len(self.items),
            per_page=PER_PAGE,
            reading=read.reading,
        )


def crawl_of(
    covered: list[CoveredPage],
    *,
    from_page: int = 1,
    to_page: int | None = None,
    pages_per_slice: int = 5,
) -> Crawl:
    return Crawl(covered, from_page=from_page, to_page=to_page, pages_per_slice=pages_per_slice)


def read_alone(crawl: Crawl, listing: Listing) -> list[int]:
    """Read to the end, one page at a time; return the order."""
    order = []
    while (read := crawl.take()) is not None:
        order.append(read.number)
        crawl.note(listing.page(read))
    return order


def test_slices_come_in_order_and_each_from_its_top_down() -> None:
    order = read_alone(crawl_of([]), Listing(12 * PER_PAGE))
    # Page 1 tells the end; it and each top are read again to join what was read before its upper
    # neighbour.
    # In the end the last page is looked at once more.
    assert order == [1, 5, 4, 3, 2, 1, 10, 9, 8, 7, 6, 5, 12, 11, 10, 12]


def test_one_page_is_one_call() -> None:
    assert read_alone(crawl_of([]), Listing(3)) == [1]
    assert read_alone(crawl_of([]), Listing(0)) == [1]


@given(st.integers(2, 60))
def test_a_quiet_list_costs_one_call_more_for_each_slice(pages: int) -> None:
    crawl = crawl_of([])
    order = read_alone(crawl, Listing(pages * PER_PAGE))
    assert set(order) == set(range(1, pages + 1))
    assert len(order) <= pages + ceil(pages / 5) + (pages > 5)
    assert crawl.is_done


def test_neighbours_are_never_in_flight_at_once_and_slices_may_be() -> None:
    listing, crawl = Listing(40 * PER_PAGE), crawl_of([])
    first = crawl.take()
    assert first == (1, 1)
    assert crawl.take() is None, "nobody knows yet how many pages there are"
    crawl.note(listing.page(first))
    in_flight = [read.number for _ in range(8) if (read := crawl.take())]
    assert in_flight == [5, 10, 15, 20, 25, 30, 35, 40]
    assert crawl.take() is None
    crawl.note(listing.page(PageRead(10, 1)))
    assert crawl.take() == (9, 1)
    assert not crawl.is_done


def test_neighbours_of_two_slices_wait_for_each_other() -> None:
    listing, crawl = Listing(6 * PER_PAGE), crawl_of([], pages_per_slice=1)
    crawl.take()
    crawl.note(listing.page(PageRead(1, 1)))
    assert [crawl.take() for _ in range(4)] == [(2, 1), (4, 1), (6, 1), None]


def test_a_part_of_the_list_is_read_and_no_more() -> None:
    listing = Listing(40 * PER_PAGE)
    order = read_alone(crawl_of([], from_page=7, to_page=12), listing)
    assert set(order) == set(range(7, 13))
    assert read_alone(crawl_of([], from_page=50), listing) == [50]


def test_what_the_ledger_has_is_not_read_again() -> None:
    listing, before = Listing(23 * PER_PAGE), crawl_of([])
    ledger: list[CoveredPage] = []
    while len(ledger) < 11 and (read := before.take()):
        ledger.append(listing.page(read))
        before.note(ledger[-1])
    again = read_alone(crawl_of(ledger), listing)
    assert len(ledger) + len(again) == 23 + 5 + 1
    assert {page.number for page in ledger}.isdisjoint(set(again) - {5, 10, 1})


def short(page: CoveredPage, items: int = 1) -> CoveredPage:
    return replace(page, items=items, ids=page.ids[:items])


def test_a_short_page_is_read_again_before_those_below_it_and_given_up_in_the_end() -> None:
    listing, crawl = Listing(9 * PER_PAGE), crawl_of([])
    order = []
    while (read := crawl.take()) is not None:
        order.append(tuple(read))
        page = listing.page(read)
        crawl.note(short(page) if read.number == 3 else page)
    assert [number for number, _ in order[:8]] == [1, 5, 4, 3, 3, 3, 2, 1]
    assert [reading for number, reading in order if number == 3] == [1, 2, 3]
    assert order.count((3, MOST_READINGS)) == 1
    assert crawl.is_done


def test_a_list_that_never_stops_growing_lets_us_go() -> None:
    listing, crawl, calls = Listing(9 * PER_PAGE), crawl_of([]), 0
    while (read := crawl.take()) is not None:
        listing.delete(0.999)
        listing.insert()
        listing.insert()
        calls += 1
        crawl.note(listing.page(read))
        assert calls < 200
    assert crawl.is_done


def test_what_moved_from_a_page_that_had_been_empty_is_met_also_after_a_crash() -> None:
    listing, crawl = Listing(12 * PER_PAGE), crawl_of([])
    ledger: list[CoveredPage] = []

    def read(*numbers: int) -> None:
        for number in numbers:
            wanted = crawl.take()
            assert wanted is not None
            assert wanted.number == number
            ledger.append(listing.page(wanted))
            crawl.note(ledger[-1])

    read(1, 5, 4, 3, 2, 1, 10, 9, 8, 7, 6)
    listing.insert()
    read(5)
    listing.delete(0.999)
    read(13, 12, 11)
    for _ in range(4):
        listing.insert()
    read(10)
    # Two of the new ones move from page 13 to 12, which nobody has read since.
    listing.delete(0.1)
    listing.delete(0.1)
    read(13)
    for going_on in (crawl_of(ledger), crawl):
        read_again = PageRead(12, 2)
        assert going_on.take() == read_again
        going_on.note(listing.page(read_again))
        assert going_on.is_done


class Reading:
    """A crawl by a few readers, whose questions and answers may overtake each other."""

    def __init__(self, items: int, pages_per_slice: int) -> None:
        self.listing = Listing(items)
        self.pages_per_slice = pages_per_slice
        self.ledger: list[CoveredPage] = []
        self.crawl = crawl_of(self.ledger, pages_per_slice=pages_per_slice)
        self.asked: list[PageRead] = []
        self.served: list[CoveredPage] = []

    def insert(self, _: float) -> None:
        self.listing.insert()

    def delete(self, where: float) -> None:
        self.listing.delete(where)

    def ask(self, _: float) -> None:
        if len(self.asked) + len(self.served) < 4 and (read := self.crawl.take()):
            self.asked.append(read)

    def serve(self, where: float) -> None:
        if self.asked:
            read = self.asked.pop(int(where * len(self.asked)))
            page = self.listing.page(read)
            self.served.append(short(page, 0) if self._comes_short(read.number, where) else page)

    def _comes_short(self, number: int, where: float) -> bool:
        """Say whether a page comes empty now, never as often in a row as a crawl gives it up."""
        before = [page.is_short for page in self.ledger if page.number == number]
        in_a_row = len(list(takewhile(bool, reversed(before))))
        return where > 0.9 and in_a_row + 1 < MOST_READINGS

    def arrive(self, where: float) -> None:
        if self.served:
            page = self.served.pop(int(where * len(self.served)))
            self.ledger.append(page)
            self.crawl.note(page)

    def die(self, _: float) -> None:
        self.asked.clear()
        self.served.clear()
        self.crawl = crawl_of(self.ledger, pages_per_slice=self.pages_per_slice)

    def finish(self) -> None:
        while not self.crawl.is_done:
            self.ask(0)
            self.serve(0)
            self.arrive(0)


_WORDS = ("insert", "delete", "ask", "serve", "arrive", "ask", "serve", "arrive", "die")


@settings(max_examples=400)
@given(
    st.integers(0, 130),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(_WORDS), st.floats(0, 0.999)), max_size=300),
)
def test_what_is_listed_all_the_time_is_read_whatever_comes_and_goes(
    items: int, pages_per_slice: int, steps: list[tuple[str, float]]
) -> None:
    reading = Reading(items, pages_per_slice)
    for word, where in steps:
        getattr(reading, word)(where)
    reading.finish()
    seen = {int(wallhaven_id) for page in reading.ledger for wallhaven_id in page.ids}
    assert reading.listing.always <= seen


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_a_busy_day_hides_nothing(seed: int, pages_per_slice: int) -> None:
    reading, random = Reading(100, pages_per_slice), Random(seed)
    for _ in range(1_000):
        getattr(reading, random.choice(_WORDS))(random.random())
    reading.finish()
    seen = {int(wallhaven_id) for page in reading.ledger for wallhaven_id in page.ids}
    assert reading.listing.always <= seen
