"""Read a search from its newest item down to what is known, and skip what was read in between.

New items join the head of the list and move all others down; a deletion moves what is behind it up,
across page borders. So the total that a page announces must not be less than that of the page
before it: where it is, the page before is read again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from collector.core.paging import CoveredPage, PageRead

# A list that shrinks under every reading would keep us for ever: the next run goes on.
MOST_SLIPS = 5

# The ids of a part of the list that was read without a hole, from its head down, each once.
Stretch = Sequence[str]


def stretches(pages: Iterable[CoveredPage]) -> Iterator[Stretch]:
    """Yield the parts of a list that the pages of a run, in their order, cover without a hole.

    Only full pages that were read downwards, while the total did not shrink, are sure to have none:
    read upwards, a new item may have pushed another one down unseen.
    """
    part: list[CoveredPage] = []
    for page in pages:
        follows = part and page.number == part[-1].number + 1 and page.total >= part[-1].total
        if part and (page.is_short or not follows):
            yield from _ids_of(part)
            part = []
        if not page.is_short:
            part.append(page)
    yield from _ids_of(part)


def _ids_of(part: Iterable[CoveredPage]) -> Iterator[Stretch]:
    ids = list(dict.fromkeys(wallhaven_id for page in part for wallhaven_id in page.ids))
    if ids:
        yield ids


def joined(parts: Iterable[Stretch]) -> list[Stretch]:
    """Return the stretches with those in one that overlap, so that one leap passes them all."""
    found: list[Stretch] = []
    for part in parts:
        grown = part
        while (other := next((o for o in found if not set(o).isdisjoint(grown)), None)) is not None:
            found.remove(other)
            grown = _join(grown, other)
        found.append(grown)
    return found


def _join(one: Stretch, other: Stretch) -> Stretch:
    """Return both as one. Of what only one of them has, the longer part reaches further."""
    shared = [wallhaven_id for wallhaven_id in one if wallhaven_id in set(other)]
    (head, middle, tail), (other_head, other_middle, other_tail) = (
        _cut(part, shared[0], shared[-1]) for part in (one, other)
    )
    heads = sorted((head, other_head), key=len, reverse=True)
    tails = sorted((tail, other_tail), key=len)
    return list(dict.fromkeys(chain(*heads, middle[:-1], other_middle, *tails)))


def _cut(part: Stretch, first: str, last: str) -> tuple[Stretch, Stretch, Stretch]:
    begin, end = part.index(first), part.index(last) + 1
    return part[:begin], part[begin:end], part[end:]


class _Leap(NamedTuple):
    """On the way to the end of a stretch: a page inside it, and one behind it where one was met."""

    stretch: Stretch
    inside: int
    behind: int | None = None


class Descent:
    """Hand out one page at a time, until one of the `watermark`, or the end.

    `watermark` holds the newest ids of the last reading without a hole: all that lies behind one of
    them was read then. `above` are the stretches that were read since by runs that did not come
    down to it: between them lie gaps. What is in a stretch is skipped; to find its end again, a
    page of it is read. At most `max_pages` pages are read, `covered` ones included, which this run
    has read before.
    """

    def __init__(
        self,
        covered: Iterable[CoveredPage],
        *,
        max_pages: int,
        watermark: Collection[str],
        above: Iterable[Stretch] = (),
    ) -> None:
        self._max_pages = max_pages
        self._watermark = frozenset(watermark)
        self._above = joined(above)
        self._newest_ids: list[str] = []
        self._readings: dict[int, int] = {}
        self._pages_read = 0
        self._last: CoveredPage | None = None
        self._next: int | None = 1
        self._slips = 0
        # One of these must be met before we go on down.
        self._anchor: frozenset[str] | None = None
        self._leap: _Leap | None = None
        self._is_down = False
        self._may_have_hole = False
        for page in covered:
            self.note(page)

    def take(self) -> PageRead | None:
        """Return the next page to read, None where there is none now; `note` may change that."""
        if self._next is None or self._pages_read >= self._max_pages:
            return None
        number, self._next = self._next, None
        return PageRead(number, self._readings.get(number, 0) + 1)

    def note(self, page: CoveredPage) -> None:
        """A page is staged; what it says of the end is the newest word."""
        if self._last is None:
            self._newest_ids = page.ids
        self._pages_read += 1
        self._may_have_hole |= page.is_short
        self._readings[page.number] = page.reading
        self._next = self._after(page)
        self._last = page

    @property
    def end(self) -> int:
        """The last page that may be wanted, as far as is known."""
        return max(1, min(self._last.last_page if self._last else 1, self._max_pages))

    @property
    def lowest_page(self) -> int:
        """The last page that was read."""
        return self._last.number if self._last else 0

    @property
    def is_whole(self) -> bool:
        """True where the reading has come down to what is known, or the end, without a hole."""
        return self._is_down and not self._may_have_hole

    @property
    def new_watermark(self) -> list[str] | None:
        """Return the first page's ids where, the reading done, no hole is left; else None."""
        return self._newest_ids if self._newest_ids and self.is_whole else None

    def _after(self, page: CoveredPage) -> int | None:
        ids = frozenset(page.ids)
        if self._leap is not None and (number := self._land(self._leap, page.number, ids)):
            return number
        if self._has_slipped(page, ids):
            return page.number - 1
        self._is_down = not self._watermark.isdisjoint(ids) or page.number >= page.last_page
        return None if self._is_down else self._below(page, ids)

    def _land(self, leap: _Leap, number: int, ids: frozenset[str]) -> int | None:
        """Return which page to look at for the end of a stretch, None where this page holds it."""
        if ids.isdisjoint(leap.stretch):
            leap = leap._replace(behind=number)
        else:
            leap = leap._replace(inside=number)
        self._leap = None
        if leap.behind is None:
            return None
        # It has lost items: where its end is now cannot be reckoned, so there is no second leap.
        self._above = [other for other in self._above if other is not leap.stretch]
        if leap.behind - leap.inside > 1:
            self._leap = leap
            return (leap.inside + leap.behind) // 2
        if leap.inside == number:
            return None
        self._anchor = frozenset(leap.stretch)
        return leap.inside

    def _has_slipped(self, page: CoveredPage, ids: frozenset[str]) -> bool:
        """Say whether items may have moved up behind our back, onto a page that was read."""
        if self._anchor is not None:
            if page.number > 1 and self._anchor.isdisjoint(ids):
                return True
            self._anchor = None
            return False
        last = self._last
        if last is None or page.number != last.number + 1 or page.total >= last.total:
            return False
        self._slips += 1
        if self._slips > MOST_SLIPS:
            self._may_have_hole = True
            return False
        self._anchor = frozenset(last.ids)
        return True

    def _below(self, page: CoveredPage, ids: frozenset[str]) -> int:
        """Return the next page: that behind this one, or at the end of a stretch that it is in."""
        target = page.number + 1
        for stretch in self._above:
            end = _end_of(stretch, page) if not ids.isdisjoint(stretch) else 0
            if end > page.number and end >= target:
                target, self._leap = min(end, page.last_page), _Leap(stretch, page.number)
        return target


def _end_of(stretch: Stretch, page: CoveredPage) -> int:
    """Return the page on which the stretch ends, reckoned from its last item on this page."""
    ranks = {wallhaven_id: rank for rank, wallhaven_id in enumerate(stretch)}
    place, rank = max(
        ((place, ranks[found]) for place, found in enumerate(page.ids) if found in ranks),
        key=itemgetter(1),
    )
    items_further = place + len(stretch) - 1 - rank
    return page.number + items_further // max(1, page.per_page or page.items)
