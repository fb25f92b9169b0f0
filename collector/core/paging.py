"""Which page to read next: newest first, until what is known, or the end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CoveredPage:
    """A page that is staged, with what decides whether to read on.

    `known` items were rows before; `invalid` ones cannot become rows.
    """

    number: int
    items: int
    invalid: int
    known: int
    last_page: int

    @property
    def nothing_new(self) -> bool:
        """True where every item that can be a row was one before."""
        return 0 < self.known == self.items - self.invalid


class Frontier:
    """Hand out page numbers in order, each once, as far as there is reason to read.

    `may_stop` says whether a page with nothing new ends the reading. Pages of `covered` are not
    handed out again. Page 1 comes alone: it tells how many there are.
    """

    def __init__(self, covered: Iterable[CoveredPage], *, max_pages: int, may_stop: bool) -> None:
        self._max_pages = max_pages
        self._may_stop = may_stop
        self._covered: dict[int, CoveredPage] = {}
        self._next = 1
        self._end = 1
        for page in covered:
            self.note(page)

    def note(self, page: CoveredPage) -> None:
        """A page is staged; what it says of the end is the newest word."""
        self._covered[page.number] = page
        self._end = max(1, min(page.last_page, self._max_pages))

    def take(self) -> int | None:
        """Return the next page to read, None where no further one is wanted now."""
        while self._next in self._covered:
            self._next += 1
        if self._next > self._end or (self._may_stop and self._has_stop()):
            return None
        self._next += 1
        return self._next - 1

    @property
    def is_familiar(self) -> bool:
        """True where the reading may stop soon, so that reading ahead would waste calls."""
        return self._may_stop and any(page.known for page in self._covered.values())

    @property
    def reached_end(self) -> bool:
        """True where the reading ended at the known or at the last page, not at `max_pages`."""
        last_page = max((page.last_page for page in self._covered.values()), default=0)
        return self._max_pages >= last_page or self._ended_at_known()

    @property
    def found_known(self) -> bool:
        """True where any item of any page was a row before."""
        return any(page.known for page in self._covered.values())

    def _ended_at_known(self) -> bool:
        # Known pages with new ones behind them are what an interrupted reading leaves.
        return self._has_stop() if self._may_stop else self._covered[max(self._covered)].nothing_new

    def _has_stop(self) -> bool:
        return any(page.nothing_new for page in self._covered.values())
