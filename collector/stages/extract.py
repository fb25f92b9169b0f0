"""Extract: read the pages of a search into staging, concurrently within the rate limit."""

from __future__ import annotations

from dataclasses import dataclass

from collector.core.errors import OtherSearch
from collector.core.paging import CoveredPage, Frontier
from collector.core.runs import StageName, StageReport
from collector.flow import task_group
from collector.ports import PageCatalog, Progress
from collector.sources import Source
from collector.stages.api import ApiClient

# More does not help: the rate limit, not the latency, bounds the pages per minute then.
PAGES_IN_FLIGHT = 8


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """At most `max_pages` pages; `refresh` reads on beyond the watermark."""

    max_pages: int
    refresh: bool = False


async def extract(
    run_key: int,
    *,
    source: Source,
    api: ApiClient,
    catalog: PageCatalog,
    options: ExtractOptions,
    progress: Progress,
) -> StageReport:
    """Stage the pages of the search until the watermark of its last reading, or the end.

    Each page and its ledger row are committed together, so that a run that is stopped goes on
    where it was. The watermark moves only when a reading has left no hole and its pages are
    merged: one that was cut short is made good by the next. Raises Outage, OtherSearch; pages
    staged until then stay.
    """
    covered = await catalog.covered_pages(run_key)
    for page in covered:
        if page.search_key != source.search_key:
            raise OtherSearch(page.search_key, source.search_key)
    watermark = await catalog.watermark(source.search_key) if source.is_newest_first else []
    frontier = Frontier(
        covered, max_pages=options.max_pages, watermark=watermark, refresh=options.refresh
    )
    reader = _Reader(run_key, source, api, catalog, frontier, progress)
    await reader.read_all()
    if (newest_ids := frontier.new_watermark) is not None:
        await catalog.note_reading(run_key, source.search_key, newest_ids)
    return _report(reader.pages, api)


class _Reader:
    def __init__(
        self,
        run_key: int,
        source: Source,
        api: ApiClient,
        catalog: PageCatalog,
        frontier: Frontier,
        progress: Progress,
    ) -> None:
        self._run_key = run_key
        self._source = source
        self._api = api
        self._catalog = catalog
        self._frontier = frontier
        self._progress = progress
        self.pages: list[CoveredPage] = []

    async def read_all(self) -> None:
        """Read page 1 alone; then one by one to the watermark, or several at a time."""
        if (first := self._frontier.take()) is not None:
            await self._read(first)
        self._progress.start("pages", self._frontier.end)
        self._progress.advance("pages", len(self.pages))
        width = 1 if self._frontier.is_incremental else PAGES_IN_FLIGHT
        async with task_group() as tasks:
            for _ in range(width):
                tasks.start_soon(self._work)
        self._progress.finish("pages")

    async def _work(self) -> None:
        while (number := self._frontier.take()) is not None:
            await self._read(number)
            self._progress.advance("pages", 1)

    async def _read(self, number: int) -> None:
        page = await self._api.get(
            self._source.page_request(number), lambda body: self._source.parse_page(body, number)
        )
        covered = await self._catalog.stage_page(self._run_key, self._source.search_key, page)
        self.pages.append(covered)
        self._frontier.note(covered)


def _report(pages: list[CoveredPage], api: ApiClient) -> StageReport:
    return StageReport(
        StageName.EXTRACT,
        {
            "pages": len(pages),
            "items": sum(page.items for page in pages),
            "invalid": sum(page.invalid for page in pages),
            "known": sum(page.known for page in pages),
            "api_requests": api.requests_sent,
        },
    )
