"""Read a list as a whole while it changes, so that nothing that stays listed is missed.

The list is read oldest first. New items join its end; a deletion moves all behind it up, across
page borders. Whoever reads page 7 and then page 8 misses what moved from 8 to 7 in between; whoever
reads 8 before 7 meets it twice at worst. So the pages of a slice are read from its top down, and
where a slice was read before the one above it, its top page is read again afterwards, and those
below it, until one holds an item of its first reading: then the two are joined without a hole.

A page that cannot be read holds nobody up: it is tried again once all others are read, and given up
at last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from collector.core.paging import (
    MAX_UNREADABLE_PAGES,
    CoveredPage,
    LedgerPage,
    ListEnd,
    PageRead,
    UnreadablePage,
)

# Joining two slices costs one call: 4 % of a slice. Longer ones would keep those who read several
# at once further from "oldest first".
PAGES_PER_SLICE = 25
# A page that comes short, or cannot be read, this often is so for good: the certificate says so.
MAX_READINGS = 3
# A list that still grows after so many last looks would keep us for ever.
MAX_LAST_LOOKS = 5


class Crawl:
    """Hand out the pages of a list, each with its place in the order that proves it whole.

    `covered` is what the ledger has, in its order; `to_page` None means to the end, wherever that
    is by then. The first page comes alone: it tells how many there are.
    """

    def __init__(
        self,
        covered: Iterable[LedgerPage],
        *,
        from_page: int = 1,
        to_page: int | None = None,
        pages_per_slice: int = PAGES_PER_SLICE,
    ) -> None:
        self._from_page = from_page
        self._to_page = to_page
        self._pages_per_slice = pages_per_slice
        self._in_flight: set[int] = set()
        # How often each page was staged, was read in full, came short and was unreadable in a row.
        self._counts: dict[int, int] = {}
        self._readings: dict[int, int] = {}
        self._short: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._joins = Joins()
        self._first_open_slice = self._slice_of(from_page)
        self._list = ListEnd(from_page)
        self._total: int | None = None
        # Both as the number of pages noted until then.
        self._changed_at = 0
        self._read_at: dict[int, int] = {}
        self._noted = 0
        for page in covered:
            self.note(page)

    def take(self) -> PageRead | None:
        """Return the next page to read, None where there is none now; `note` may change that.

        Neighbours are never in flight at once: of two answers, the order would not be known.
        """
        number = self._next()
        if number is None and (number := self._last_look()) is not None:
            self._joins.join_down_from(number)
        if number is None:
            return None
        self._in_flight.add(number)
        return PageRead(number, self._counts.get(number, 0) + 1)

    def note(self, page: LedgerPage) -> None:
        """A page is staged, or was unreadable; what it says of the end is the newest word.

        A page that comes short is as good as unread: what is missing may be what has moved there.
        It is read again before anything below it, until it is full or MAX_READINGS came short. One
        that is unreadable is tried again when nothing else is left, MAX_READINGS times in all.
        """
        number = page.number
        self._in_flight.discard(number)
        self._noted += 1
        if self._total not in (None, page.total):
            self._changed_at = self._noted
        self._total = page.total
        self._list.hear(page)
        if isinstance(page, UnreadablePage):
            self._fail(number)
            return
        self._failures.pop(number, None)
        self._counts[number] = page.reading
        self._short[number] = self._short.get(number, 0) + 1 if page.is_short else 0
        # Where the total, too, says that nothing is left for it, asking again would not help.
        is_behind = not page.items and self._list.is_behind(number)
        is_read = not page.is_short or is_behind or self._short[number] >= MAX_READINGS
        self._list.see(page, for_good=is_read)
        if is_read:
            self._read(number, page)

    def _fail(self, number: int) -> None:
        self._failures[number] = self._failures.get(number, 0) + 1
        if self._is_given_up(number):
            self._joins.give_up(number)

    def _is_given_up(self, number: int) -> bool:
        return self._failures.get(number, 0) >= MAX_READINGS

    def _read(self, number: int, page: CoveredPage) -> None:
        self._read_at[number] = self._noted
        self._joins.read(number, page.ids, is_empty=not page.items)
        self._readings[number] = self._readings.get(number, 0) + 1

    @property
    def end(self) -> int:
        """The last page that is wanted, as far as is known."""
        last = self._list.last_page
        further = [number for number in self._failures if number > self._list.highest_with_items]
        if len(further) >= MAX_UNREADABLE_PAGES:
            last = min(last, *further)
        return last if self._to_page is None else min(self._to_page, last)

    @property
    def is_empty(self) -> bool:
        """True where the list has no items, by the newest word."""
        return self._total == 0

    @property
    def unreadable_pages(self) -> list[int]:
        """The pages that could not be read, as far as the list still has them."""
        return sorted(number for number in self._failures if number <= self._list.last_page)

    @property
    def is_done(self) -> bool:
        """True where every page is read or given up, all are joined, and nothing is in flight."""
        return not self._in_flight and self._next() is None and self._last_look() is None

    def _next(self) -> int | None:
        if self._total is None:
            return None if self._in_flight else self._from_page
        steps = (self._joins.wanted, self._tops_of_slices(), self._more_attempts())
        free = (number for step in steps for number in step if self._is_free(number))
        return next(free, None)

    def _is_free(self, number: int) -> bool:
        return self._in_flight.isdisjoint((number - 1, number, number + 1))

    def _tops_of_slices(self) -> Iterator[int]:
        """Yield of each slice that nobody is reading the highest page that was not read."""
        busy = {self._slice_of(number) for number in self._in_flight}
        for index in range(self._first_open_slice, self._slice_of(self.end) + 1):
            pages = self._pages(index)
            unread = [n for n in pages if n not in self._readings and n not in self._failures]
            if unread and index not in busy:
                yield self._highest_or_middle(unread)
            elif not unread and index == self._first_open_slice and self._is_full(index):
                self._first_open_slice += 1

    def _highest_or_middle(self, unread: list[int]) -> int:
        """Return the highest, or halve what may lie between the last items and empty pages."""
        further = [number for number in unread if number > self._list.highest_with_items]
        return further[len(further) // 2] if further and self._list.is_refuted else unread[-1]

    def _more_attempts(self) -> Iterator[int]:
        """Yield the pages that were unreadable and never read, and are not given up."""
        for number in sorted(self._failures):
            is_read = number in self._readings
            is_wanted = self._from_page <= number <= self.end
            if is_wanted and not is_read and not self._is_given_up(number):
                yield number

    def _last_look(self) -> int | None:
        """Return the last page, where the list may have grown or shrunk since it was read.

        The total tells, but not of as many deletions as there were uploads in one moment: a reading
        that took long enough for that looks again in any case.
        """
        if self._in_flight or not self._readings or self._is_given_up(self.end):
            return None
        ends_before = self.end < self._list.last_page or self.end < self._from_page
        is_long = self._slice_of(self.end) > self._slice_of(self._from_page)
        is_first_look = self._readings.get(self.end, 0) <= 1
        has_changed = self._changed_at > self._read_at.get(self.end, 0)
        has_changed |= is_long and is_first_look and self._noted > self._read_at.get(self.end, 0)
        if ends_before or not has_changed or self._readings.get(self.end, 0) > MAX_LAST_LOOKS:
            return None
        return self.end

    def _slice_of(self, number: int) -> int:
        return (number - 1) // self._pages_per_slice

    def _pages(self, index: int) -> range:
        first = index * self._pages_per_slice + 1
        last = first + self._pages_per_slice - 1
        return range(max(first, self._from_page), min(last, self.end) + 1)

    def _is_full(self, index: int) -> bool:
        return (index + 1) * self._pages_per_slice <= self.end


class _Join(NamedTuple):
    """A page to be read again, and the items one of which it or a page below it must show."""

    number: int
    ids: frozenset[str]


class Joins:
    """Which pages are to be read again. `read` is told of each page, in order."""

    def __init__(self) -> None:
        self._read: set[int] = set()
        # Pages behind the end, as it was when they were read.
        self._empty: set[int] = set()
        # Ids on the pages whose upper neighbour had not been read before them, or was empty.
        self._tops: dict[int, frozenset[str]] = {}
        # Pages that were read before their upper neighbour, and how the two are to be joined.
        self._borders: dict[int, _Join] = {}

    @property
    def wanted(self) -> Iterator[int]:
        """Yield the pages that are to be read again now."""
        return (join.number for join in self._borders.values())

    def read(self, number: int, ids: Collection[str], *, is_empty: bool) -> None:
        """Note that a page was read, and what it showed."""
        (self._empty.add if is_empty else self._empty.discard)(number)
        if number in self._read:
            if not self._joined_by(number):
                self.join_down_from(number)  # The ledger does not say that it was a last look.
            self._join(number, ids)
        elif number - 1 in self._read:
            self._begin(number - 1, number - 1)
        if self._is_top(number) and not is_empty:
            self._tops[number] = frozenset(ids)
        self._read.add(number)

    def join_down_from(self, number: int) -> None:
        """After a last look, go down to an item of the first: what has come since is all met.

        Where the list has shrunk, what lay between pages that are behind its end now may have come
        down, too: to an item of each.
        """
        behind = [top for top in self._tops if top >= number]
        for top in behind or [max(self._tops, default=number)]:
            self._begin(top, number)

    def give_up(self, number: int) -> None:
        """A page cannot be read: what it should have joined stays unproven."""
        for border in self._joined_by(number):
            self._forget(border)

    def _begin(self, border: int, number: int) -> None:
        """Read a page again, and those below it, down to what the border showed when it was read.

        Where that is under way, it goes on from there to the same items: those that the border has
        shown since have come down behind its back.
        """
        ids = self._tops.get(border, frozenset())
        if border in self._borders:
            ids = self._borders[border].ids
        self._borders[border] = _Join(number, ids)

    def _join(self, number: int, ids: Collection[str]) -> None:
        """A page was read again: slices that it joins are joined, else the page below may."""
        for border in self._joined_by(number):
            wanted_ids = self._borders[border].ids
            # Where all below was read again, or not read yet, nothing can lie between.
            if wanted_ids and wanted_ids.isdisjoint(ids) and number - 1 in self._read:
                self._borders[border] = _Join(number - 1, wanted_ids)
            else:
                self._forget(border)

    def _joined_by(self, number: int) -> list[int]:
        return [border for border, join in self._borders.items() if join.number == number]

    def _forget(self, border: int) -> None:
        self._borders.pop(border)
        if not self._is_top(border):
            self._tops.pop(border, None)

    def _is_top(self, number: int) -> bool:
        return number + 1 not in self._read or number + 1 in self._empty
