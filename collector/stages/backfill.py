"""Backfill: read a whole list and merge its pages at the same time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import anyio

from collector.catalog import Loads, Pages
from collector.core.crawl import Crawl
from collector.core.runs import StageName, StageReport
from collector.flow import Supply, task_group
from collector.ports import Progress
from collector.sources import Source
from collector.stages.api_client import ApiClient
from collector.stages.extract import (
    PAGES_IN_FLIGHT,
    matches_nothing,
    require_same_search,
    show_progress,
)
from collector.stages.page_reader import PageReader

# Pages that are staged within a second are merged together, the first one at once. Merging many
# pages costs little more than merging a few, and images wait no longer than this.
MERGE_EVERY_SECONDS = 1.0


async def crawl(
    audit_id: int,
    *,
    source: Source,
    api: ApiClient,
    catalog: Pages,
    from_page: int,
    to_page: int | None,
    progress: Progress,
    staged: Supply,
    stop: anyio.Event,
) -> StageReport:
    """Stage the pages of a list, several at a time, in the order that proves it complete.

    `to_page` None means the end of the list. Resumes an earlier call for this run, and reads a page
    again only if the order requires it. Each staged page is announced on `staged`. A page that
    cannot be read is retried after all others, and given up at last. Once `stop` is set, the call
    ends early; `is_read` in the report says whether nothing is left to read. Raises Outage,
    OtherSearch, QuestionIgnored; pages staged until then stay.
    """
    covered = await catalog.crawled_pages(audit_id)
    require_same_search(covered, source)
    pages = Crawl(covered, from_page=from_page, to_page=to_page)
    # Items may have been deleted since the last call: half of the old total is plausible.
    known_total = covered[-1].total // 2 if covered else None
    reader = PageReader(audit_id, source, api, catalog, known_total, witnesses=(1, 2))
    async with show_progress(progress, lambda: pages.end, reader) as advance, task_group() as tasks:
        tasks.start_soon(_cancel_at, stop, tasks.cancel_scope)
        async with task_group() as readers:
            for _ in range(PAGES_IN_FLIGHT):
                readers.start_soon(_read_all, pages, reader, staged, advance)
        tasks.cancel_scope.cancel()
    return StageReport(
        StageName.EXTRACT,
        {**reader.counts, "api_requests": api.requests_sent},
        {
            **reader.details(),
            **matches_nothing(source, is_empty=pages.is_empty),
            "is_read": pages.is_done,
        },
    )


async def _cancel_at(stop: anyio.Event, scope: anyio.CancelScope) -> None:
    await stop.wait()
    scope.cancel()


async def _read_all(
    pages: Crawl, reader: PageReader, staged: Supply, advance: Callable[[], None]
) -> None:
    while not pages.is_done:
        seen = staged.version
        wanted = pages.take()
        if wanted is None:
            # What to read next depends on pages that other readers are reading.
            await staged.after(seen)
            continue
        pages.note(await reader.read(wanted))
        advance()
        staged.announce()


async def load_as_staged(
    audit_id: int, *, catalog: Loads, staged: Supply, loaded: Supply
) -> StageReport:
    """Merge pages as they are staged, until `staged` is over; announce each merge on `loaded`.

    Pages that ended runs left are merged last, so this run's pages do not wait for them. Raises
    StagingMismatch, Outage; what was merged until then stays. The report covers all loads of the
    run so far.
    """
    while True:
        seen, is_last = staged.version, staged.is_over
        await catalog.merge(audit_id)
        loaded.announce()
        if is_last:
            await catalog.merge_leftovers(audit_id)
            loaded.announce()
            return StageReport(StageName.LOAD, asdict(await catalog.loaded(audit_id)))
        await staged.after(seen)
        with anyio.move_on_after(MERGE_EVERY_SECONDS if seen else 0):
            await staged.over()
