"""The stages, wired: each with its catalogs, its ports and the settings that are about it."""

from __future__ import annotations

import random
import time
from dataclasses import replace

from collector.adapters.postgres import PostgresLoads, PostgresPages
from collector.core.audit import AuditRow
from collector.core.runs import StageReport
from collector.flow import Supply
from collector.runtime.capability import fit_store
from collector.runtime.endpoints import details_of, source_of
from collector.runtime.needs import RunOptions
from collector.runtime.opening import Runtime
from collector.stages.api import ApiClient
from collector.stages.audit import audit
from collector.stages.enrich import EnrichOptions, enrich
from collector.stages.extract import ExtractOptions, extract
from collector.stages.load import load
from collector.stages.transfer import Chance, TransferOptions, transfer

# Wallpapers that one enrichment run asks about: 11 minutes of a day's 1440 at the documented 45
# requests a minute, so that much is left for whoever reads pages.
DEFAULT_ENRICHMENTS = 500


async def run_extract(
    runtime: Runtime, run_key: int, options: RunOptions, api: ApiClient
) -> StageReport:
    """Run the stage `extract`."""
    settings = runtime.settings
    return await extract(
        run_key,
        source=source_of(settings),
        api=api,
        catalog=PostgresPages(runtime.database),
        options=ExtractOptions(options.max_pages or settings.wallhaven_max_pages, options.refresh),
        progress=runtime.progress,
    )


async def run_load(runtime: Runtime, run_key: int) -> StageReport:
    """Run the stage `load`."""
    return await load(run_key, catalog=PostgresLoads(runtime.database))


async def run_transfer(
    runtime: Runtime,
    run_key: int,
    options: RunOptions,
    *,
    stored_before: int = 0,
    supply: Supply | None = None,
) -> StageReport:
    """Run the stage `transfer`; the limit is of the run, which has `stored_before` already."""
    settings = runtime.settings
    limit = settings.upload_batch_limit if options.limit is None else options.limit
    fitted = await fit_store(runtime.store)
    report = await transfer(
        run_key,
        catalog=runtime.transfers,
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
    runtime: Runtime, run_key: int, options: RunOptions, api: ApiClient
) -> StageReport:
    """Run the stage `enrich`."""
    limit = DEFAULT_ENRICHMENTS if options.limit is None else options.limit
    return await enrich(
        run_key,
        source=details_of(runtime.settings),
        api=api,
        catalog=runtime.enrichments,
        options=EnrichOptions(limit),
        progress=runtime.progress,
    )


async def run_audit(runtime: Runtime, run_key: int) -> AuditRow:
    """Run the stage `audit`."""
    return await audit(
        run_key,
        catalog=runtime.runs,
        max_dead_percent=runtime.settings.collector_max_dead_percent,
    )
