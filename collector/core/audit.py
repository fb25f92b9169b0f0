"""What a recount says about a run: its status, its notes, its row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime

from collector.core.certificate import (
    Certificate,
    CrawlFacts,
    CrawlVerdict,
    certify,
    named_pages,
)
from collector.core.errors import TooManyDead
from collector.core.runs import Json, RunStatus, StageName

# Below this many dead letters a run is not failed for their share: 1 of 10 is no pattern.
MIN_DEAD_FOR_FAILURE = 10
# How long the API did not answer a stage, in the stage's report.
OUTAGE_SECONDS = "outage_seconds"
# What the store of a transfer does not do by itself, in the stage's report.
STORE_LACKS = "store_lacks"
# Of a search without items, in the stage's report.
MATCHES_NOTHING = "matches_nothing"


@dataclass(frozen=True, slots=True)
class Recount:
    """Numbers counted anew from the tables; the first ones are named as the audit's columns."""

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
    in_other_hands: int
    any_failed: bool
    any_interrupted: bool
    stage_reports: Mapping[str, Json]
    problems: str | None
    unreadable_pages: Sequence[int] = ()
    crawl: CrawlFacts | None = None
    enrichment: Mapping[str, int] = field(default_factory=dict)
    any_running: bool = False

    @property
    def metadata_dead(self) -> int:
        """Items that were given up at the load: each that was refused, and never listed as sound.

        Not counted from dead letters, which a later run, or a person, may close.
        """
        return self.metadata_invalid

    @property
    def items_seen(self) -> int:
        """Items that the API listed."""
        rows = self.metadata_inserted + self.metadata_updated + self.metadata_unchanged
        return rows + self.metadata_invalid + self.duplicates

    @property
    def is_read(self) -> bool:
        """True where a crawl says that it has read its list to the end."""
        return bool(_extracted(self).get("is_read"))

    @property
    def images_tried(self) -> int:
        """Distinct images that this run had in its hands."""
        failures = self.download_failures + self.upload_failures
        return self.images_uploaded + self.images_adopted + failures


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is written beside the numbers."""

    status: RunStatus
    notes: str | None
    report: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of `run_audit`, field by column."""

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
        """Return the row as one JSON object; times are ISO 8601."""
        return {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
        }


def judge_run(recount: Recount, max_dead_percent: float) -> Verdict:
    """Say how the run ended, from the recount alone.

    Failed: no stage ran, or one failed or died, or the dead letters of one kind are above
    `max_dead_percent` of what was handled and at least MIN_DEAD_FOR_FAILURE. Partial: some
    items failed, were given up, are in other hands, or were not shown to a crawl, or some pages
    came short or could not be read. A running stage counts as failed: its process is gone.
    """
    too_many = too_many_dead(recount, max_dead_percent)
    nothing = None if recount.stage_reports else "no stage of this run has run"
    elsewhere = _in_other_hands(recount)
    certificate = certify(recount.crawl, is_read=recount.is_read) if recount.crawl else None
    odd = _odd_pages(recount)
    unseen = _unseen(certificate)
    unfinished = bool(elsewhere or odd or (unseen and certificate and certificate.verdict))
    status = _status(recount, failed=bool(too_many or nothing), unfinished=unfinished)
    minutes = _outage_minutes(recount)
    outage = _outage_note(minutes) if status is RunStatus.FAILED else None
    lost = _failed_items(recount) if status is RunStatus.PARTIAL else None
    lacking = _store_lacks(recount)
    empty = _matches_nothing(recount)
    found = (
        recount.problems,
        too_many,
        nothing,
        lost,
        elsewhere,
        odd,
        unseen,
        outage,
        lacking,
        empty,
    )
    return Verdict(
        status=status,
        notes="; ".join(str(note) for note in found if note) or None,
        report={
            **({"certificate": certificate.as_json()} if certificate else {}),
            "outage_minutes": minutes,
            "items_seen": recount.items_seen,
            "duplicates": recount.duplicates,
            "pages": recount.pages,
            "metadata_dead": recount.metadata_dead,
            "images_dead": recount.images_dead,
            "in_other_hands": recount.in_other_hands,
            **_enrichment(recount),
            "stages": dict(recount.stage_reports),
        },
    )


def judge_silent(recount: Recount, heard_at: datetime, max_dead_percent: float) -> Verdict:
    """Say of a run that fell silent what can be said: its numbers, and when it was heard of.

    `crashed` where one of its stages was running, `interrupted` where it waited for the next one:
    whatever its stages said, it never came to its audit.
    """
    verdict = judge_run(recount, max_dead_percent)
    said = "last heard of at" if recount.any_running else "waited for its next stage since"
    silence = f"{said} {heard_at.isoformat(timespec='seconds')}"
    return replace(
        verdict,
        status=RunStatus.CRASHED if recount.any_running else RunStatus.INTERRUPTED,
        notes=f"{silence}; {verdict.notes}" if verdict.notes else silence,
    )


