"""The stages, wired: each with its catalogs, its ports and the settings that are about it."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from collector.core.audit import AuditRow
from collector.core.maintenance import Findings, RunDetail
from collector.core.pacing import Priority
from collector.core.runs import (
    DEFAULT_ENRICHMENTS,
    KEEP_DAYS,
    SILENT_SECONDS,
    STALE_UPLOAD_SECONDS,
    StageReport,
)
from collector.flow import Supply
from collector.logs import logger
from collector.runtime.opening import Need, RunOptions, Runtime, details_of, source_of, whole_list
from collector.stages.api import ApiClient
from collector.stages.audit import audit, close_crashed
from collector.stages.enrich import EnrichOptions, enrich
from collector.stages.extract import ExtractOptions, extract
from collector.stages.janitor import abort_stale_uploads, trim_old_runs
from collector.stages.load import load
from collector.stages.plan import PlanReport, plan
from collector.stages.transfer import Chance, TransferOptions, transfer
from collector.stages.verify import VerifyOptions, verify
from collector.store.probe import probe_store

PLAN_NEEDS = Need.SCHEMA | Need.HTTP
UPKEEP_NEEDS = Need.SCHEMA | Need.STORE

_NO_RUN = 0


async def run_extract(
    runtime: Runtime, audit_id: int, options: RunOptions, api: ApiClient
) -> StageReport:
    """Run the stage `extract`."""
    settings = runtime.settings
    return await extract(
        audit_id,
        source=source_of(settings),
        api=api,
        catalog=runtime.catalog.pages,
        options=ExtractOptions(options.max_pages or settings.wallhaven_max_pages, options.refresh),
        progress=runtime.progress,
    )


async def run_load(runtime: Runtime, audit_id: int) -> StageReport:
    """Run the stage `load`."""
    return await load(audit_id, catalog=runtime.catalog.loads)


async def run_transfer(
    runtime: Runtime,
    audit_id: int,
    options: RunOptions,
    *,
    stored_before: int = 0,
    supply: Supply | None = None,
) -> StageReport:
    """Run the stage `transfer`; the limit is of the run, which has `stored_before` already."""
    settings = runtime.settings
    limit = settings.upload_batch_limit if options.limit is None else options.limit
    fitted = await probe_store(runtime.store)
    report = await transfer(
        audit_id,
        catalog=runtime.catalog.transfers,
        http=runtime.http,
        store=fitted.store,
        options=TransferOptions(
            in_flight=settings.collector_in_flight,
            limit=limit,
            memory_bytes=settings.collector_memory_bytes,
            max_image_bytes=settings.collector_max_image_bytes,
            lease_seconds=settings.collector_lease_seconds,
            max_attempts=settings.collector_max_attempts,
            retry_base_seconds=settings.collector_retry_base_seconds,
            max_dead_percent=settings.collector_max_dead_percent,
            stored_before=stored_before,
            only=options.only,
            reads_back=fitted.reads_back,
        ),
        chance=Chance(time.monotonic, random.random),
        progress=runtime.progress,
        supply=supply,
    )
    return replace(report, details={**report.details, **fitted.lacks})


async def run_enrich(
    runtime: Runtime, audit_id: int, options: RunOptions, api: ApiClient
) -> StageReport:
    """Run the stage `enrich`."""
    limit = DEFAULT_ENRICHMENTS if options.limit is None else options.limit
    return await enrich(
        audit_id,
        source=details_of(runtime.settings),
        api=api,
        catalog=runtime.catalog.enrichments,
        options=EnrichOptions(limit),
        progress=runtime.progress,
    )


async def run_audit(runtime: Runtime, audit_id: int) -> AuditRow:
    """Run the stage `audit`."""
    return await audit(
        audit_id,
        catalog=runtime.catalog.runs,
        max_dead_percent=runtime.settings.collector_max_dead_percent,
    )


async def run_plan(runtime: Runtime) -> PlanReport:
    """Ask for it, after what daily runs ask, on a runtime opened with PLAN_NEEDS. Raises Outage."""
    return await plan(
        source=whole_list(runtime.settings),
        api=runtime.api(Priority.BACKFILL),
        catalog=runtime.catalog.runs,
        requests_per_minute=runtime.settings.wallhaven_requests_per_minute,
    )


@dataclass(frozen=True, slots=True)
class JanitorOptions:
    """How old an upload, and how silent a run, must be that nobody is believed to be at work.

    Details of runs are kept for `keep_days` days, 0: for ever.
    """

    upload_age_seconds: float = STALE_UPLOAD_SECONDS
    run_silence_seconds: float = SILENT_SECONDS
    keep_days: int = KEEP_DAYS


@dataclass(frozen=True, slots=True)
class Tidied:
    """What a janitor has done; `uploads_left` is what the store would not let go of.

    `runs_trimmed` were closed for good; of them and of such runs before, rows of details went.
    """

    claims_released: int
    dead_letters: int
    runs_closed: int
    uploads_aborted: int
    uploads_left: int
    runs_trimmed: int
    items_trimmed: int
    enrichments_trimmed: int
    pages_trimmed: int
    loads_trimmed: int
    letters_trimmed: int


async def run_janitor(runtime: Runtime, options: JanitorOptions) -> Tidied:
    """Release lapsed claims, close crashed runs with their numbers, trim old ones, drop uploads.

    In this order: a try that ended with its process counts in the audit of its run. What is done
    is logged as it is done. Raises Outage; what was done before stays done. Safe to repeat, and
    beside runs that are under way.
    """
    settings = runtime.settings
    catalog = runtime.catalog
    lapsed = await catalog.transfers.release_lapsed()
    logger.info("janitor: released=%d dead_letters=%d", lapsed.released, lapsed.dead)
    closed = await close_crashed(
        catalog.runs,
        but=_NO_RUN,
        max_dead_percent=settings.collector_max_dead_percent,
        silent_seconds=options.run_silence_seconds,
    )
    for row in closed:
        log_audit(row)
    trimmed = await trim_old_runs(catalog.runs, options.keep_days)
    rows = " ".join(f"{detail}={count}" for detail, count in trimmed.rows.items())
    logger.info("janitor: runs_trimmed=%d %s", trimmed.runs, rows)
    begun_before = datetime.now(UTC) - timedelta(seconds=options.upload_age_seconds)
    swept = await abort_stale_uploads(catalog.transfers, runtime.store, begun_before)
    logger.info("janitor: uploads_aborted=%d left=%d", swept.aborted, swept.left)
    return Tidied(
        *(lapsed.released, lapsed.dead, len(closed), swept.aborted, swept.left),
        trimmed.runs,
        *(trimmed.rows[detail] for detail in RunDetail),
    )


async def run_verify(
    runtime: Runtime, *, deep: bool, repair: bool, refill: bool = False
) -> Findings:
    """Compare the bucket with the tables; see `collector.stages.verify`."""
    findings = await verify(
        catalog=runtime.catalog.verification,
        store=runtime.store,
        options=VerifyOptions(
            deep=deep,
            repair=repair,
            readers=runtime.settings.collector_in_flight,
            # Adoption goes by the store's own checksum: worth what a probe finds it to be.
            trusts_checksums=repair and (await probe_store(runtime.store)).trusts_checksums,
            refill=refill,
        ),
        progress=runtime.progress,
    )
    counts = " ".join(f"{name}={count}" for name, count in findings.counts().items())
    logger.info("verify: %s", counts)
    return findings


def log_audit(row: AuditRow) -> None:
    """Say on one line what an audit says."""
    logger.info(
        "audit: run_id=%s status=%s inserted=%d updated=%d unchanged=%d uploaded=%d"
        " adopted=%d download_failures=%d upload_failures=%d missing_s3=%d duration_seconds=%.3f",
        row.run_id,
        row.status,
        row.metadata_inserted,
        row.metadata_updated,
        row.metadata_unchanged,
        row.images_uploaded,
        row.images_adopted,
        row.download_failures,
        row.upload_failures,
        row.missing_s3_after_run,
        row.duration_seconds,
    )
