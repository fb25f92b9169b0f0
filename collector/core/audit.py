"""Decide what the audit says about a run: its status, its notes, its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from collector.core.certificate import (
    Certificate,
    CrawlFacts,
    CrawlVerdict,
    certify,
    named_pages,
)
from collector.core.errors import TooManyDead
from collector.core.runs import Json, RunStatus, StageName, record_as_json

# Fewer dead letters never fail a run: 1 of 10 items is no pattern.
MIN_DEAD_FOR_FAILURE = 10
# Keys of stage reports: how long the API was down, what the store lacks, and the search if it has
# no items.
OUTAGE_SECONDS = "outage_seconds"
STORE_LACKS = "store_lacks"
MATCHES_NOTHING = "matches_nothing"


@dataclass(frozen=True, slots=True)
class Recount:
    """Numbers counted from the tables; the first eleven are named as the columns of `run_audit`.

    `claimed_by_others` counts images that other workers, alive or dead, have claimed: this run has
    released its own claims.
    """

    metadata_inserted: int
    metadata_updated: int
    metadata_unchanged: int
    metadata_invalid: int
    images_uploaded: int
    images_adopted: int
    bytes_uploaded: int
    download_failures: int
    upload_failures: int
    missing_s3_after_run: int
    api_requests: int
    duplicates: int
    pages: int
    images_dead: int
    claimed_by_others: int
    any_failed: bool
    any_interrupted: bool
    stage_reports: Mapping[str, Json]
    problems: str | None
    unreadable_pages: Sequence[int] = ()
    crawl: CrawlFacts | None = None
    enrichment: Mapping[str, int] = field(default_factory=dict)
    any_running: bool = False

    @property
    def items_seen(self) -> int:
        rows = self.metadata_inserted + self.metadata_updated + self.metadata_unchanged
        return rows + self.metadata_invalid + self.duplicates

    @property
    def image_failures(self) -> int:
        """Images whose last attempt in this run failed, each counted once."""
        return self.download_failures + self.upload_failures

    @property
    def images_attempted(self) -> int:
        return self.images_uploaded + self.images_adopted + self.image_failures


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What the audit row says in addition to the counters."""

    status: RunStatus
    notes: str | None
    report: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of `run_audit`; fields are named as its columns."""

    dag_id: str
    run_id: str
    logical_date: datetime | None
    started_at: datetime
    ended_at: datetime
    duration_seconds: float
    metadata_inserted: int
    metadata_updated: int
    metadata_unchanged: int
    metadata_invalid: int
    images_uploaded: int
    images_adopted: int
    bytes_uploaded: int
    download_failures: int
    upload_failures: int
    missing_s3_after_run: int
    api_requests: int
    status: RunStatus
    notes: str | None
    report: dict[str, Json]

    def as_json(self) -> dict[str, Json]:
        return record_as_json(self)


def conclude_run(recount: Recount, max_dead_percent: float) -> Conclusion:
    """Decide how the run ended, from the recount alone.

    Failed: no stage ran, or one failed or died, or dead letters of one kind are more than
    `max_dead_percent` of what was handled and at least MIN_DEAD_FOR_FAILURE. Partial: some items
    failed, were given up, are claimed by other workers, or were not shown to a crawl, or some pages
    were short or unreadable. A stage that is still running counts as failed: its process is gone.
    """
    extracted = _extracted(recount)
    is_read = bool(extracted.get("is_read"))
    certificate = certify(recount.crawl, is_read=is_read) if recount.crawl else None
    failures = [
        too_many_dead(recount, max_dead_percent),
        None if recount.stage_reports else "no stage of this run has run",
    ]
    claimed = _claimed_elsewhere(recount)
    unread = _uncertified(certificate) if certificate else _odd_pages(recount)
    is_open_crawl = certificate is not None and certificate.verdict is None
    is_incomplete = bool(claimed or (unread and not is_open_crawl))
    status = _status(recount, is_failed=any(failures), is_incomplete=is_incomplete)
    outage_minutes = _outage_minutes(recount)
    notes = (
        recount.problems,
        *failures,
        _failed_items(recount) if status is RunStatus.PARTIAL else None,
        claimed,
        unread,
        _outage(outage_minutes) if status is RunStatus.FAILED else None,
        _store_lacks(recount),
        _matches_nothing(extracted),
    )
    return Conclusion(
        status=status,
        notes="; ".join(str(note) for note in notes if note) or None,
        report=_report(recount, certificate, outage_minutes),
    )


def conclude_silent_run(
    recount: Recount, heard_at: datetime, max_dead_percent: float
) -> Conclusion:
    """Conclude a run that never reached its audit: `heard_at` is its last heartbeat.

    `crashed` if one of its stages was running, `interrupted` if it waited for the next one,
    whatever its stages reported.
    """
    conclusion = conclude_run(recount, max_dead_percent)
    what = "last heartbeat at" if recount.any_running else "waited for its next stage since"
    silence = f"{what} {heard_at.isoformat(timespec='seconds')}"
    return replace(
        conclusion,
        status=RunStatus.CRASHED if recount.any_running else RunStatus.INTERRUPTED,
        notes=f"{silence}; {conclusion.notes}" if conclusion.notes else silence,
    )


def too_many_dead(recount: Recount, max_dead_percent: float) -> TooManyDead | None:
    """Return the first kind of which too many were given up, None if there is none."""
    unreadable = len(recount.unreadable_pages)
    kinds = (
        TooManyDead("pages", unreadable, recount.pages + unreadable),
        TooManyDead("items", recount.metadata_invalid, recount.items_seen),
        TooManyDead("images", recount.images_dead, recount.images_attempted),
    )
    return next(
        (kind for kind in kinds if is_too_many(kind.dead, kind.handled, max_dead_percent)), None
    )


def is_too_many(dead: int, handled: int, max_dead_percent: float) -> bool:
    """Return whether `dead` of `handled` items given up are enough to fail a run."""
    share_percent = 100.0 * dead / max(1, handled)
    return dead >= MIN_DEAD_FOR_FAILURE and share_percent > max_dead_percent


def _status(recount: Recount, *, is_failed: bool, is_incomplete: bool) -> RunStatus:
    if recount.any_interrupted:
        return RunStatus.INTERRUPTED
    if recount.any_failed or is_failed:
        return RunStatus.FAILED
    failures = recount.image_failures + recount.images_dead + recount.metadata_invalid
    failures += sum(recount.enrichment.get(name, 0) for name in ("unusable", "rejected_tags"))
    return RunStatus.PARTIAL if failures or is_incomplete else RunStatus.SUCCEEDED


def _report(
    recount: Recount, certificate: Certificate | None, outage_minutes: float
) -> dict[str, Json]:
    report: dict[str, Json] = {"certificate": certificate.as_json()} if certificate else {}
    report |= {
        "outage_minutes": outage_minutes,
        "items_seen": recount.items_seen,
        "duplicates": recount.duplicates,
        "pages": recount.pages,
        # Not counted from dead letters, which a later run or a person may close.
        "metadata_dead": recount.metadata_invalid,
        "images_dead": recount.images_dead,
        "claimed_by_others": recount.claimed_by_others,
    }
    if StageName.ENRICH in recount.stage_reports:
        report["enrichment"] = dict(recount.enrichment)
    return report | {"stages": dict(recount.stage_reports)}


def _extracted(recount: Recount) -> Mapping[str, Json]:
    report = recount.stage_reports.get(StageName.EXTRACT)
    return report if isinstance(report, dict) else {}


def _failed_items(recount: Recount) -> str | None:
    numbers = {
        "images that failed": recount.image_failures,
        "images given up": recount.images_dead,
        "items refused": recount.metadata_invalid,
    }
    return ", ".join(f"{name}: {number}" for name, number in numbers.items() if number) or None


def _claimed_elsewhere(recount: Recount) -> str | None:
    if not recount.claimed_by_others or StageName.TRANSFER not in recount.stage_reports:
        return None
    return f"images claimed by other workers, which may be dead: {recount.claimed_by_others}"


def _odd_pages(recount: Recount) -> str | None:
    short = _extracted(recount).get("short_pages")
    unreadable = named_pages(recount.unreadable_pages)
    notes = (
        f"pages with too few items: {short}" if short else None,
        f"pages that could not be read: {unreadable}" if unreadable else None,
    )
    return "; ".join(note for note in notes if note) or None


def _uncertified(certificate: Certificate) -> str | None:
    if certificate.verdict in (CrawlVerdict.COMPLETE, CrawlVerdict.EXPLAINED):
        return None
    return f"crawl {certificate.verdict or 'open'}: {certificate.explanation}"


def _outage(minutes: float) -> str | None:
    return f"the API was down for {minutes:g} minutes" if minutes else None


def _store_lacks(recount: Recount) -> str | None:
    workers = _workers(recount.stage_reports.get(StageName.TRANSFER))
    reports = [report for report in workers if isinstance(report, dict)]
    lacks = next((report[STORE_LACKS] for report in reports if report.get(STORE_LACKS)), None)
    return f"the store lacks {', '.join(map(str, lacks))}" if isinstance(lacks, list) else None


def _matches_nothing(extracted: Mapping[str, Json]) -> str | None:
    search = extracted.get(MATCHES_NOTHING)
    return f"the search matches nothing: {search}" if search else None


def _outage_minutes(recount: Recount) -> float:
    # Workers of one stage meet the same outage at the same time.
    reports = recount.stage_reports.values()
    seconds = (max(map(_outage_seconds, _workers(report))) for report in reports)
    return round(sum(seconds) / 60.0, 2)


def _outage_seconds(report: Json) -> float:
    seconds = report.get(OUTAGE_SECONDS) if isinstance(report, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _workers(report: Json) -> list[Json]:
    workers = report.get("workers") if isinstance(report, dict) else None
    return workers if isinstance(workers, list) and workers else [report]
