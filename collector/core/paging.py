"""Pages that are read, and which one to read next: the first so many, whatever is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

# A last_page that neither the total nor a page with items vouches for is followed this far: so many
# empty pages in a row end a list, whatever it says of itself.
PAGES_IN_DOUBT = 2
# A few pages may be unreadable. After so many of which nothing further down the list was read, the
# rest of it is not asked for one by one.
MAX_UNREADABLE_PAGES = 10


def lacks_items(number: int, items: int, last_page: int, total: int, per_page: int) -> bool:
    """Say whether a page shows less than its own answer says that there is.

    Totals are not exact: of the last page only nothing is certainly too little.
    """
    return items < per_page if number < last_page else not items and (number - 1) * per_page < total


@dataclass(frozen=True, slots=True)
class CoveredPage:
    """A page that is staged: what it held, and what it said of the search's end.

    `known` items were rows before, whatever search they came from; `invalid` ones cannot become
    rows. `ids` are those of the items that can. `reading` counts from 1 where a run reads a page
    again.
    """

    number: int
    search_key: str
    items: int
    invalid: int
    known: int
    ids: list[str]
    last_page: int
    total: int
    per_page: int | None = None
    reading: int = 1

    @property
    def is_short(self) -> bool:
        """True where items are missing: the page is empty or not the last one, and not full."""
        return lacks_items(self.number, self.items, self.last_page, self.total, self.per_page or 0)


@dataclass(frozen=True, slots=True)
class UnreadablePage:
    """A page that could not be read, although it should exist and another page could be read.

    `last_page` and `total` are what that other page said, right after the failure. `problem` is one
    line without secrets.
    """

    number: int
    search_key: str
    last_page: int
    total: int
    problem: str


# What the ledger of a run has, in the order in which it came.
LedgerPage = CoveredPage | UnreadablePage


class PageRead(NamedTuple):
    """A page to read: `reading` 1 is its first time in this run."""

    number: int
    reading: int = 1


class Pages(Protocol):
    """Which pages a reading wants, one after the other, as far as is known."""

    def take(self) -> PageRead | None:
        """Return the next page to read, None where there is none now; `note` may change that."""

    def note(self, page: LedgerPage) -> None:
        """A page is staged, or was unreadable; what it says of the end is the newest word."""

    @property
    def end(self) -> int:
        """The last page that may be wanted, as far as is known."""


class ListEnd:
    """Where a list ends, by what its pages say and what they hold."""

    def __init__(self, last_page: int) -> None:
        self._last_page = last_page
        self._counted: int | None = None
        self._per_page: int | None = None
        # Pages that came empty although their own answer promised items: now, and for good.
        self._doubted: set[int] = set()
        self._empty: set[int] = set()
        self.highest_with_items = 0

    def hear(self, page: LedgerPage) -> None:
        """Take what an answer says of the end for the newest word."""
        if isinstance(page, CoveredPage):
            self._per_page = page.per_page
        self._last_page = page.last_page
        self._counted = -(-page.total // self._per_page) if self._per_page else None

    def see(self, page: CoveredPage, *, for_good: bool = True) -> None:
        """Take what a page holds for what it has, `for_good` if it will not be read again."""
        self._doubted.discard(page.number)
        self._empty.discard(page.number)
        if page.items:
            self.highest_with_items = max(self.highest_with_items, page.number)
        elif page.number <= page.last_page:
            (self._empty if for_good else self._doubted).add(page.number)

    def is_behind(self, number: int) -> bool:
        """Say whether the total, as it was heard last, leaves nothing for this page."""
        return self._counted is not None and number > self._counted

    @property
    def last_page(self) -> int:
        """The last page that may have items, or tells whether a further one may."""
        last = self._last_page
        if self._counted is not None:
            last = min(last, max(self._counted, self.highest_with_items) + PAGES_IN_DOUBT)
        doubted, empty = (self._lowest(pages) for pages in (self._doubted, self._empty))
        if doubted is not None:
            last = min(last, doubted)
        if empty is not None:
            last = min(last, empty - 1 if self.is_refuted else empty + 1)
        return last

    @property
    def is_refuted(self) -> bool:
        """True where PAGES_IN_DOUBT empty pages in a row, and no items behind, deny last_page."""
        lowest = self._lowest(self._empty)
        return lowest is not None and lowest + 1 in self._empty

    def _lowest(self, pages: set[int]) -> int | None:
        return min((n for n in pages if n > self.highest_with_items), default=None)


class Sweep:
    """Hand out page numbers in order, each once, to `max_pages` or the end: several at a time.

    Pages of `covered` are not handed out again; unreadable ones are. Page 1 comes alone: it
    tells how many there are. `watermark` holds the newest ids of the last reading without a hole,
    empty where there was none or where the search is not listed newest first.
    """

    def __init__(
        self, covered: Iterable[LedgerPage], *, max_pages: int, watermark: Collection[str] = ()
    ) -> None:
        self._max_pages = max_pages
        self._watermark = frozenset(watermark)
        self._covered: dict[int, CoveredPage] = {}
        self._unreadable: set[int] = set()
        self._next = 1
        self._list = ListEnd(1)
        self._totals: list[int] = []
        self._met_watermark = False
        for page in covered:
            self.note(page)
        self._unreadable.clear()

    def note(self, page: LedgerPage) -> None:
        """A page is staged, or was unreadable; what it says of the end is the newest word."""
        self._list.hear(page)
        self._totals.append(page.total)
        if isinstance(page, UnreadablePage):
            self._unreadable.add(page.number)
            return
        self._list.see(page)
        self._covered[page.number] = page
        self._met_watermark |= not self._watermark.isdisjoint(page.ids)

    def take(self) -> PageRead | None:
        """Return the next page to read, None where no further one is wanted now."""
        while self._next in self._covered:
            self._next += 1
        if self._next > self.end or len(self._unreadable) >= MAX_UNREADABLE_PAGES:
            return None
        self._next += 1
        return PageRead(self._next - 1)

    @property
    def end(self) -> int:
        """The last page that may be wanted, as far as is known."""
        return max(1, min(self._list.last_page, self._max_pages))

    @property
    def is_empty(self) -> bool:
        """True where the search has no items, by the newest word."""
        return self._totals[-1:] == [0]

    @property
    def new_watermark(self) -> list[str] | None:
        """Return the first page's ids where, the reading done, no hole is left; else None.

        None is left where the reading met the watermark or the end of the search, or was the
        first one. There may be one where `total` changed meanwhile: several pages were under way at
        once, so nobody knows what had moved across a border when; where a page came short, and
        where one was unreadable.
        """
        reached_end = self._max_pages >= self._list.last_page
        whole = self._met_watermark or reached_end or not self._watermark
        stood_still = len(set(self._totals)) == 1
        first = self._covered.get(1)
        if first is None or not first.ids or not whole or not stood_still or self._unreadable:
            return None
        return None if any(page.is_short for page in self._covered.values()) else first.ids
