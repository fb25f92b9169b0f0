"""Records of a run: its identity, its stages and their reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

DEFAULT_DAG_ID = "collector"
# A run in a stage has crashed if its last heartbeat is older than this. The process sends one every
# minute; the margin is for schedulers, which may wait long before they retry a killed attempt.
SILENT_SECONDS = 3600.0
# A run between two stages may wait for hours in a pool, or be paused over a weekend. After this
# multiple of SILENT_SECONDS, a week, its process has died and its scheduler never reported it.
WAITS_LONGER = 168
# An upload is noted before its first part, so no table knows it only if its process died in
# between. A day is far longer than any image takes: other collectors may share the bucket.
STALE_UPLOAD_SECONDS = 86_400.0
# A year, and time to look at it. A daily run leaves some thousand rows.
KEEP_DAYS = 400
# Wallpapers that one enrichment run asks about: 11 minutes of a day's 1440 at the documented 45
# requests a minute, which leaves enough for the runs that read pages.
DEFAULT_ENRICHMENTS = 500


class StageName(StrEnum):
    """The four stages of a run, in order, and the one of an enrichment run."""

    EXTRACT = "extract"
    LOAD = "load"
    TRANSFER = "transfer"
    AUDIT = "audit"
    ENRICH = "enrich"


class RunStatus(StrEnum):
    """The `status` column of `run_audit`."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    CRASHED = "crashed"


class StageStatus(StrEnum):
    """The `status` column of `run_stages`."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Run:
    """Identity of a run: the same `dag_id` and `run_id` continue that run.

    Several processes may run one stage at once, each with its own `worker` number.
    """

    dag_id: str
    run_id: str
    logical_date: datetime | None = None
    worker: int = 0


@dataclass(frozen=True, slots=True)
class StageCall:
    """One worker's share of a stage of a run."""

    audit_id: int
    stage: StageName
    worker: int = 0


@dataclass(frozen=True, slots=True)
class SilentRun:
    """A run with status `running`, and its last heartbeat."""

    audit_id: int
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one stage did in this call; counts are named as the columns of `run_audit`."""

    stage: StageName
    counts: Mapping[str, int]
    details: Mapping[str, Json] = field(default_factory=dict)

    def as_json(self) -> dict[str, Json]:
        return {"stage": self.stage.value, **self.counts, **self.details}


@dataclass(frozen=True, slots=True)
class StageEnd:
    """How a stage ended: its report, or the problem that stopped it."""

    status: StageStatus
    report: Mapping[str, Json]
    problem: str | None = None


def record_as_json(record: DataclassInstance) -> dict[str, Json]:
    """Return a dataclass as one JSON object; times are ISO 8601."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(record).items()
    }
