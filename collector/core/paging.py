"""Records of pages, where a list ends, and a reading of its first pages in order."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

# How far to follow a last_page that neither the total nor a page with items confirms: this many
# empty pages in a row end a list, whatever it announces.
PAGES_IN_DOUBT = 2
# A few pages may be unreadable. After this many without a readable page further down the list, the
# other pages are not requested.
MAX_UNREADABLE_PAGES = 10


def lacks_items(number: int, items: int, last_page: int, total: int, per_page: int) -> bool:
    """Return whether a page has fewer items than its answer announces.

    Totals are not exact, so the last page is only short if it is empty.
    """
    return items < per_page if number < last_page else not items and (number - 1) * per_page < total


@dataclass(frozen=True, slots=True)
class CoveredPage:
    """A staged page: what it contained, and what it said about the end of the list.

    `known` items were rows before, from any search; `invalid` ones cannot become rows; `ids` are
    those of all others. `reading` counts from 1 how often the run has read the page.
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
        """Whether the page has fewer items than it should (see `lacks_items`)."""
        return lacks_items(self.number, self.items, self.last_page, self.total, self.per_page or 0)


@dataclass(frozen=True, slots=True)
class UnreadablePage:
    """A page that could not be read, although it should exist and another page could be read.

    `last_page` and `total` come from that other page, right after the failure. `problem` is one
    line without secrets.
    """

    number: int
    search_key: str
    last_page: int
    total: int
    problem: str


LedgerPage = CoveredPage | UnreadablePage


class PageRead(NamedTuple):
    """A page to read; `reading` is 1 if the run has not read it before."""

    number: int
    reading: int = 1


class Pages(Protocol):
    """Decides which pages a reading wants, one after the other."""

    def take(self) -> PageRead | None:
        """Return the next page to read, None if there is none now; `note` may change that."""

    def note(self, page: LedgerPage) -> None:
        """Note a staged or unreadable page; what it says about the list's end is the latest news.

        Pages must be noted in the order in which they came.
        """

    @property
    def end(self) -> int:
        """The last page that may be wanted, as far as is known."""


class ListEnd:
    """Estimates where a list ends from what its pages announce and contain."""

    def __init__(self, last_page: int) -> None:
        self._last_page = last_page
        self._counted: int | None = None
        self._per_page: int | None = None
        # Pages that were empty although their answer announced items: so far, and for good.
        self._doubted: set[int] = set()
        self._empty: set[int] = set()
        self.highest_with_items = 0

    def note_totals(self, page: LedgerPage) -> None:
        """Note what the latest answer says about the end."""
        if isinstance(page, CoveredPage):
            self._per_page = page.per_page
        self._last_page = page.last_page
        self._counted = -(-page.total // self._per_page) if self._per_page else None

    def note_items(self, page: CoveredPage, *, is_final: bool = True) -> None:
        """Note whether a page has items; `is_final`: it will not be read again."""
        self._doubted.discard(page.number)
        self._empty.discard(page.number)
        if page.items:
            self.highest_with_items = max(self.highest_with_items, page.number)
        elif page.number <= page.last_page:
            (self._empty if is_final else self._doubted).add(page.number)

    def is_past_end(self, number: int) -> bool:
        """Return whether the latest total leaves no items for this page."""
        return self._counted is not None and number > self._counted

    @property
    def last_page(self) -> int:
        """The last page to read: it may have items, or show whether a later one may."""
        last = self._last_page
        if self._counted is not None:
            last = min(last, max(self._counted, self.highest_with_items) + PAGES_IN_DOUBT)
        doubted, empty = (self._lowest(pages) for pages in (self._doubted, self._empty))
        if doubted is not None:
            last = min(last, doubted)
        if empty is not None:
            last = min(last, empty - 1 if self.is_contradicted else empty + 1)
        return last

    @property
    def is_contradicted(self) -> bool:
        """Whether PAGES_IN_DOUBT empty pages in a row, without items after them, deny last_page."""
        lowest = self._lowest(self._empty)
        return lowest is not None and lowest + 1 in self._empty

    def _lowest(self, pages: set[int]) -> int | None:
        return min((n for n in pages if n > self.highest_with_items), default=None)


class Sweep:
    """Hands out page numbers in order, each once, up to `max_pages` or the end, several at a time.

    It does not hand out `covered` pages again, except unreadable ones. Page 1 is read alone: it
    says how many there are. `watermark` holds the newest ids of the last reading without a gap;
    empty if there was none, or if the search is not listed newest first.
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
        self._list.note_totals(page)
        self._totals.append(page.total)
        if isinstance(page, UnreadablePage):
            self._unreadable.add(page.number)
            return
        self._list.note_items(page)
        self._covered[page.number] = page
        self._met_watermark |= not self._watermark.isdisjoint(page.ids)

    def take(self) -> PageRead | None:
        while self._next in self._covered:
            self._next += 1
        if self._next > self.end or len(self._unreadable) >= MAX_UNREADABLE_PAGES:
            return None
        self._next += 1
        return PageRead(self._next - 1)

    @property
    def end(self) -> int:
        return max(1, min(self._list.last_page, self._max_pages))

    @property
    def is_empty(self) -> bool:
        return self._totals[-1:] == [0]

    @property
    def new_watermark(self) -> list[str] | None:
        """Return the first page's ids if the finished reading left no gap, else None.

        There is no gap if the reading met the watermark or the end of the search, or was the first
        one. There may be one if a page was short or unreadable, or if the total changed: several
        pages were in flight at once, so items may have crossed a border unseen.
        """
        reached_end = self._max_pages >= self._list.last_page
        is_whole = self._met_watermark or reached_end or not self._watermark
        has_changed = len(set(self._totals)) != 1
        is_short = any(page.is_short for page in self._covered.values())
        first = self._covered.get(1)
        if first is None or not is_whole or has_changed or is_short or self._unreadable:
            return None
        return first.ids or None
