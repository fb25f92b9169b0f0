"""Read a whole list while it changes, so that no item that stays listed is missed.

The list is read oldest first. New items join its end; a deletion moves all later items to lower
places, across page borders. A reader of page 7 and then page 8 misses items that moved from 8 to 7
in between; a reader of 8 and then 7 sees them twice at worst. So each batch of pages is read from
its highest page down. If it was read before the batch above it, its highest page is read again
afterwards, then the pages below it, until one shows an item that the highest page showed at first:
then the two batches are joined without a gap.

An unreadable page does not delay the others: it is retried after them, and given up in the end.
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

# Joining two batches costs one call, 4 % of a batch. With longer batches, several concurrent
# readers would be further from "oldest first".
PAGES_PER_BATCH = 25
# A page that is short or unreadable this often stays so: the certificate says so.
MAX_READINGS = 3
# A list that still grows after this many last looks would never end.
MAX_LAST_LOOKS = 5


class Crawl:
    """Hands out the pages of a list in an order that proves the reading complete.

    `covered` are the pages in the ledger, in its order. `to_page` None means to the end, wherever
    that is by then. The first page is read alone: it says how many there are.
    """

    def __init__(
        self,
        covered: Iterable[LedgerPage],
        *,
        from_page: int = 1,
        to_page: int | None = None,
        pages_per_batch: int = PAGES_PER_BATCH,
    ) -> None:
        self._from_page = from_page
        self._to_page = to_page
        self._pages_per_batch = pages_per_batch
        self._in_flight: set[int] = set()
        # By page: how often it was staged and read in full, and how often in a row it was short
        # and unreadable.
        self._staged: dict[int, int] = {}
        self._readings: dict[int, int] = {}
        self._short: dict[int, int] = {}
        self._failures: dict[int, int] = {}
        self._joins = Joins()
        self._first_open_batch = self._batch_of(from_page)
        self._list = ListEnd(from_page)
        self._total: int | None = None
        # When the total changed last, and when each page was read: as the count of noted pages.
        self._changed_at = 0
        self._read_at: dict[int, int] = {}
        self._noted = 0
        for page in covered:
            self.note(page)

    def take(self) -> PageRead | None:
        """Return the next page to read, None if there is none now; `note` may change that.

        Neighbours are never in flight at once: the order of their answers would not be known.
        """
        number = self._next()
        if number is None and (number := self._last_look()) is not None:
            self._joins.join_down_from(number)
        if number is None:
            return None
        self._in_flight.add(number)
        return PageRead(number, self._staged.get(number, 0) + 1)

    def note(self, page: LedgerPage) -> None:
        """Note a staged or unreadable page; what it says about the list's end is the latest news.

        A short page counts as unread: the missing items may be those that have moved there. It is
        read again before the pages below it, until it is full or was short MAX_READINGS times. An
        unreadable page is retried when no other is left, up to MAX_READINGS attempts.
        """
        number = page.number
        self._in_flight.discard(number)
        self._noted += 1
        if self._total not in (None, page.total):
            self._changed_at = self._noted
        self._total = page.total
        self._list.note_totals(page)
        if isinstance(page, UnreadablePage):
            self._fail(number)
            return
        self._failures.pop(number, None)
        self._staged[number] = page.reading
        self._short[number] = self._short.get(number, 0) + 1 if page.is_short else 0
        # If the total leaves no items for the page either, another reading would not help.
        is_past_end = not page.items and self._list.is_past_end(number)
        is_read = not page.is_short or is_past_end or self._short[number] >= MAX_READINGS
        self._list.note_items(page, is_final=is_read)
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
        """The last wanted page, as far as is known."""
        last = self._list.last_page
        further = [number for number in self._failures if number > self._list.highest_with_items]
        if len(further) >= MAX_UNREADABLE_PAGES:
            last = min(last, *further)
        return last if self._to_page is None else min(self._to_page, last)

    @property
    def is_empty(self) -> bool:
        return self._total == 0

    @property
    def unreadable_pages(self) -> list[int]:
        """The pages that could not be read, unless the list has become too short for them."""
        return sorted(number for number in self._failures if number <= self._list.last_page)

    @property
    def is_done(self) -> bool:
        """Whether every page is read or given up, all are joined, and none is in flight."""
        return not self._in_flight and self._next() is None and self._last_look() is None

    def _next(self) -> int | None:
        if self._total is None:
            return None if self._in_flight else self._from_page
        steps = (self._joins.wanted, self._next_of_batches(), self._more_attempts())
        free = (number for step in steps for number in step if self._is_free(number))
        return next(free, None)

    def _is_free(self, number: int) -> bool:
        return self._in_flight.isdisjoint((number - 1, number, number + 1))

    def _next_of_batches(self) -> Iterator[int]:
        """Yield the highest unread page of each batch that has none in flight."""
        busy = {self._batch_of(number) for number in self._in_flight}
        for index in range(self._first_open_batch, self._batch_of(self.end) + 1):
            pages = self._pages(index)
            unread = [n for n in pages if n not in self._readings and n not in self._failures]
            if unread and index not in busy:
                yield self._highest_or_middle(unread)
            elif not unread and index == self._first_open_batch and self._is_full(index):
                self._first_open_batch += 1

    def _highest_or_middle(self, unread: list[int]) -> int:
        """Return the highest page; search the list's end by halves if last_page proved wrong."""
        further = [number for number in unread if number > self._list.highest_with_items]
        return further[len(further) // 2] if further and self._list.is_contradicted else unread[-1]

    def _more_attempts(self) -> Iterator[int]:
        """Yield the pages that were never read and are not given up."""
        for number in sorted(self._failures):
            is_read = number in self._readings
            is_wanted = self._from_page <= number <= self.end
            if is_wanted and not is_read and not self._is_given_up(number):
                yield number

    def _last_look(self) -> int | None:
        """Return the last page if the list may have grown or shrunk since it was read, else None.

        A changed total shows that, but not if uploads and deletions are equal in number: a reading
        that took long enough for that looks again in any case.
        """
        if self._in_flight or not self._readings or self._is_given_up(self.end):
            return None
        ends_before = self.end < self._list.last_page or self.end < self._from_page
        is_long = self._batch_of(self.end) > self._batch_of(self._from_page)
        is_first_look = self._readings.get(self.end, 0) <= 1
        has_changed = self._changed_at > self._read_at.get(self.end, 0)
        has_changed |= is_long and is_first_look and self._noted > self._read_at.get(self.end, 0)
        if ends_before or not has_changed or self._readings.get(self.end, 0) > MAX_LAST_LOOKS:
            return None
        return self.end

    def _batch_of(self, number: int) -> int:
        return (number - 1) // self._pages_per_batch

    def _pages(self, index: int) -> range:
        first = index * self._pages_per_batch + 1
        last = first + self._pages_per_batch - 1
        return range(max(first, self._from_page), min(last, self.end) + 1)

    def _is_full(self, index: int) -> bool:
        return (index + 1) * self._pages_per_batch <= self.end


class _Join(NamedTuple):
    """A page to read again, and the items of which it or a page below it must show one."""

    number: int
    ids: frozenset[str]


class Joins:
    """Decides which pages to read again. `read` must be called for each page, in order."""

    def __init__(self) -> None:
        self._read: set[int] = set()
        # Pages that were past the end of the list when they were read.
        self._empty: set[int] = set()
        # Ids on the pages whose upper neighbour had not been read before them, or was empty.
        self._tops: dict[int, frozenset[str]] = {}
        # Pages that were read before their upper neighbour, and how to join the two.
        self._borders: dict[int, _Join] = {}

    @property
    def wanted(self) -> Iterator[int]:
        return (join.number for join in self._borders.values())

    def read(self, number: int, ids: Collection[str], *, is_empty: bool) -> None:
        (self._empty.add if is_empty else self._empty.discard)(number)
        if number in self._read:
            if not self._joined_by(number):
                self.join_down_from(number)  # A last look: the ledger does not mark them.
            self._join(number, ids)
        elif number - 1 in self._read:
            self._begin(number - 1, number - 1)
        if self._is_top(number) and not is_empty:
            self._tops[number] = frozenset(ids)
        self._read.add(number)

    def join_down_from(self, number: int) -> None:
        """Read down from a last look to an item of the first reading: then all new items are seen.

        If the list has shrunk, items between pages that are now past its end may have moved down
        too: then down to an item of each of these pages.
        """
        past_end = [top for top in self._tops if top >= number]
        for top in past_end or [max(self._tops, default=number)]:
            self._begin(top, number)

    def give_up(self, number: int) -> None:
        """Note that a page cannot be read: the borders that it should have joined stay unproven."""
        for border in self._joined_by(number):
            self._forget(border)

    def _begin(self, border: int, number: int) -> None:
        """Read pages again from `number` down, until one shows an item that the border showed.

        A join that has begun keeps its items: those that the border shows now have moved there
        since.
        """
        ids = self._tops.get(border, frozenset())
        if border in self._borders:
            ids = self._borders[border].ids
        self._borders[border] = _Join(number, ids)

    def _join(self, number: int, ids: Collection[str]) -> None:
        """Close the joins that this page completes; the others go on with the page below."""
        for border in self._joined_by(number):
            wanted_ids = self._borders[border].ids
            # If the page below was not read before, or is not wanted, no item can be in between.
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
