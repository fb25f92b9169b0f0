"""Upkeep: what is neither stage nor run, but keeps bucket and tables in agreement."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from collector.adapters.postgres import PostgresJanitor, PostgresVerification
from collector.core.runs import SILENT_SECONDS
from collector.core.upkeep import RunDetail
from collector.core.verification import Findings
from collector.runtime.capability import fit_store
from collector.runtime.needs import Need
from collector.runtime.opening import Runtime
from collector.runtime.running import log_audit
from collector.stages.audit import close_crashed
from collector.stages.janitor import abort_stale_uploads, trim_old_runs
from collector.stages.verify import VerifyOptions, verify

logger = logging.getLogger("collector")

UPKEEP_NEEDS = Need.SCHEMA | Need.STORE

# An upload is noted before its first part, so only who died in between leaves one that no table
# knows. A day is far longer than any image takes: other collectors may share the bucket.
STALE_UPLOAD_SECONDS = 86_400.0
# A year, and time to look at it. A run of every day leaves some thousand rows.
KEEP_DAYS = 400
_NO_RUN = 0


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
    catalog = PostgresJanitor(runtime.database, settings.collector_max_attempts)
    lapsed = await catalog.release_lapsed()
    logger.info("[draenei] janitor: released=%d dead_letters=%d", lapsed.released, lapsed.dead)
    closed = await close_crashed(
        runtime.runs,
        but=_NO_RUN,
        max_dead_percent=settings.collector_max_dead_percent,
        silent_seconds=options.run_silence_seconds,
    )
    for row in closed:
        log_audit(row)
    trimmed = await trim_old_runs(catalog, options.keep_days)
    rows = " ".join(f"{detail}={count}" for detail, count in trimmed.rows.items())
    logger.info("[draenei] janitor: runs_trimmed=%d %s", trimmed.runs, rows)
    begun_before = datetime.now(UTC) - timedelta(seconds=options.upload_age_seconds)
    swept = await abort_stale_uploads(catalog, runtime.store, begun_before)
    logger.info("[draenei] janitor: uploads_aborted=%d left=%d", swept.aborted, swept.left)
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
        catalog=PostgresVerification(runtime.database),
        store=runtime.store,
        options=VerifyOptions(
            deep=deep,
            repair=repair,
            readers=runtime.settings.collector_in_flight,
            # Adoption goes by the store's own checksum: worth what a probe finds it to be.
            trusts_checksums=repair and (await fit_store(runtime.store)).trusts_checksums,
            refill=refill,
        ),
        progress=runtime.progress,
    )
    counts = " ".join(f"{name}={count}" for name, count in findings.counts().items())
    logger.info("[draenei] verify: %s", counts)
    return findings
