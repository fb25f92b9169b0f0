"""Extract: read the pages of a search into staging, concurrently within the rate limit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from collector.catalog import Pages
from collector.core.audit import MATCHES_NOTHING
from collector.core.errors import OtherSearch
from collector.core.incremental import IncrementalRead, stretches
from collector.core.paging import LedgerPage, Sweep
from collector.core.runs import Json, StageName, StageReport
from collector.flow import task_group
from collector.logs import logger
from collector.ports import Progress
from collector.sources import Source
from collector.stages.api_client import ApiClient
from collector.stages.page_reader import PageReader

# More would not help: beyond this, the rate limit and not the latency bounds the pages per minute.
PAGES_IN_FLIGHT = 8


@dataclass(frozen=True, slots=True)
class ExtractOptions:
    """At most `max_pages` pages; `refresh` reads on beyond the watermark."""

    max_pages: int
    refresh: bool = False


async def extract(
    audit_id: int,
    *,
    source: Source,
    api: ApiClient,
    catalog: Pages,
    options: ExtractOptions,
    progress: Progress,
) -> StageReport:
    """Stage the pages of the search down to the watermark of its last reading, or to the end.

    Each page is committed together with its ledger row, so a stopped run resumes where it was. The
    watermark moves only once a reading without a hole is merged. A reading that was cut short
    leaves a gap below its pages; the next one closes the gap without reading those pages again. A
    page that cannot be read is left out and leaves a hole; all others are read. A run that left no
    hole has nothing more to read. Raises Outage, also if page 1 cannot be read, OtherSearch,
    QuestionIgnored; pages staged until then stay.
    """
    reader = PageReader(audit_id, source, api, catalog)
    if await catalog.has_read(audit_id, source.search_key):
        return StageReport(StageName.EXTRACT, {**reader.counts, "api_requests": 0})
    covered = await catalog.covered_pages(audit_id)
    require_same_search(covered, source)
    pages = await _plan_reading(audit_id, source, catalog, options, covered)
    # An incremental read learns only from each page whether to stop: reading ahead wastes calls.
    width = 1 if isinstance(pages, IncrementalRead) else PAGES_IN_FLIGHT
    if (first := pages.take()) is not None:
        pages.note(await reader.read(first))
    async with show_progress(progress, lambda: pages.end, reader) as advance, task_group() as tasks:
        for _ in range(width):
            tasks.start_soon(_read_all, pages, reader, advance)
    if (newest_ids := pages.new_watermark) is not None:
        await catalog.note_reading(audit_id, source.search_key, newest_ids)
    return StageReport(
        StageName.EXTRACT,
        {**reader.counts, "api_requests": api.requests_sent},
        {**reader.details(), **_gap(pages), **matches_nothing(source, is_empty=pages.is_empty)},
    )


def require_same_search(covered: Iterable[LedgerPage], source: Source) -> None:
    """Raise OtherSearch if the run has read pages of another search."""
    for page in covered:
        if page.search_key != source.search_key:
            raise OtherSearch(page.search_key, source.search_key)


async def _plan_reading(
    audit_id: int,
    source: Source,
    catalog: Pages,
    options: ExtractOptions,
    covered: list[LedgerPage],
) -> Sweep | IncrementalRead:
    watermark = await catalog.watermark(source.search_key) if source.is_newest_first else []
    if not watermark or options.refresh:
        return Sweep(covered, max_pages=options.max_pages, watermark=watermark)
    runs = await catalog.pages_above(source.search_key, audit_id)
    above = [part for pages in runs for part in stretches(pages)]
    return IncrementalRead(covered, max_pages=options.max_pages, watermark=watermark, above=above)


async def _read_all(
    pages: Sweep | IncrementalRead, reader: PageReader, advance: Callable[[], None]
) -> None:
    while (wanted := pages.take()) is not None:
        pages.note(await reader.read(wanted))
        advance()


@asynccontextmanager
async def show_progress(
    progress: Progress, end: Callable[[], int], reader: PageReader
) -> AsyncIterator[Callable[[], None]]:
    """Show the progress of reading pages; yields a function that counts one more."""
    progress.start("pages", end())
    progress.advance("pages", reader.counts["pages"])
    yield lambda: progress.advance("pages", 1)
    progress.finish("pages")


def matches_nothing(source: Source, *, is_empty: bool) -> dict[str, Json]:
    """Return what the report says of a search without items, and log it; {} if it has some."""
    if not is_empty:
        return {}
    logger.warning("the search matches nothing: %s; check its words and filters", source.search_key)
    return {MATCHES_NOTHING: source.search_key}


def _gap(pages: Sweep | IncrementalRead) -> dict[str, Json]:
    """Return where an incremental read ended above the watermark."""
    if not isinstance(pages, IncrementalRead) or pages.is_whole:
        return {}
    logger.warning("pages below page %d were not read; the next run reads them", pages.lowest_page)
    return {"gap_below_page": pages.lowest_page}
