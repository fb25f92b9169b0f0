"""Records of a run: who it is, what each stage counted, what the audit says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

DEFAULT_DAG_ID = "collector"
# A run that was last heard of so long ago, with a stage that was running, has crashed. Its process
# says every minute that it lives; the rest is for a scheduler, which may let much time pass between
# an attempt that was killed and the next.
SILENT_SECONDS = 3600.0
# An upload is noted before its first part, so only who died in between leaves one that no table
# knows. A day is far longer than any image takes: other collectors may share the bucket.
STALE_UPLOAD_SECONDS = 86_400.0
# A year, and time to look at it. A run of every day leaves some thousand rows.
KEEP_DAYS = 400
# Wallpapers that one enrichment run asks about: 11 minutes of a day's 1440 at the documented 45
# requests a minute, so that much is left for whoever reads pages.
DEFAULT_ENRICHMENTS = 500
# A run without a running stage waits: its next task may stand in a pool for hours, or be
# paused over a weekend. After so many times SILENT_SECONDS, a week, no next stage is expected any
# more: its process died between two stages, and its scheduler never said so.
WAITS_LONGER = 168


class StageName(StrEnum):
    """The four stages of a run, in their order, and the one of an enrichment run."""

    EXTRACT = "extract"
    LOAD = "load"
    TRANSFER = "transfer"
    AUDIT = "audit"
    ENRICH = "enrich"


class RunStatus(StrEnum):
    """How a run stands or ended; the `status` column of `run_audit`."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CRASHED = "crashed"


class StageStatus(StrEnum):
    """How one stage of a run stands or ended."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Run:
    """Identity of a run: the same pair again continues that run.

    Several processes may do one stage of it at once, each as a `worker` of its own.
    """

    dag_id: str
    run_id: str
    logical_date: datetime | None = None
    worker: int = 0


@dataclass(frozen=True, slots=True)
class StageCall:
    """A stage of a run, as one worker does it."""

    audit_id: int
    stage: StageName
    worker: int = 0


@dataclass(frozen=True, slots=True)
class SilentRun:
    """A run that is said to be running, and when it was last heard of."""

    audit_id: int
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did in this call: counts named as the columns of `run_audit`."""

    stage: StageName
    counts: Mapping[str, int]
    details: Mapping[str, Json] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        """Return one flat JSON object: the stage, its counts, its details."""
        return {"stage": self.stage.value, **self.counts, **self.details}


@dataclass(frozen=True, slots=True)
class StageEnd:
    """How a stage ended: its report, or the problem that stopped it."""

    status: StageStatus
    report: Mapping[str, Json]
    problem: str | None = None
