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

    `contiguous` says whether earlier readings of this search left no hole, None where there was
    none; only then may a page with nothing new end the reading, and never with `refresh`. Pages
    of `covered` are not handed out again. Page 1 comes alone: it tells how many there are.
    """

    def __init__(
        self,
        covered: Iterable[CoveredPage],
        *,
        max_pages: int,
        contiguous: bool | None,
        refresh: bool,
    ) -> None:
        self._max_pages = max_pages
        self._contiguous = contiguous
        self._may_stop = bool(contiguous) and not refresh
        self._covered: dict[int, CoveredPage] = {}
        self._next = 1
        self._end = 1
        self._last_page = 0
        for page in covered:
            self.note(page)

    def note(self, page: CoveredPage) -> None:
        """A page is staged; what it says of the end is the newest word."""
        self._covered[page.number] = page
        self._last_page = page.last_page
        self._end = max(1, min(page.last_page, self._max_pages))

    def take(self) -> int | None:
        """Return the next page to read, None where no further one is wanted now."""
        while self._next in self._covered:
            self._next += 1
        if self._next > self._end or (self._may_stop and self._met_known()):
            return None
        self._next += 1
        return self._next - 1

    @property
    def end(self) -> int:
        """The last page that may be wanted, as far as is known."""
        return self._end

    @property
    def is_familiar(self) -> bool:
        """True where the reading may stop soon, so that reading ahead would waste calls."""
        return self._may_stop and any(page.known for page in self._covered.values())

    @property
    def leaves_no_hole(self) -> bool:
        """True where, the reading done, everything known lies side by side.

        It met what an earlier reading without holes had left, or the end of the search, or it
        was the first one.
        """
        reached_end = self._max_pages >= self._last_page
        met_known = bool(self._contiguous) and self._met_known()
        return reached_end or met_known or self._contiguous is None

    def _met_known(self) -> bool:
        return any(page.nothing_new for page in self._covered.values())
