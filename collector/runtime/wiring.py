"""Calls each stage with its catalogs, its ports and its settings."""

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
from collector.stages.api_client import ApiClient
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
# What the log says of an audit row.
_LOGGED = (
    *("run_id", "status", "duration_seconds"),
    *("metadata_inserted", "metadata_updated", "metadata_unchanged", "metadata_invalid"),
    *("images_uploaded", "images_adopted", "bytes_uploaded"),
    *("download_failures", "upload_failures", "missing_s3_after_run"),
)


async def run_extract(
    runtime: Runtime, audit_id: int, options: RunOptions, api: ApiClient
) -> StageReport:
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
    return await load(audit_id, catalog=runtime.catalog.loads)


async def run_transfer(
    runtime: Runtime,
    audit_id: int,
    options: RunOptions,
    *,
    stored_before: int = 0,
    supply: Supply | None = None,
) -> StageReport:
    """Run the stage `transfer`; the run's limit includes the `stored_before` images."""
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
    return await audit(
        audit_id,
        catalog=runtime.catalog.runs,
        max_dead_percent=runtime.settings.collector_max_dead_percent,
    )


async def run_plan(runtime: Runtime) -> PlanReport:
    """Make a plan on a runtime opened with PLAN_NEEDS; daily runs ask the API first."""
    return await plan(
        source=whole_list(runtime.settings),
        api=runtime.api(Priority.BACKFILL),
        catalog=runtime.catalog.runs,
        requests_per_minute=runtime.settings.wallhaven_requests_per_minute,
    )


@dataclass(frozen=True, slots=True)
class JanitorOptions:
    """How old an upload, and how silent a run, must be to count as abandoned.

    Details of runs are kept for `keep_days` days, 0: for ever.
    """

    upload_age_seconds: float = STALE_UPLOAD_SECONDS
    run_silence_seconds: float = SILENT_SECONDS
    keep_days: int = KEEP_DAYS


@dataclass(frozen=True, slots=True)
class Tidied:
    """What a janitor did; `uploads_left` are those that the store did not abort.

    `runs_trimmed` can no longer resume; the other `..._trimmed` count deleted rows of details.
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
    """Release expired claims, close crashed runs, trim old ones, abort stale uploads.

    In this order, so that an attempt that died with its process counts in the audit of its run.
    Each step is logged when it is done. Raises Outage; earlier steps stay done. Safe to repeat,
    and while runs are active.
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
            # Adoption relies on the store's checksum, so probe whether the store verifies it.
            trusts_checksums=repair and (await probe_store(runtime.store)).trusts_checksums,
            refill=refill,
        ),
        progress=runtime.progress,
    )
    counts = " ".join(f"{name}={count}" for name, count in findings.counts().items())
    logger.info("verify: %s", counts)
    return findings


def log_audit(row: AuditRow) -> None:
    """Log an audit row on one line, its numbers named as its columns."""
    shown = {name: getattr(row, name) for name in _LOGGED}
    logger.info("audit: %s", " ".join(f"{name}={value}" for name, value in shown.items()))
