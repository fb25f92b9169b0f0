"""Read pages of a search: request, check the answer against the request, stage."""

from __future__ import annotations

from collections import Counter

from collector.catalog import Pages
from collector.core.errors import Outage, QuestionIgnored, Unreadable
from collector.core.paging import CoveredPage, LedgerPage, PageRead, UnreadablePage
from collector.core.runs import Json
from collector.core.wallpapers import Contradiction, Page
from collector.failpoints import Point, reach
from collector.logs import logger
from collector.sources import ApiRequest, Source
from collector.stages.api_client import ApiClient

# The unfiltered list grows by about 0.01 % a day: yesterday's total is as good as a new one, which
# would cost a call.
TOTAL_FRESH_SECONDS = 86_400.0
# Our own bound: between two answers, seconds apart, no real list loses a twentieth of its items, or
# a page.
MAX_LOST_PARTS = 20
# One item may move to another page as others come and go; a few do not move together.
MIN_TELLING_ITEMS = 3
# The most frequent unknown fields are enough for a reader to see what has changed.
_MAX_UNKNOWN_FIELDS = 20


class PageReader:
    """Read and stage pages, and count their items.

    If a page cannot be read, another one is requested to tell whether the API is down and where
    the list ends now: the last one that was read, or one of `witnesses`.
    """

    def __init__(
        self,
        audit_id: int,
        source: Source,
        api: ApiClient,
        catalog: Pages,
        known_total: int | None = None,
        witnesses: tuple[int, ...] = (1,),
    ) -> None:
        self._audit_id = audit_id
        self._search_key = source.search_key
        self._source = source
        self._api = api
        self._catalog = catalog
        self._unfiltered_total: int | None = None
        self._total = known_total
        self._witnesses = witnesses
        self._last_read: int | None = None
        # Page numbers by digest of content: the same content under another number is no new page.
        self._number_of: dict[int, int] = {}
        self._short_pages: list[Json] = []
        self._unreadable_pages: list[Json] = []
        self._unknown_fields: Counter[str] = Counter()
        self.counts: Counter[str] = Counter(pages=0, items=0, invalid=0, known=0)

    async def read(self, read: PageRead) -> LedgerPage:
        """Stage a page and its ledger row in one transaction.

        An answer that contradicts the request, or lacks items, is requested once more. A page that
        cannot be read is staged as an empty one if it is now beyond the end of the list; else the
        ledger notes it as unreadable. Raises QuestionIgnored if the second answer contradicts the
        request too, and Outage; then nothing of the page is staged.
        """
        try:
            page = await self._fetch(read.number)
        except Unreadable as problem:
            page = await self._fetch_other(read.number, problem)
            if read.number <= page.last_page:
                return await self._note_unreadable(read.number, page, problem)
            logger.info("the list ends with page %d now", page.last_page)
            page = Page(read.number, (), page.last_page, page.total, page.per_page)
        return await self._stage(page, read)

    async def _fetch_other(self, number: int, problem: Unreadable) -> Page:
        """Return another page of the list, as it is now; raise the problem if none can be read."""
        # If the page is gone, the list may have lost many items.
        self._total = self._total and self._total // 2
        for other in self._others(number):
            try:
                return await self._fetch(other)
            except Unreadable:
                continue
        raise problem

    def _others(self, number: int) -> list[int]:
        """Return pages that may be readable if this one is not: lower ones first."""
        known = dict.fromkeys((self._last_read, *self._witnesses))
        others = [other for other in known if other not in (None, number)]
        return sorted(others, key=lambda other: other > number)

    async def _note_unreadable(
        self, number: int, other: Page, problem: Unreadable
    ) -> UnreadablePage:
        unreadable = UnreadablePage(
            number, self._search_key, other.last_page, other.total, problem.problem
        )
        await self._catalog.note_unreadable(self._audit_id, unreadable)
        logger.warning(
            "page %d cannot be read, page %d can: %s", number, other.number, problem.problem
        )
        self._unreadable_pages.append(number)
        return unreadable

    async def _stage(self, page: Page, read: PageRead) -> CoveredPage:
        reach(Point.PAGE_FETCHED)
        self._source = self._source.following(page)
        self._note_oddities(page)
        covered = await self._catalog.stage_page(
            self._audit_id, self._search_key, page, read.reading
        )
        reach(Point.PAGE_STAGED)
        self.counts.update(
            pages=1, items=covered.items, invalid=covered.invalid, known=covered.known
        )
        return covered

    def details(self) -> dict[str, Json]:
        """Return what was odd, under the names that the stage report uses; {} if nothing was."""
        odd: dict[str, Json] = {
            "unknown_fields": dict(self._unknown_fields.most_common(_MAX_UNKNOWN_FIELDS)),
            "short_pages": self._short_pages,
            "unreadable_pages": self._unreadable_pages,
        }
        return {name: value for name, value in odd.items() if value}

    async def _fetch(self, number: int) -> Page:
        page = await self._fetch_checked(number)
        self._last_read = number
        return page

    async def _fetch_checked(self, number: int) -> Page:
        page = await self._request(number)
        problems = await self._problems(page)
        if not problems and not page.is_short:
            return page
        try:
            again = await self._request(number)
        except Unreadable:
            if problems:
                raise
            return page
        if not (still := await self._problems(again)):
            return again if problems or len(again.items) >= len(page.items) else page
        if problems:
            raise QuestionIgnored(map(str, still))
        return page

    async def _problems(self, page: Page) -> tuple[Contradiction, ...]:
        return (*await self._contradictions(page), *self._collapse(page), *self._repeated(page))

    def _repeated(self, page: Page) -> tuple[Contradiction, ...]:
        """The same wallpapers under another page number, in a list that has not grown meanwhile."""
        if len(page.ids) < MIN_TELLING_ITEMS:
            return ()
        number = self._number_of.setdefault(hash((page.total, *page.ids)), page.number)
        if number == page.number:
            return ()
        return (Contradiction("page", f"page {page.number} holds what page {number} held"),)

    def _collapse(self, page: Page) -> tuple[Contradiction, ...]:
        """A total that falls this far at once belongs to another list, or to none."""
        before = self._total
        self._total = page.total
        if before is None or page.total >= before - max(page.per_page, before // MAX_LOST_PARTS):
            return ()
        self._total = before
        return (Contradiction("total", f"fell from {before} to {page.total} between two pages"),)

    async def _request(self, number: int) -> Page:
        witness = next((self._source.page_request(other) for other in self._others(number)), None)
        return await self._request_of(self._source, number, witness)

    async def _request_of(
        self, source: Source, number: int, witness: ApiRequest | None = None
    ) -> Page:
        request = source.page_request(number)
        return await self._api.get(request, lambda body: source.parse_page(body, number), witness)

    async def _contradictions(self, page: Page) -> tuple[Contradiction, ...]:
        problems = self._source.contradictions(page)
        if problems or not self._source.contradictions(page, page.total):
            return problems
        # So many items that the filters may have been ignored: only the unfiltered total can tell.
        return self._source.contradictions(page, await self._total_without_filters(page))

    async def _total_without_filters(self, page: Page) -> int | None:
        unfiltered = self._source.unfiltered
        if self._unfiltered_total is not None or unfiltered is None:
            return self._unfiltered_total
        known = await self._catalog.search_total(unfiltered.search_key)
        # The list grows: a total below an old unfiltered one is below the current one, too.
        if known and (
            known.age_seconds < TOTAL_FRESH_SECONDS
            or not self._source.contradictions(page, known.total)
        ):
            self._unfiltered_total = known.total
            return known.total
        try:
            self._unfiltered_total = (await self._request_of(unfiltered, 1)).total
        except Unreadable as problem:
            # Not a problem of the page that is being checked.
            raise Outage(problem.edge, problem.problem) from None
        await self._catalog.note_search_total(unfiltered.search_key, self._unfiltered_total)
        return self._unfiltered_total

    def _note_oddities(self, page: Page) -> None:
        if page.is_short:
            logger.warning(
                "page %d holds %d items of %d", page.number, len(page.items), page.per_page
            )
            self._short_pages.append(page.number)
        if page.unknown_fields and not self._unknown_fields:
            logger.warning(
                "fields without a column, kept in `raw`: %s", ", ".join(sorted(page.unknown_fields))
            )
        self._unknown_fields.update(page.unknown_fields)
