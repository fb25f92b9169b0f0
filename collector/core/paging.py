"""Pages that are read, and which one to read next: the first so many, whatever is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol


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


class PageRead(NamedTuple):
    """A page to read: `reading` 1 is its first time in this run."""

    number: int
    reading: int = 1


class Pages(Protocol):
    """Which pages a reading wants, one after the other, as far as is known."""

    def take(self) -> PageRead | None:
        """Return the next page to read, None where there is none now; `note` may change that."""

    def note(self, page: CoveredPage) -> None:
        """A page is staged; what it says of the end is the newest word."""

    @property
    def end(self) -> int:
        """The last page that may be wanted, as far as is known."""


class Sweep:
    """Hand out page numbers in order, each once, to `max_pages` or the end: several at a time.

    Pages of `covered` are not handed out again. Page 1 comes alone: it tells how many there are.
    `watermark` holds the newest ids of the last reading without a hole, empty where there was none
    or where the search is not listed newest first.
    """

    def __init__(
        self, covered: Iterable[CoveredPage], *, max_pages: int, watermark: Collection[str] = ()
    ) -> None:
        self._max_pages = max_pages
        self._watermark = frozenset(watermark)
        self._covered: dict[int, CoveredPage] = {}
        self._next = 1
        self._last_page = 1
        self._totals: set[int] = set()
        self._met_watermark = False
        for page in covered:
            self.note(page)

    def note(self, page: CoveredPage) -> None:
        """A page is staged; what it says of the end is the newest word."""
        self._covered[page.number] = page
        self._last_page = page.last_page
        self._totals.add(page.total)
        self._met_watermark |= not self._watermark.isdisjoint(page.ids)

    def take(self) -> PageRead | None:
        """Return the next page to read, None where no further one is wanted now."""
        while self._next in self._covered:
            self._next += 1
        if self._next > self.end:
            return None
        self._next += 1
        return PageRead(self._next - 1)

    @property
    def end(self) -> int:
        """The last page that may be wanted, as far as is known."""
        return max(1, min(self._last_page, self._max_pages))

    @property
    def new_watermark(self) -> list[str] | None:
        """Return the first page's ids where, the reading done, no hole is left; else None.

        None is left where the reading met the watermark or the end of the search, or was the
        first one. There may be one where `total` changed meanwhile: several pages were under way at
        once, so nobody knows what had moved across a border when; and where a page came short.
        """
        reached_end = self._max_pages >= self._last_page
        whole = self._met_watermark or reached_end or not self._watermark
        stood_still = len(self._totals) == 1
        first = self._covered.get(1)
        if first is None or not first.ids or not whole or not stood_still:
            return None
        return None if any(page.is_short for page in self._covered.values()) else first.ids
