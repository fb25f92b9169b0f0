"""The order in which a crawl reads pages, and that it misses nothing that stays listed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import takewhile
from math import ceil
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core.crawl import MAX_LAST_LOOKS, MAX_READINGS, Crawl, PageRead
from collector.core.paging import (
    MAX_UNREADABLE_PAGES,
    CoveredPage,
    LedgerPage,
    UnreadablePage,
)

PER_PAGE = 4


class Listing:
    """A list, oldest first: new items join its end, any may go.

    Pages that are `unreadable` never come, and where it `refuses` those behind the end, they do not
    either. `lie` is what it says of its last page and of its total instead of the truth.
    """

    def __init__(
        self,
        items: int,
        *,
        unreadable: Collection[int] = (),
        refuses: bool = False,
        lie: Callable[[Listing, int], tuple[int, int]] | None = None,
    ) -> None:
        self.items = list(range(items))
        self.upcoming = items
        self.always = set(self.items)
        self.unreadable = set(unreadable)
        self.refuses = refuses
        self.lie = lie

    def insert(self) -> None:
        self.items.append(self.upcoming)
        self.upcoming += 1

    def delete(self, where: float) -> None:
        if self.items:
            self.always.discard(self.items.pop(int(where * len(self.items))))

    @property
    def last_page(self) -> int:
        return max(1, ceil(len(self.items) / PER_PAGE))

    def page(self, read: PageRead) -> CoveredPage:
        first = (read.number - 1) * PER_PAGE
        ids = [str(item) for item in self.items[first : first + PER_PAGE]]
        truth = self.last_page, len(self.items)
        last_page, total = self.lie(self, read.number) if self.lie else truth
        return CoveredPage(
            number=read.number,
            search_key="search",
            items=len(ids),
            invalid=0,
            known=0,
            ids=ids,
            last_page=last_page,
            total=total,
            per_page=PER_PAGE,
            reading=read.reading,
        )

    def answers(self, number: int) -> bool:
        """Say whether a page comes at all."""
        return number not in self.unreadable and (number <= self.last_page or not self.refuses)

    def without(self, read: PageRead) -> LedgerPage:
        """Return what the ledger gets for a page that does not come, once another one has told."""
        if read.number > self.last_page:
            return replace(self.page(read), items=0, ids=[])
        return UnreadablePage(
            read.number, "search", self.last_page, len(self.items), "the API refused the request"
        )

    def read(self, read: PageRead) -> LedgerPage:
        return self.page(read) if self.answers(read.number) else self.without(read)


def crawl_of(
    covered: Sequence[LedgerPage],
    *,
    from_page: int = 1,
    to_page: int | None = None,
    pages_per_batch: int = 5,
) -> Crawl:
    return Crawl(covered, from_page=from_page, to_page=to_page, pages_per_batch=pages_per_batch)


def read_alone(crawl: Crawl, listing: Listing) -> list[int]:
    """Read to the end, one page at a time; return the order."""
    order = []
    while (read := crawl.take()) is not None:
        order.append(read.number)
        crawl.note(listing.read(read))
        assert len(order) < 2_000, "there is no end"
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
    listing, crawl = Listing(6 * PER_PAGE), crawl_of([], pages_per_batch=1)
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
    assert order.count((3, MAX_READINGS)) == 1
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

    def __init__(self, items: int, pages_per_batch: int, **odd: Any) -> None:
        self.listing = Listing(items, **odd)
        self.pages_per_batch = pages_per_batch
        self.ledger: list[LedgerPage] = []
        self.crawl = crawl_of(self.ledger, pages_per_batch=pages_per_batch)
        self.asked: list[PageRead] = []
        self.refused: list[PageRead] = []
        self.served: list[LedgerPage] = []

    def insert(self, _: float) -> None:
        self.listing.insert()

    def delete(self, where: float) -> None:
        self.listing.delete(where)

    def ask(self, _: float) -> None:
        in_flight = len(self.asked) + len(self.refused) + len(self.served)
        if in_flight < 4 and (read := self.crawl.take()):
            self.asked.append(read)

    def serve(self, where: float) -> None:
        if not self.asked:
            return
        read = self.asked.pop(int(where * len(self.asked)))
        if not self.listing.answers(read.number):
            self.refused.append(read)
            return
        page = self.listing.page(read)
        self.served.append(short(page, 0) if self._comes_short(read.number, where) else page)

    def ask_another(self, where: float) -> None:
        """Ask another page what has become of one that was refused: the list may have changed."""
        if self.refused:
            read = self.refused.pop(int(where * len(self.refused)))
            self.served.append(self.listing.without(read))

    def _comes_short(self, number: int, where: float) -> bool:
        """Say whether a page comes empty now, never as often in a row as a crawl gives it up."""
        readings = [page for page in self.ledger if isinstance(page, CoveredPage)]
        before = [page.is_short for page in readings if page.number == number]
        in_a_row = len(list(takewhile(bool, reversed(before))))
        return where > 0.9 and in_a_row + 1 < MAX_READINGS

    def arrive(self, where: float) -> None:
        if self.served:
            page = self.served.pop(int(where * len(self.served)))
            self.ledger.append(page)
            self.crawl.note(page)

    def die(self, _: float) -> None:
        self.asked.clear()
        self.refused.clear()
        self.served.clear()
        self.crawl = crawl_of(self.ledger, pages_per_batch=self.pages_per_batch)

    def finish(self) -> None:
        while not self.crawl.is_done:
            self.ask(0)
            self.serve(0)
            self.ask_another(0)
            self.arrive(0)
            assert len(self.ledger) < 5_000, "there is no end"

    @property
    def seen(self) -> set[int]:
        readings = [page for page in self.ledger if isinstance(page, CoveredPage)]
        return {int(wallhaven_id) for page in readings for wallhaven_id in page.ids}

    def assert_nothing_is_missed(self) -> None:
        """What is listed all the time was seen, or has stood on a page that could not be read."""
        unread = {page.number for page in self.ledger if isinstance(page, UnreadablePage)}
        places = {item: place for place, item in enumerate(self.listing.items)}
        for item in self.listing.always - self.seen:
            # Its place was its number at first; each deletion moves it up by one.
            stood_on = range(places[item] // PER_PAGE + 1, item // PER_PAGE + 2)
            assert unread.intersection(stood_on), item


_WORDS = ("insert", "delete", "ask", "serve", "arrive", "ask", "serve", "arrive", "die")


@settings(max_examples=400)
@given(
    st.integers(0, 130),
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(_WORDS), st.floats(0, 0.999)), max_size=300),
)
def test_what_is_listed_all_the_time_is_read_whatever_comes_and_goes(
    items: int, pages_per_batch: int, steps: list[tuple[str, float]]
) -> None:
    reading = Reading(items, pages_per_batch)
    for word, where in steps:
        getattr(reading, word)(where)
    reading.finish()
    seen = {int(wallhaven_id) for page in reading.ledger for wallhaven_id in page.ids}
    assert reading.listing.always <= seen


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_a_busy_day_hides_nothing(seed: int, pages_per_batch: int) -> None:
    reading, random = Reading(100, pages_per_batch), Random(seed)
    for _ in range(1_000):
        getattr(reading, random.choice(_WORDS))(random.random())
    reading.finish()
    seen = {int(wallhaven_id) for page in reading.ledger for wallhaven_id in page.ids}
    assert reading.listing.always <= seen


# Days on which items were missed once, by seed: since a page at the end was read again while it was
# being joined to those below; since the list had shrunk by more than a page; since a process that
# went on did not know what had been a last look.
LOST_DAYS = [*(30_000_000 + day for day in (63, 2512, 4443, 7304, 7439, 8749, 9127, 12243))]


@pytest.mark.parametrize("seed", LOST_DAYS)
def test_a_day_that_once_hid_something_does_not(seed: int) -> None:
    random = Random(seed)
    items, pages_per_batch = random.randint(20, 60), random.randint(1, 6)
    reading = Reading(items, pages_per_batch)
    for _ in range(random.randint(300, 1500)):
        getattr(reading, random.choice(_WORDS))(random.random())
    reading.finish()
    assert reading.listing.always <= reading.seen


# --- Pages that fall off the end, pages that never come, and a last page that never comes ---------

_ODD_WORDS = (*_WORDS, "ask_another")
_STEPS = st.lists(st.tuples(st.sampled_from(_ODD_WORDS), st.floats(0, 0.999)), max_size=300)


@settings(max_examples=400)
@given(st.integers(0, 130), st.integers(1, 6), st.sets(st.integers(1, 34), max_size=4), _STEPS)
def test_what_could_be_read_is_read_whatever_falls_off_the_end_or_never_comes(
    items: int, pages_per_batch: int, unreadable: set[int], steps: list[tuple[str, float]]
) -> None:
    reading = Reading(items, pages_per_batch, unreadable=unreadable, refuses=True)
    for word, where in steps:
        getattr(reading, word)(where)
    reading.finish()
    reading.assert_nothing_is_missed()
    # What joins the list behind its last answer is for the next reading.
    last_page = min(reading.listing.last_page, reading.ledger[-1].last_page)
    assert {number for number in unreadable if number <= last_page} <= {
        *reading.crawl.unreadable_pages
    }


@settings(max_examples=200)
@given(st.integers(0, 130), st.integers(1, 6), _STEPS)
def test_a_list_that_refuses_what_lies_behind_its_end_hides_nothing(
    items: int, pages_per_batch: int, steps: list[tuple[str, float]]
) -> None:
    reading = Reading(items, pages_per_batch, refuses=True)
    for word, where in steps:
        getattr(reading, word)(where)
    reading.finish()
    assert reading.listing.always <= reading.seen or reading.crawl.unreadable_pages


@given(
    st.integers(1, 60),
    st.integers(1, 8),
    st.sets(st.integers(1, 60), max_size=MAX_UNREADABLE_PAGES - 1),
)
def test_of_a_quiet_list_all_is_read_but_the_pages_that_never_come(
    pages: int, pages_per_batch: int, unreadable: set[int]
) -> None:
    listing = Listing(pages * PER_PAGE, unreadable=unreadable)
    crawl = crawl_of([], pages_per_batch=pages_per_batch)
    order = read_alone(crawl, listing)
    there = {number for number in unreadable if number <= pages}
    assert crawl.is_done
    assert crawl.unreadable_pages == sorted(there)
    assert set(order) == set(range(1, pages + 1))
    assert all(order.count(number) == MAX_READINGS for number in there)


def test_a_page_that_cannot_be_read_is_tried_again_when_all_others_are_read() -> None:
    listing, crawl = Listing(9 * PER_PAGE, unreadable=[3]), crawl_of([])
    assert read_alone(crawl, listing) == [1, 5, 4, 3, 2, 1, 9, 8, 7, 6, 5, 3, 3, 9]
    listing.unreadable.clear()
    order = read_alone(crawl_of([UnreadablePage(3, "search", 9, 36, "refused")]), listing)
    assert order.count(3) == 1
    assert order[-3:] == [3, 2, 9], "joined to the page below, which was read before it"


def test_a_page_that_was_given_up_is_not_asked_for_again_by_whoever_goes_on() -> None:
    listing, crawl, ledger = Listing(9 * PER_PAGE, unreadable=[3]), crawl_of([]), []
    while (read := crawl.take()) is not None:
        ledger.append(listing.read(read))
        crawl.note(ledger[-1])
    again = crawl_of(ledger)
    assert again.take() is None
    assert again.is_done
    assert again.unreadable_pages == [3]


@pytest.mark.parametrize("unreadable", [1, 5])
def test_a_page_that_joins_two_slices_and_cannot_be_read_again_is_named(unreadable: int) -> None:
    listing, crawl = Listing(10 * PER_PAGE), crawl_of([])
    while (read := crawl.take()) is not None:
        crawl.note(listing.read(read))
        if read.number == unreadable:
            listing.unreadable.add(unreadable)
    assert crawl.is_done
    assert crawl.unreadable_pages == [unreadable]


def test_a_page_that_has_fallen_off_the_end_is_not_wanted_any_more() -> None:
    listing, crawl = Listing(10 * PER_PAGE, refuses=True), crawl_of([])
    order = []
    while (read := crawl.take()) is not None:
        if read.number == 10:
            del listing.items[-5:]
        order.append(read.number)
        crawl.note(listing.read(read))
    assert order.count(10) == 1
    assert crawl.is_done
    assert crawl.unreadable_pages == []


def test_a_site_that_shows_no_page_so_far_down_ends_the_crawl() -> None:
    pages, depth = 400, 12
    listing = Listing(pages * PER_PAGE, unreadable=range(depth + 1, pages + 1))
    crawl = crawl_of([])
    order = read_alone(crawl, listing)
    assert set(range(1, depth + 1)) <= set(order)
    assert len(order) < depth + 10 * MAX_UNREADABLE_PAGES
    assert crawl.is_done
    assert crawl.unreadable_pages[0] == depth + 1


LIES: dict[str, Callable[[Listing, int], tuple[int, int]]] = {
    "more with each page": lambda it, number: (max(it.last_page, number + 3), len(it.items)),
    "one more": lambda it, number: (max(it.last_page, number) + 1, len(it.items)),
    "very many": lambda it, _: (10**6, len(it.items)),
    "more with each page, in all too": lambda it, number: (
        max(it.last_page, number + 3),
        max(it.last_page, number + 3) * PER_PAGE,
    ),
    "very many, in all too": lambda it, _: (10**6, 10**6 * PER_PAGE),
}


@pytest.mark.parametrize("lie", LIES)
@settings(deadline=None)
@given(pages=st.integers(1, 30), pages_per_batch=st.integers(1, 25), readers=st.integers(1, 8))
def test_a_last_page_that_never_comes_is_not_looked_for_long(
    lie: str, pages: int, pages_per_batch: int, readers: int
) -> None:
    listing = Listing(pages * PER_PAGE, lie=LIES[lie])
    crawl = crawl_of([], pages_per_batch=pages_per_batch)
    in_flight, readings = list[PageRead](), list[CoveredPage]()
    while not crawl.is_done:
        while len(in_flight) < readers and (read := crawl.take()):
            in_flight.append(read)
        readings.append(listing.page(in_flight.pop(0)))
        crawl.note(readings[-1])
        assert len(readings) < 300
    assert {int(it) for page in readings for it in page.ids} == listing.always
    empty = [page for page in readings if not page.items]
    # Where the total tells better, two are looked at, and joined.
    assert len(empty) <= (4 if "in all" not in lie else 10 * MAX_READINGS + readers)
    again = len(readings) - len(empty) - pages
    assert again <= ceil(pages / pages_per_batch) + 3 * MAX_LAST_LOOKS


@settings(max_examples=200)
@given(st.sampled_from([lie for lie in LIES if "in all" not in lie]), st.integers(1, 6), _STEPS)
def test_nothing_that_stays_is_missed_whatever_is_said_of_the_last_page(
    lie: str, pages_per_batch: int, steps: list[tuple[str, float]]
) -> None:
    reading = Reading(60, pages_per_batch, lie=LIES[lie])
    for word, where in steps:
        getattr(reading, word)(where)
    reading.finish()
    assert reading.listing.always <= reading.seen
