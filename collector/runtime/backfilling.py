"""Backfill: extract, load and transfer at the same time, each on what the one before has done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import anyio

from collector.catalog import CrawlRange, KnownCrawl
from collector.core.audit import AuditRow
from collector.core.certificate import CrawlVerdict
from collector.core.errors import CollectorError, ImagesLeft
from collector.core.pacing import Priority
from collector.core.runs import Run, StageCall, StageName, StageReport
from collector.flow import Supply, committed, task_group
from collector.logs import logger
from collector.runtime.opening import RunOptions, Runtime, whole_list
from collector.runtime.running import STAGE_NEEDS, close_crashed_runs, recorded, run_audited
from collector.runtime.wiring import run_transfer
from collector.sources import Source
from collector.stages.api_client import ApiClient
from collector.stages.backfill import crawl, load_as_staged

_ALL_SEEN = (CrawlVerdict.COMPLETE, CrawlVerdict.EXPLAINED)
BACKFILL_NEEDS = STAGE_NEEDS[StageName.EXTRACT] | STAGE_NEEDS[StageName.TRANSFER]


@dataclass(frozen=True, slots=True)
class BackfillOptions:
    """Which pages of the list to read, oldest first, and how many images to store.

    `limit` (0: none) counts images that the crawl has stored since `limit_since`, None: in this
    call. `again` reads a complete list again.
    """

    from_page: int = 1
    to_page: int | None = None
    limit: int = 0
    limit_since: datetime | None = None
    again: bool = False


async def find_crawl(runtime: Runtime, options: BackfillOptions) -> KnownCrawl | None:
    """Return the crawl that an earlier call with these options began, ended or not."""
    return await runtime.catalog.crawls.find(_range(whole_list(runtime.settings), options))


def is_over(known: KnownCrawl | None, options: BackfillOptions) -> bool:
    """Whether nothing is left to do: all items were seen and stored, as far as possible."""
    return known is not None and known.verdict in _ALL_SEEN and not options.again


def run_for(known: KnownCrawl | None, new: Run, *, again: bool = False) -> Run:
    """Return the crawl's own run if it can resume, else `new`.

    A crawl is one run, however often it is interrupted. If only unreadable pages have left it
    incomplete, it resumes with these pages, unless the whole list is to be read `again`.
    """
    if known and (known.verdict is None or (known.is_completable and not again)):
        return Run(known.dag_id, known.run_id, new.logical_date)
    return new


async def run_backfill(
    runtime: Runtime,
    run: Run,
    options: BackfillOptions,
    on_audit: Callable[[AuditRow], None] = lambda _: None,
    on_problem: Callable[[CollectorError], None] = lambda _: None,
    on_begin: Callable[[int], Awaitable[None]] | None = None,
) -> AuditRow:
    """Read, merge and mirror the list at the same time; return the audit row.

    If a stage fails, the others finish the pages and images that they have. The audit is always
    written, on cancellation too; it carries the certificate and is passed to `on_audit`. Then
    `on_problem` gets the error of each failed stage, or ImagesLeft if images remain to be retried.
    The crawl has its verdict once all is read and stored; until then the same call resumes it.
    `on_begin` is called before any stage, with the audit id.
    """
    source = whole_list(runtime.settings)
    begin = runtime.catalog.crawls.begin
    audit_id = await committed(
        begin(run, _range(source, options), is_oldest_first=source.is_oldest_first)
    )
    work = _Backfill(runtime, audit_id, source, options)

    async def begin_and_work() -> None:
        if on_begin is not None:
            await on_begin(audit_id)
        await work.run()

    row = await run_audited(runtime, audit_id, begin_and_work, on_audit)
    for problem in work.problems:
        on_problem(problem)
    verdict = _verdict(row)
    if verdict is None or not work.is_done:
        return row
    joined_to = _joined_to(source, options, verdict)
    if not await runtime.catalog.crawls.end(audit_id, verdict, joined_to):
        problem = ImagesLeft()
        logger.warning("%s", problem)
        on_problem(problem)
    return row


def _joined_to(source: Source, options: BackfillOptions, verdict: CrawlVerdict) -> str | None:
    """Return the daily search that now has nothing older to read, None if it may have."""
    daily = source.newest_first()
    is_whole = options.from_page == 1 and options.to_page is None and verdict in _ALL_SEEN
    return daily.search_key if daily is not None and is_whole else None


def _verdict(row: AuditRow) -> CrawlVerdict | None:
    certificate = row.report["certificate"]
    verdict = certificate["verdict"] if isinstance(certificate, dict) else None
    return CrawlVerdict(str(verdict)) if verdict else None


def _range(source: Source, options: BackfillOptions) -> CrawlRange:
    return CrawlRange(source.search_key, options.from_page, options.to_page)


@dataclass
class _Backfill:
    runtime: Runtime
    audit_id: int
    source: Source
    options: BackfillOptions
    staged: Supply = field(default_factory=Supply)
    loaded: Supply = field(default_factory=Supply)
    stop: anyio.Event = field(default_factory=anyio.Event)
    problems: list[CollectorError] = field(default_factory=list)
    reports: dict[StageName, StageReport] = field(default_factory=dict)

    async def run(self) -> None:
        async with task_group() as tasks:
            api = self.runtime.api(Priority.BACKFILL, StageCall(self.audit_id, StageName.EXTRACT))
            read = partial(self._extract, api)
            tasks.start_soon(self._stage, StageName.EXTRACT, read, self.staged.close, api)
            tasks.start_soon(self._stage, StageName.LOAD, self._load, self.loaded.close)
            tasks.start_soon(self._stage, StageName.TRANSFER, self._transfer, self.stop.set)
        for problem in self.problems[1:]:
            logger.error("%s", problem)
        if self.problems:
            raise self.problems[0]

    @property
    def is_done(self) -> bool:
        """True if all is read and no image is left for another call."""
        extracted, carried = (
            self.reports.get(stage) for stage in (StageName.EXTRACT, StageName.TRANSFER)
        )
        return bool(
            not self.problems
            and extracted
            and carried
            and extracted.details["is_read"]
            and not carried.details["is_limit_reached"]
            and not carried.details["are_attempts_used_up"]
        )

    async def _stage(
        self,
        stage: StageName,
        work: Callable[[], Awaitable[StageReport]],
        on_end: Callable[[], object],
        api: ApiClient | None = None,
    ) -> None:
        call = StageCall(self.audit_id, stage)
        try:
            self.reports[stage] = await recorded(self.runtime, call, api, work)
        except CollectorError as problem:
            self.problems.append(problem)
            self.stop.set()
        finally:
            on_end()

    async def _extract(self, api: ApiClient) -> StageReport:
        await close_crashed_runs(self.runtime, self.audit_id)
        async with self.runtime.catalog.crawls.reading(self.audit_id, self.stop):
            return await crawl(
                self.audit_id,
                source=self.source,
                api=api,
                catalog=self.runtime.catalog.pages,
                from_page=self.options.from_page,
                to_page=self.options.to_page,
                progress=self.runtime.progress,
                staged=self.staged,
                stop=self.stop,
            )

    async def _load(self) -> StageReport:
        return await load_as_staged(
            self.audit_id,
            catalog=self.runtime.catalog.loads,
            staged=self.staged,
            loaded=self.loaded,
        )

    async def _transfer(self) -> StageReport:
        limit, stored_before = await self._limit()
        return await run_transfer(
            self.runtime,
            self.audit_id,
            RunOptions(limit=limit),
            stored_before=stored_before,
            supply=self.loaded,
        )

    async def _limit(self) -> tuple[int, int]:
        """Return how many images the crawl may store in total, and how many it has stored."""
        limit, since = self.options.limit, self.options.limit_since
        if not limit:
            return 0, 0
        runs = self.runtime.catalog.runs
        stored = await runs.stored_by(self.audit_id)
        counted = await runs.stored_by(self.audit_id, since) if since else 0
        return stored - counted + limit, stored
