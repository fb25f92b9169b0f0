"""Read a search from its newest item down to known items, and skip stretches read in between.

New items join the top of the list and move all others down; a deletion moves all later items up,
across page borders. So the total of a page must not be less than that of the page before it: if it
is, the page before is read again.
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

# A list that shrinks during every reading would never end: the next run goes on.
MAX_SLIPS = 5


def stretches(pages: Iterable[CoveredPage]) -> Iterator[Stretch]:
    """Yield the parts of a list that the pages of a run, in their order, cover without a gap.

    Only full pages that were read downwards while the total did not shrink are sure to have none.
    If they were read upwards, a new item may have pushed another one down unseen.
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
    """Stretches that do not overlap, numbered, with an index of their ids."""

    def __init__(self, parts: Iterable[Stretch]) -> None:
        self._stretches = joined(parts)
        self._excluded: set[int] = set()
        self._places = {
            wallhaven_id: (number, rank)
            for number, stretch in enumerate(self._stretches)
            for rank, wallhaven_id in enumerate(stretch)
        }

    def exclude(self, number: int) -> None:
        """Never skip this stretch again."""
        self._excluded.add(number)

    def ids(self, number: int) -> frozenset[str]:
        return frozenset(self._stretches[number])

    def met_on(self, page: CoveredPage) -> dict[int, tuple[int, int]]:
        """Return, for each stretch with items on a page, the last one's rank in it and place there.

        Rank and place count from 0.
        """
        met: dict[int, tuple[int, int]] = {}
        for place, wallhaven_id in enumerate(page.ids):
            if (found := self._places.get(wallhaven_id)) is not None:
                number, rank = found
                met[number] = max(met.get(number, (rank, place)), (rank, place))
        return met

    def ends(self, page: CoveredPage) -> Iterator[tuple[int, int]]:
        """Yield the stretches to skip from a page, and the page on which each should end."""
        for number, (rank, place) in self.met_on(page).items():
            if number not in self._excluded:
                further = place + len(self._stretches[number]) - 1 - rank
                yield number, page.number + further // max(1, page.per_page or page.items)


class _Skip(NamedTuple):
    """A search for the end of a stretch: a page with items of it, and a page past it if known."""

    stretch: int
    inside: int
    past: int | None = None


class IncrementalRead:
    """Hands out one page at a time, until one shows an id of the `watermark`, or the list ends.

    `watermark` holds the newest ids of the last reading without a gap, which read everything below
    them. `above` are the stretches that later runs read without reaching the watermark, with gaps
    between them. Stretches are skipped; a page of each is read to find its end. At most `max_pages`
    pages are read, including the `covered` ones that this run has read before. An unreadable page
    is passed over, and leaves a gap.
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
        # The reading must see one of these items before it goes on downwards.
        self._anchor: frozenset[str] | None = None
        self._skip: _Skip | None = None
        self._is_down = False
        self._may_have_gap = False
        for page in covered:
            self.note(page)

    def take(self) -> PageRead | None:
        if self._next is None or self._pages_read >= self._max_pages:
            return None
        number, self._next = self._next, None
        return PageRead(number, self._readings.get(number, 0) + 1)

    def note(self, page: LedgerPage) -> None:
        self._pages_read += 1
        if isinstance(page, UnreadablePage):
            self._pass_over(page)
            return
        if self._last is None:
            self._newest_ids = page.ids
        self._may_have_gap |= page.is_short
        self._readings[page.number] = page.reading
        self._next = self._after(page)
        self._last = page

    def _pass_over(self, page: UnreadablePage) -> None:
        """Go on with the page below, if there is one; it shows again which stretch it is in."""
        self._unreadable += 1
        self._may_have_gap = True
        self._skip = self._anchor = None
        has_more = page.number < page.last_page and self._unreadable < MAX_UNREADABLE_PAGES
        self._next = page.number + 1 if has_more else None

    @property
    def end(self) -> int:
        return max(1, min(self._last.last_page if self._last else 1, self._max_pages))

    @property
    def is_empty(self) -> bool:
        return self._last is not None and not self._last.total

    @property
    def lowest_page(self) -> int:
        """The page that was read last; 0 before the first one."""
        return self._last.number if self._last else 0

    @property
    def is_whole(self) -> bool:
        """Whether the reading has reached known items, or the end, without a gap."""
        return self._is_down and not self._may_have_gap

    @property
    def new_watermark(self) -> list[str] | None:
        """Return the first page's ids if the finished reading left no gap, else None."""
        return self._newest_ids if self._newest_ids and self.is_whole else None

    def _after(self, page: CoveredPage) -> int | None:
        ids = frozenset(page.ids)
        if self._skip is not None and (number := self._next_of_skip(self._skip, page)):
            return number
        if self._has_slipped(page, ids):
            return min(page.number - 1, max(1, page.last_page))
        self._is_down = not self._watermark.isdisjoint(ids) or self._is_end(page)
        return None if self._is_down else self._below(page)

    def _is_end(self, page: CoveredPage) -> bool:
        """Return whether the list ends here: as announced, or with two empty pages in a row."""
        last = self._last
        follows = last is not None and page.number == last.number + 1
        is_empty = not page.items and last is not None and not last.items
        return page.number >= page.last_page or (follows and is_empty)

    def _next_of_skip(self, skip: _Skip, page: CoveredPage) -> int | None:
        """Return the next page to search for a stretch's end, None if this page has it."""
        if skip.stretch in self._above.met_on(page):
            skip = skip._replace(inside=page.number)
        else:
            skip = skip._replace(past=page.number)
        self._skip = None
        if skip.past is None:
            return None
        # The stretch has lost items, so its end cannot be computed: search for it by halves, and
        # do not skip the stretch again.
        self._above.exclude(skip.stretch)
        if skip.past - skip.inside > 1:
            self._skip = skip
            return (skip.inside + skip.past) // 2
        if skip.inside == page.number:
            return None
        self._anchor = self._above.ids(skip.stretch)
        return skip.inside

    def _has_slipped(self, page: CoveredPage, ids: frozenset[str]) -> bool:
        """Return whether unread items may have moved up onto a page that was read before."""
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
            self._may_have_gap = True
            return False
        self._anchor = frozenset(last.ids)
        return True

    def _below(self, page: CoveredPage) -> int:
        """Return the next page: the one after this one, or the last one of a stretch it is in."""
        target = page.number + 1
        for stretch, end in self._above.ends(page):
            if end > page.number and end >= target:
                target, self._skip = min(end, page.last_page), _Skip(stretch, page.number)
        return target
