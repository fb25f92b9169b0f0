"""Pages that are read, and which one to read next: the first so many, whatever is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol


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
        self._total: int | None = None
        self._has_shrunk = False
        self._met_watermark = False
        for page in covered:
            self.note(page)

    def note(self, page: CoveredPage) -> None:
        """A page is staged; what it says of the end is the newest word."""
        self._covered[page.number] = page
        self._last_page = page.last_page
        self._has_shrunk |= self._total is not None and page.total < self._total
        self._total = page.total
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
        first one. It may be where `total` shrank meanwhile: what was deleted moved others up,
        across a border that had been read.
        """
        reached_end = self._max_pages >= self._last_page
        whole = self._met_watermark or reached_end or not self._watermark
        first = self._covered.get(1)
        return first.ids if first and first.ids and whole and not self._has_shrunk else None
