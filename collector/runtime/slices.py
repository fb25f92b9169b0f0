"""The door for schedulers to a backfill: planned, mirrored slice by slice, and audited.

All slices are alike: each goes on with the crawl that the form asks for, which is one run however
many slices, and runs of the scheduler, it takes. All functions raise CollectorError, after it was
logged, and Interrupted, once everything was released; all may be called again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from collector.catalog import KnownCrawl
from collector.core.audit import AuditRow
from collector.core.errors import CollectorError, RunFailed, SettingsError
from collector.core.paging import CoveredPage
from collector.core.planning import backfill_api_calls, divided
from collector.core.runs import Run, RunStatus, StageName, StageReport
from collector.runtime.backfilling import (
    BACKFILL_NEEDS,
    BackfillOptions,
    begin_crawl,
    find_crawl,
    is_over,
    run_backfill,
    run_for,
)
from collector.runtime.opening import RunOptions, Runtime, whole_list
from collector.runtime.running import STAGE_NEEDS, run_one_stage
from collector.runtime.scheduled import counts_of, run_stage, run_task, settings_for, settled
from collector.runtime.wiring import PLAN_NEEDS, run_plan
from collector.settings import Settings
from collector.stages.plan import PlanReport

logger = logging.getLogger("collector")

# Ten minutes of the API's documented 45 requests a minute.
DEFAULT_PAGES_PER_SLICE = 450

_SEARCH_FIELDS = ("query", "collection")
_OPTION_FIELDS = ("from_page", "to_page", "limit", "again")
_FIELDS = (*_SEARCH_FIELDS, *_OPTION_FIELDS, "pages_per_slice")


@dataclass(frozen=True, slots=True)
class SlicePlan:
    """What the list costs, as whole numbers, and the arguments of `run_slice` for each slice."""

    counts: dict[str, int]
    slices: list[dict[str, int]]


@dataclass(frozen=True, slots=True)
class _Form:
    settings: Settings
    options: BackfillOptions
    pages_per_slice: int


def plan_slices(form: Mapping[str, Any], run: Run, most_slices: int) -> SlicePlan:
    """Begin the crawl that the form asks for, or find it, and divide what is left of it.

    Asks the API up to three times; not at all where the crawl is over, which has no slices. They
    are longer than the form says where there would be more than `most_slices`. With `again`, a
    crawl that is over begins anew as `run`, once.
    """
    asked = _read(form)

    async def work(runtime: Runtime) -> SlicePlan:
        known = await _begun(runtime, run, asked.options)
        if known.verdict is not None:
            _say_over(known)
            return SlicePlan({"slices": 0}, [])
        return await _planned(runtime, known.run_key, asked, most_slices)

    return run_task(asked.settings, PLAN_NEEDS, work)


def run_slice(form: Mapping[str, Any], run: Run, pages: int, stored_before: int) -> dict[str, int]:
    """Go on with the crawl for so many pages; return the counts of its audit row until then.

    Where the crawl is over, or has stored the form's limit since it had `stored_before`, it says so
    and does nothing. Raises what a stage failed with, or RunFailed where only the audit says so.
    """
    asked = _read(form)
    problems: list[CollectorError] = []

    async def work(runtime: Runtime) -> AuditRow:
        known = await find_crawl(runtime, asked.options)
        if known is None:
            known = await _begun(runtime, run, asked.options)
        options = await _bounded(runtime, known, asked.options, stored_before)
        if options is None:
            return await runtime.catalog.runs.audit_row(known.run_key)
        options = replace(options, most_pages=pages)
        going_on = run_for(known, run)
        row = await run_backfill(runtime, going_on, options, lambda _: None, problems.append)
        if row.status is RunStatus.FAILED and not problems:
            raise RunFailed(row.run_id, row.notes)
        return row

    row = run_task(asked.settings, BACKFILL_NEEDS, work)
    if problems:
        # Logged by then, when it came.
        raise problems[0].with_traceback(None)
    return counts_of(row)


def audit_backfill(form: Mapping[str, Any], run: Run) -> dict[str, int]:
    """Write the audit row of the crawl's run anew, and return its counts.

    The row of a crawl that is over stays as it is. Where the form cannot be read, nothing was done:
    the row of `run` says that it has failed.
    """
    try:
        asked = _read(form)
    except SettingsError:
        return run_stage(StageName.AUDIT, settings_for(), run)

    async def work(runtime: Runtime) -> StageReport | AuditRow:
        known = await find_crawl(runtime, asked.options)
        if known is not None and known.verdict is not None:
            return await runtime.catalog.runs.audit_row(known.run_key)
        if known is not None:
            logger.warning("[draenei] not at the end of the list yet: another run goes on")
        going_on = run_for(known, run)
        await settled(runtime, going_on)
        return await run_one_stage(runtime, StageName.AUDIT, going_on, RunOptions())

    return counts_of(run_task(asked.settings, STAGE_NEEDS[StageName.AUDIT], work))


async def _begun(runtime: Runtime, run: Run, options: BackfillOptions) -> KnownCrawl:
    """Return the crawl to go on with, or one that is over where there is nothing to do."""
    known = await find_crawl(runtime, options)
    if known is not None:
        is_own = (known.dag_id, known.run_id) == (run.dag_id, run.run_id)
        if known.verdict is None or is_own or is_over(known, options):
            return known
    going_on = run_for(known, run, again=options.again)
    run_key = await begin_crawl(runtime, going_on, options)
    return KnownCrawl(run_key, going_on.dag_id, going_on.run_id, None)


async def _planned(runtime: Runtime, run_key: int, asked: _Form, most_slices: int) -> SlicePlan:
    """Plan what is left of an open crawl."""
    report = await run_plan(runtime)
    options, listed = asked.options, report.plan.pages
    last = listed if options.to_page is None else min(options.to_page, listed)
    covered = await runtime.catalog.pages.crawled_pages(run_key)
    read = len({page.number for page in covered if isinstance(page, CoveredPage)})
    calls = max(1, backfill_api_calls(last - options.from_page + 1) - read)
    slices, pages = divided(calls, asked.pages_per_slice, most_slices)
    counts = {name: value for name, value in report.as_json().items() if isinstance(value, int)} | {
        "pages_read": read,
        "calls_left": calls,
        "slices": slices,
        "pages_per_slice": pages,
    }
    _log_plan(report, counts)
    stored = await runtime.catalog.runs.stored_by(run_key)
    return SlicePlan(counts, [{"pages": pages, "stored_before": stored}] * slices)


def _log_plan(report: PlanReport, counts: Mapping[str, int]) -> None:
    figures = {**report.as_json(), **counts}
    names = ("images", "pages", "api_calls", "hours", "gigabytes", "puts", "calls_left", "slices")
    logger.info("[draenei] plan: %s", " ".join(f"{name}={figures[name]}" for name in names))


async def _bounded(
    runtime: Runtime, known: KnownCrawl, options: BackfillOptions, stored_before: int
) -> BackfillOptions | None:
    """Return the options of one more slice; None, once it was said why, where there is none."""
    if known.verdict is not None:
        _say_over(known)
        return None
    if not options.limit:
        return options
    left = stored_before + options.limit - await runtime.catalog.runs.stored_by(known.run_key)
    if left <= 0:
        logger.info("[draenei] nothing to do: this run's limit, %d, is reached", options.limit)
        return None
    return replace(options, limit=left)


def _say_over(known: KnownCrawl) -> None:
    logger.info(
        "[draenei] nothing to do: this list was read to its end by %s (%s)",
        known.run_id,
        known.verdict,
    )


def _read(form: Mapping[str, Any]) -> _Form:
    """Return what the form asks for; a field that is missing, or None, stands for its default."""
    filled = {name: value for name, value in form.items() if value is not None}
    settings = settings_for({name: filled[name] for name in _SEARCH_FIELDS if name in filled})
    try:
        options = _options(filled)
        whole_list(settings)
    except SettingsError as error:
        logger.error("[draenei] %s", error)
        raise
    return _Form(settings, options, filled.get("pages_per_slice", DEFAULT_PAGES_PER_SLICE))


def _options(filled: Mapping[str, Any]) -> BackfillOptions:
    for field in filled:
        if field not in _FIELDS:
            raise SettingsError(field, f"the form has no such field; it has {', '.join(_FIELDS)}")
    options = BackfillOptions(**{name: filled[name] for name in _OPTION_FIELDS if name in filled})
    if options.to_page is not None and options.to_page < options.from_page:
        raise SettingsError("to_page", f"must not be below from_page, {options.from_page}")
    return options