def too_many_dead(recount: Recount, max_dead_percent: float) -> TooManyDead | None:
    """Return the kind of which more than `max_dead_percent` were given up, None if there is none.

    Fewer than MIN_DEAD_FOR_FAILURE are never too many.
    """
    unreadable = len(recount.unreadable_pages)
    kinds = (
        TooManyDead("pages", unreadable, recount.pages + unreadable),
        TooManyDead("items", recount.metadata_dead, recount.items_seen),
        TooManyDead("images", recount.images_dead, recount.images_tried),
    )
    return next(
        (kind for kind in kinds if is_too_many(kind.dead, kind.handled, max_dead_percent)), None
    )


def is_too_many(dead: int, handled: int, max_dead_percent: float) -> bool:
    """Say whether `dead` of `handled` items given up are enough to fail a run."""
    share_percent = 100.0 * dead / max(1, handled)
    return dead >= MIN_DEAD_FOR_FAILURE and share_percent > max_dead_percent


def _extracted(recount: Recount) -> Mapping[str, Json]:
    report = recount.stage_reports.get(StageName.EXTRACT)
    return report if isinstance(report, dict) else {}


def _failed_items(recount: Recount) -> str | None:
    images = recount.download_failures + recount.upload_failures
    numbers = {
        "images that failed": images,
        "images given up": recount.images_dead,
        "items refused": recount.metadata_invalid,
    }
    return ", ".join(f"{name}: {number}" for name, number in numbers.items() if number) or None


def _odd_pages(recount: Recount) -> str | None:
    if recount.crawl is not None:
        return None  # the certificate tells
    short = _extracted(recount).get("short_pages")
    unreadable = named_pages(recount.unreadable_pages)
    told = (
        f"pages that came short: {short}" if short else None,
        f"pages that could not be read: {unreadable}" if unreadable else None,
    )
    return "; ".join(note for note in told if note) or None


def _matches_nothing(recount: Recount) -> str | None:
    search = _extracted(recount).get(MATCHES_NOTHING)
    return f"the search matches nothing: {search}" if search else None


def _store_lacks(recount: Recount) -> str | None:
    workers = _workers(recount.stage_reports.get(StageName.TRANSFER))
    reports = [report for report in workers if isinstance(report, dict)]
    lacks = next((report[STORE_LACKS] for report in reports if report.get(STORE_LACKS)), None)
    return f"the store lacks {', '.join(map(str, lacks))}" if isinstance(lacks, list) else None


def _unseen(certificate: Certificate | None) -> str | None:
    if certificate is None or certificate.verdict in (
        CrawlVerdict.COMPLETE,
        CrawlVerdict.EXPLAINED,
    ):
        return None
    return f"crawl {certificate.verdict or 'open'}: {certificate.explanation}"


def _enrichment(recount: Recount) -> dict[str, Json]:
    if StageName.ENRICH not in recount.stage_reports:
        return {}
    return {"enrichment": dict(recount.enrichment)}


def _outage_minutes(recount: Recount) -> float:
    # Workers of a stage meet one outage at the same time.
    stages = [max(map(_outage_seconds, _workers(it))) for it in recount.stage_reports.values()]
    return round(sum(stages) / 60.0, 2)


def _outage_note(minutes: float) -> str | None:
    return f"the API was out for {minutes:g} minutes" if minutes else None


def _workers(report: Json) -> list[Json]:
    workers = report.get("workers") if isinstance(report, dict) else None
    return workers if isinstance(workers, list) and workers else [report]


def _outage_seconds(report: Json) -> float:
    seconds = report.get(OUTAGE_SECONDS) if isinstance(report, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def _in_other_hands(recount: Recount) -> str | None:
    # Ours were handed back before: another worker has these, or one that died.
    if not recount.in_other_hands or "transfer" not in recount.stage_reports:
        return None
    return f"images in the hands of other workers, or of dead ones: {recount.in_other_hands}"


def _status(recount: Recount, *, failed: bool, unfinished: bool) -> RunStatus:
    if recount.any_interrupted:
        return RunStatus.INTERRUPTED
    if recount.any_failed or failed:
        return RunStatus.FAILED
    failures = recount.download_failures + recount.upload_failures + recount.metadata_invalid
    failures += sum(recount.enrichment.get(name, 0) for name in ("unusable", "rejected_tags"))
    given_up = recount.metadata_dead + recount.images_dead
    return RunStatus.PARTIAL if failures or given_up or unfinished else RunStatus.SUCCEEDED
