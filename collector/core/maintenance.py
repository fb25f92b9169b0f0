"""Records of `verify` and of the janitor: what they compare, find and clean up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from collector.core.errors import CollectorError, ItemError, NotRetryable
from collector.core.keys import KEY_PREFIX, expected_type, object_key
from collector.core.runs import Json, record_as_json

# A report lists this many differences, and counts all. A person reads a page or two, and a million
# of them must not fill the memory.
MAX_LISTED = 1_000


class Kind(StrEnum):
    """How an object and a row differ."""

    MISSING = "missing"
    SIZE_DIFFERS = "size_differs"
    BYTES_DIFFER = "bytes_differ"
    UNREADABLE = "unreadable"
    UNCONFIRMED = "unconfirmed"
    UNOWNED = "unowned"


KIND_MEANING: dict[Kind, str] = {
    Kind.MISSING: "the row names an object that does not exist",
    Kind.SIZE_DIFFERS: "the length of the object is not the row's",
    Kind.BYTES_DIFFER: "the sha256 of the object's bytes is not the row's",
    Kind.UNREADABLE: "the store does not answer for this object, or breaks off each time",
    Kind.UNCONFIRMED: "an object is stored under the key of a row that is not marked as stored",
    Kind.UNOWNED: "an object that belongs to no row",
}


class Repair(StrEnum):
    """What was done about a difference. Nothing is ever deleted from the bucket."""

    REQUEUED = "requeued"
    ADOPTED = "adopted"
    QUARANTINED = "quarantined"


class Standing(StrEnum):
    """Why an object that was listed without a stored row is not a difference."""

    MATCHED = "matched"
    QUARANTINED = "quarantined"
    IN_PROGRESS = "in_progress"


@dataclass(frozen=True, slots=True)
class ListedObject:
    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class KeyedRow:
    """A row that names an object.

    Hash and size are None if the synchronous original stored it: nothing proves such an object.
    """

    wallpaper_id: int
    wallhaven_id: str
    s3_key: str
    object_sha256: str | None
    object_bytes: int | None


@dataclass(frozen=True, slots=True)
class PresentRow:
    """A row as it is now; `is_claimed` while a worker has claimed its image."""

    wallpaper_id: int
    wallhaven_id: str
    url: str
    file_type: str | None
    file_size: int | None
    s3_key: str | None
    object_sha256: str | None
    object_bytes: int | None
    is_claimed: bool

    @property
    def planned_key(self) -> str | None:
        """The key that its image will get, None if the row is unfit for one."""
        return _key_or_none(self)


@dataclass(frozen=True, slots=True)
class QuarantinedObject:
    """An object that is left alone for a person to check."""

    s3_key: str
    etag: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Difference:
    """An object or row that differs, and what was done about it (None: nothing)."""

    kind: Kind
    s3_key: str
    wallhaven_id: str | None
    detail: str
    repair: Repair | None = None

    def as_json(self) -> dict[str, Json]:
        return record_as_json(self)


@dataclass(slots=True)
class Findings:
    """What a comparison has found so far: all counted, the first MAX_LISTED differences listed.

    `unproven` rows come from the synchronous original: only the presence of their object can be
    checked. `in_progress` counts what a run is changing at the moment.
    """

    rows: int = 0
    objects: int = 0
    bytes: int = 0
    matched: int = 0
    unproven: int = 0
    in_progress: int = 0
    quarantined: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    repairs: Counter[Repair] = field(default_factory=Counter)
    listed: list[Difference] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        self.kinds[difference.kind] += 1
        if difference.repair is not None:
            self.repairs[difference.repair] += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(difference)

    @property
    def left(self) -> int:
        """Differences about which nothing was done."""
        return self.kinds.total() - self.repairs.total()

    def counts(self) -> dict[str, int]:
        return {
            "rows": self.rows,
            "objects": self.objects,
            "bytes": self.bytes,
            "matched": self.matched,
            "unproven": self.unproven,
            "in_progress": self.in_progress,
            "quarantined_objects": self.quarantined,
            **{kind.value: self.kinds[kind] for kind in Kind},
            **{repair.value: self.repairs[repair] for repair in Repair},
            "left": self.left,
        }

    def as_json(self) -> dict[str, Json]:
        return {**self.counts(), "differences": [found.as_json() for found in self.listed]}


class BucketDiffers(NotRetryable):
    """Bucket and tables differ, and some differences were not repaired."""

    def __init__(self, findings: Findings) -> None:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(findings.kinds.items()))
        super().__init__(f"bucket and tables differ in {findings.left} places ({kinds})")
        self.counts = findings.counts()


def id_of_key(key: str) -> str:
    """Return the text between prefix and extension, where a wallpaper's id would be."""
    return key.removeprefix(KEY_PREFIX).partition(".")[0]


def classify_unmatched(
    found: ListedObject, row: PresentRow | None, *, quarantined: bool
) -> Kind | Standing:
    """Classify an object that was listed without a stored row.

    `row` is the wallpaper of its id as it is now; `quarantined`: the object is in
    `quarantined_objects`, and has not changed since.
    """
    if row is not None and row.s3_key == found.key:
        return Standing.MATCHED  # a run has confirmed it since the rows were read
    if quarantined:
        return Standing.QUARANTINED
    if row is None or row.s3_key is not None or row.planned_key != found.key:
        return Kind.UNOWNED
    return Standing.IN_PROGRESS if row.is_claimed else Kind.UNCONFIRMED


@dataclass(frozen=True, slots=True)
class Lapsed:
    """Claims whose process is gone: `released` are due again, `dead` had no attempt left."""

    released: int
    dead: int


@dataclass(frozen=True, slots=True)
class NotedUpload:
    """A multipart upload that was noted for a wallpaper which no worker has claimed."""

    wallpaper_id: int
    wallhaven_id: str
    url: str
    file_type: str | None
    upload_id: str

    @property
    def key(self) -> str | None:
        """The key of the upload, None if the row no longer gives one."""
        return _key_or_none(self)


def _key_or_none(row: PresentRow | NotedUpload) -> str | None:
    try:
        return object_key(row.wallhaven_id, expected_type(row.file_type, row.url))
    except ItemError:
        return None


@dataclass(frozen=True, slots=True)
class Swept:
    """Multipart uploads that were aborted, and those that the store did not abort."""

    aborted: int
    left: int


class RunDetail(StrEnum):
    """The tables with details of a run, in the order in which they can be trimmed.

    Pages refer to loads, so they go first.
    """

    ITEMS = "run_items"
    ENRICHMENTS = "run_enrichments"
    PAGES = "staged_pages"
    LOADS = "run_loads"
    LETTERS = "dead_letters"


@dataclass(frozen=True, slots=True)
class Trimmed:
    """How many runs were closed for good, and how many rows of their details were deleted."""

    runs: int
    rows: Mapping[RunDetail, int]


class UploadsLeft(CollectorError):
    """The store did not abort some stale uploads; the next janitor retries them."""

    def __init__(self, left: int) -> None:
        super().__init__(
            f"{left} stale uploads could not be aborted; the next janitor retries them"
        )
