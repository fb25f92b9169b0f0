"""Backfill: a whole list read, merged and mirrored at once, each as far as the one before it is."""

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
from collector.stages.api import ApiClient
from collector.stages.extract import (
    PAGES_IN_FLIGHT,
    matches_nothing,
    require_same_search,
    shown,
)
from collector.stages.pages import PageReader

# Pages that come within a second are merged together, the first of all at once: images wait no
# longer for that, and a merge of many costs little more than one of a few.
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
    """Stage the pages of a list, several at a time, in the order that proves it whole.

    `to_page` None stands for the end of the list.
    Goes on where an earlier call for this run was, and repeats no page but for that order's sake.
    Each page that is staged is announced on `staged`. One that cannot be read is tried again when
    all others are read, and given up at last. Ends early, as well as it can, once `stop` is set;
    `is_read` in the report says whether nothing is left to read. Raises Outage, OtherSearch,
    QuestionIgnored; pages staged until then stay.
    """
    covered = await catalog.crawled_pages(audit_id)
    require_same_search(covered, source)
    pages = Crawl(covered, from_page=from_page, to_page=to_page)
    # Half of what it was leaves room for whatever was deleted since the last call.
    known_total = covered[-1].total // 2 if covered else None
    reader = PageReader(audit_id, source, api, catalog, known_total, witnesses=(1, 2))
    work = _Crawling(pages, reader, staged)
    async with shown(progress, lambda: pages.end, reader) as advance, task_group() as tasks:
        tasks.start_soon(_cancel_at, stop, tasks.cancel_scope)
        async with task_group() as readers:
            for _ in range(PAGES_IN_FLIGHT):
                readers.start_soon(work.read_all, advance)
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


class _Crawling:
    def __init__(self, pages: Crawl, reader: PageReader, staged: Supply) -> None:
        self._pages = pages
        self._reader = reader
        self._staged = staged

    async def read_all(self, advance: Callable[[], None]) -> None:
        """Read pages until none is left; waits where only others' answers can tell."""
        while not self._pages.is_done:
            seen = self._staged.version
            wanted = self._pages.take()
            if wanted is None:
                await self._staged.after(seen)
                continue
            self._pages.note(await self._reader.read(wanted))
            advance()
            self._staged.announce()


async def load_as_staged(
    audit_id: int, *, catalog: Loads, staged: Supply, loaded: Supply
) -> StageReport:
    """Merge pages as they are staged, until no more will be; announce each merge on `loaded`.

    What ended runs left is merged in the end, when this run's pages no longer wait for that. Raises
    StagingMismatch, Outage; what was merged until then stays. The report says what the loads of the
    run have done so far.
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
