"""Join overlapping parts of a list, in near-linear time however many parts share an id.

Each part is a chain of neighbours. The new ids of a part that overlaps a chain are inserted between
the ids that both have; a part that overlaps several chains joins them into one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

# The ids of a part of the list that was read without a gap, from the top down, each once.
Stretch = Sequence[str]


def joined(parts: Iterable[Stretch]) -> list[Stretch]:
    """Return the parts, overlapping ones joined, so that no id is in two of them."""
    chains = _Chains()
    for part in parts:
        chains.merge(list(dict.fromkeys(part)))
    return list(chains.read())


class _Chains:
    def __init__(self) -> None:
        self._above: dict[str, str | None] = {}
        self._below: dict[str, str | None] = {}
        # A union-find forest: each id points towards the root of its chain, which points to itself.
        self._parent: dict[str, str] = {}
        # The first and the last id of each chain, by its root.
        self._ends: dict[str, tuple[str, str]] = {}

    def merge(self, part: list[str]) -> None:
        new: list[str] = []
        met: str | None = None
        for item in part:
            if item not in self._below:
                new.append(item)
                continue
            if met is None:
                self._add_head(new, item)
            else:
                self._insert(met, new, self._below[met])
                self._unite(met, item)
            new, met = [], item
        if met is not None:
            self._add_tail(met, new)
        elif new:
            self._ends[new[0]] = new[0], new[-1]
            self._parent[new[0]] = new[0]
            self._link(None, new, None)

    def read(self) -> Iterator[Stretch]:
        for first, _ in self._ends.values():
            chain: list[str] = []
            item: str | None = first
            while item is not None:
                chain.append(item)
                item = self._below[item]
            yield chain

    def _add_head(self, new: list[str], item: str) -> None:
        """Put new ids above one of a chain: above its first id if they reach further up."""
        is_longer = self._is_longer(new, item, self._above)
        below = self._ends[self._root_of(item)][0] if is_longer else item
        self._insert(self._above[below], new, below)

    def _add_tail(self, item: str, new: list[str]) -> None:
        """Put new ids below one of a chain: below its last id if they reach further down."""
        is_longer = self._is_longer(new, item, self._below)
        above = self._ends[self._root_of(item)][1] if is_longer else item
        self._insert(above, new, self._below[above])

    @staticmethod
    def _is_longer(new: list[str], item: str, step: dict[str, str | None]) -> bool:
        """Return whether there are more new ids than the chain has in this direction."""
        for _ in new:
            if (further := step[item]) is None:
                return True
            item = further
        return False

    def _insert(self, above: str | None, new: list[str], below: str | None) -> None:
        """Put new ids between two neighbours of a chain, or at its end if one of them is None."""
        neighbour = above if above is not None else below
        if not new or neighbour is None:
            return
        root = self._root_of(neighbour)
        first, last = self._ends[root]
        self._ends[root] = new[0] if above is None else first, new[-1] if below is None else last
        self._parent[new[0]] = root
        self._link(above, new, below)

    def _link(self, above: str | None, new: list[str], below: str | None) -> None:
        for upper, lower in pairwise((above, *new, below)):
            if upper is not None:
                self._below[upper] = lower
            if lower is not None:
                self._above[lower] = upper
        self._parent.update(dict.fromkeys(new, self._parent[new[0]]))

    def _unite(self, upper: str, lower: str) -> None:
        """Append the chain of the lower id to that of the upper one, unless they are the same."""
        root, other = self._root_of(upper), self._root_of(lower)
        if root == other:
            return
        (first, above), (below, last) = self._ends[root], self._ends.pop(other)
        self._below[above], self._above[below] = below, above
        self._ends[root] = first, last
        self._parent[other] = root

    def _root_of(self, item: str) -> str:
        while (parent := self._parent[item]) != item:
            # Path halving keeps later look-ups short.
            self._parent[item] = item = self._parent[parent]
        return item
