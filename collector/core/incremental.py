"""Read a search from its newest item down to what is known, and skip what was read in between.

New items join the head of the list and move all others down; a deletion moves what is behind it up,
across page borders. So the total that a page announces must not be less than that of the page
before it: where it is, the page before is read again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from collector.core.chains import Stretch, joined
from collector.core.paging import (
    MAX_UNREADABLE_PAGES,
    CoveredPage,
    LedgerPage,
    PageRead,
    UnreadablePage,
)

# A list that shrinks under every reading would keep us for ever: the next run goes on.
MAX_SLIPS = 5


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


class _Stretches:
    """Stretches that do not overlap, by number; each id is found at once."""

    def __init__(self, parts: Iterable[Stretch]) -> None:
        self._stretches = joined(parts)
        self._passed: set[int] = set()
        self._places = {
            wallhaven_id: (number, rank)
            for number, stretch in enumerate(self._stretches)
            for rank, wallhaven_id in enumerate(stretch)
        }

    def pass_by(self, number: int) -> None:
        """Do not leap over this stretch again."""
        self._passed.add(number)

    def ids(self, number: int) -> frozenset[str]:
        """Return the items of a stretch."""
        return frozenset(self._stretches[number])

    def met_on(self, page: CoveredPage) -> dict[int, tuple[int, int]]:
        """Return the stretches that a page has items of: the last one's rank, and place there."""
        met: dict[int, tuple[int, int]] = {}
        for place, wallhaven_id in enumerate(page.ids):
            if (found := self._places.get(wallhaven_id)) is not None:
                number, rank = found
                met[number] = max(met.get(number, (rank, place)), (rank, place))
        return met

    def ends(self, page: CoveredPage) -> Iterator[tuple[int, int]]:
        """Yield the stretches to leap over from a page, and on which page each should end."""
        for number, (rank, place) in self.met_on(page).items():
            if number not in self._passed:
                further = place + len(self._stretches[number]) - 1 - rank
                yield number, page.number + further // max(1, page.per_page or page.items)


class _Leap(NamedTuple):
    """On the way to the end of a stretch: a page inside it, and one behind it where one was met."""

    stretch: int
    inside: int
    behind: int | None = None


class IncrementalRead:
    """Hand out one page at a time, until one of the `watermark`, or the end.

    `watermark` holds the newest ids of the last reading without a hole: all that lies behind one of
    them was read then. `above` are the stretches that were read since by runs that did not come
    down to it: between them lie gaps. What is in a stretch is skipped; to find its end again, a
    page of it is read. At most `max_pages` pages are read, `covered` ones included, which this run
    has read before. One that is unreadable is passed over, and leaves a hole.
    """

    def __init__(
        self,
        covered: Iterable[LedgerPage],
        *,
        max_pages: int,
        watermark: Collection[str],
        above: Iterable[Stretch] = (),
    ) -> None:
        self._max_pages = max_pages
        self._watermark = frozenset(watermark)
        self._above = _Stretches(above)
        self._newest_ids: list[str] = []
        self._readings: dict[int, int] = {}
        self._pages_read = 0
        self._unreadable = 0
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

    def note(self, page: LedgerPage) -> None:
        """A page is staged, or was unreadable; what it says of the end is the newest word."""
        self._pages_read += 1
        if isinstance(page, UnreadablePage):
            self._pass_over(page)
            return
        if self._last is None:
            self._newest_ids = page.ids
        self._may_have_hole |= page.is_short
        self._readings[page.number] = page.reading
        self._next = self._after(page)
        self._last = page

    def _pass_over(self, page: UnreadablePage) -> None:
        """Go on below, where there is something: where we are in a stretch is found out there."""
        self._unreadable += 1
        self._may_have_hole = True
        self._leap = self._anchor = None
        has_more = page.number < page.last_page and self._unreadable < MAX_UNREADABLE_PAGES
        self._next = page.number + 1 if has_more else None

    @property
    def end(self) -> int:
        """The last page that may be wanted, as far as is known."""
        return max(1, min(self._last.last_page if self._last else 1, self._max_pages))

    @property
    def is_empty(self) -> bool:
        """True where the search has no items, by the newest word."""
        return self._last is not None and not self._last.total

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
        if self._leap is not None and (number := self._land(self._leap, page)):
            return number
        if self._has_slipped(page, ids):
            return min(page.number - 1, max(1, page.last_page))
        self._is_down = not self._watermark.isdisjoint(ids) or self._is_end(page)
        return None if self._is_down else self._below(page)

    def _is_end(self, page: CoveredPage) -> bool:
        """Say whether the list ends here: by what it says, or with two empty pages in a row."""
        last = self._last
        follows = last is not None and page.number == last.number + 1
        is_empty = not page.items and last is not None and not last.items
        return page.number >= page.last_page or (follows and is_empty)

    def _land(self, leap: _Leap, page: CoveredPage) -> int | None:
        """Return which page to look at for the end of a stretch, None where this page holds it."""
        if leap.stretch in self._above.met_on(page):
            leap = leap._replace(inside=page.number)
        else:
            leap = leap._replace(behind=page.number)
        self._leap = None
        if leap.behind is None:
            return None
        # It has lost items: where its end is now cannot be reckoned, so there is no second leap.
        self._above.pass_by(leap.stretch)
        if leap.behind - leap.inside > 1:
            self._leap = leap
            return (leap.inside + leap.behind) // 2
        if leap.inside == page.number:
            return None
        self._anchor = self._above.ids(leap.stretch)
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
        if self._slips > MAX_SLIPS:
            self._may_have_hole = True
            return False
        self._anchor = frozenset(last.ids)
        return True

    def _below(self, page: CoveredPage) -> int:
        """Return the next page: that behind this one, or at the end of a stretch that it is in."""
        target = page.number + 1
        for stretch, end in self._above.ends(page):
            if end > page.number and end >= target:
                target, self._leap = min(end, page.last_page), _Leap(stretch, page.number)
        return target
