"""Join parts of a list that overlap: each id is looked at a few times, however many parts share it.

The parts are chains of neighbours. A part that shares ids with a chain is woven into it between the
ids that they share; one that shares ids with several chains makes them one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

# The ids of a part of the list that was read without a hole, from its head down, each once.
Stretch = Sequence[str]


def joined(parts: Iterable[Stretch]) -> list[Stretch]:
    """Return the parts with those in one that overlap, so that no id is in two."""
    chains = _Chains()
    for part in parts:
        chains.weave(list(dict.fromkeys(part)))
    return list(chains.read())


class _Chains:
    def __init__(self) -> None:
        self._above: dict[str, str | None] = {}
        self._below: dict[str, str | None] = {}
        # To the chain of an id: from id to id, until one leads to itself, which names the chain.
        self._leads_to: dict[str, str] = {}
        # The first and the last id of each chain, by its name.
        self._ends: dict[str, tuple[str, str]] = {}

    def weave(self, part: list[str]) -> None:
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
            self._begin(new)

    def read(self) -> Iterator[Stretch]:
        for first, _ in self._ends.values():
            chain: list[str] = []
            item: str | None = first
            while item is not None:
                chain.append(item)
                item = self._below[item]
            yield chain

    def _begin(self, new: list[str]) -> None:
        self._ends[new[0]] = new[0], new[-1]
        self._leads_to[new[0]] = new[0]
        self._link(None, new, None)

    def _add_head(self, new: list[str], item: str) -> None:
        """Put new ids above one that the chain has. The longer head reaches further up."""
        is_longer = self._is_longer(new, item, self._above)
        below = self._ends[self._chain_of(item)][0] if is_longer else item
        self._insert(self._above[below], new, below)

    def _add_tail(self, item: str, new: list[str]) -> None:
        """Put new ids below one that the chain has. The longer tail reaches further down."""
        is_longer = self._is_longer(new, item, self._below)
        above = self._ends[self._chain_of(item)][1] if is_longer else item
        self._insert(above, new, self._below[above])

    @staticmethod
    def _is_longer(new: list[str], item: str, step: dict[str, str | None]) -> bool:
        """Say whether there are more new ids than the chain has on that side of the id."""
        for _ in new:
            if (further := step[item]) is None:
                return True
            item = further
        return False

    def _insert(self, above: str | None, new: list[str], below: str | None) -> None:
        """Put new ids between neighbours of a chain, one of which may be none."""
        neighbour = above if above is not None else below
        if not new or neighbour is None:
            return
        name = self._chain_of(neighbour)
        first, last = self._ends[name]
        self._ends[name] = new[0] if above is None else first, new[-1] if below is None else last
        self._leads_to[new[0]] = name
        self._link(above, new, below)

    def _link(self, above: str | None, new: list[str], below: str | None) -> None:
        for upper, lower in pairwise((above, *new, below)):
            if upper is not None:
                self._below[upper] = lower
            if lower is not None:
                self._above[lower] = upper
        name = self._leads_to[new[0]]
        self._leads_to.update(dict.fromkeys(new, name))

    def _unite(self, upper: str, lower: str) -> None:
        """Make one chain of the two that these ids are in, if they are two."""
        name, other = self._chain_of(upper), self._chain_of(lower)
        if name == other:
            return
        (first, above), (below, last) = self._ends[name], self._ends.pop(other)
        self._below[above], self._above[below] = below, above
        self._ends[name] = first, last
        self._leads_to[other] = name

    def _chain_of(self, item: str) -> str:
        while (further := self._leads_to[item]) != item:
            # Halved, so that the next one who asks is there sooner.
            self._leads_to[item] = item = self._leads_to[further]
        return item
