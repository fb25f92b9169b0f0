"""Join neighbours of a list that were read in the wrong order, so that no hole lies between.

Items of a list that is read oldest first move up, across page borders, and never down. Where a page
was read before its upper neighbour, items may have moved between the two unseen. So it is read
again afterwards, and those below it, until one shows an item of its first reading: all that lies
behind that item was read since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple


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
