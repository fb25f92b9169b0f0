"""What `verify` compares and finds, and what the janitor tidies up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from collector.core.errors import CollectorError, ItemError, NotRetryable
from collector.core.keys import KEY_PREFIX, expected_type, object_key
from collector.core.runs import Json

# Differences that a report lists one by one; all are counted. A person reads a page or two, and
# a million of them must not fill the memory.
MAX_LISTED = 1_000


class Kind(StrEnum):
    """How an object and a row differ."""

    MISSING = "missing"
    SIZE_DIFFERS = "size_differs"
    BYTES_DIFFER = "bytes_differ"
    UNREADABLE = "unreadable"
    UNCONFIRMED = "unconfirmed"
    UNOWNED = "unowned"


# One sentence for each kind.
KIND_MEANING: dict[Kind, str] = {
    Kind.MISSING: "the row names an object that is not there",
    Kind.SIZE_DIFFERS: "the object is not as long as its row says",
    Kind.BYTES_DIFFER: "the object's bytes have another sha256 than its row says",
    Kind.UNREADABLE: "the store does not answer for this object, or breaks off each time",
    Kind.UNCONFIRMED: "an object lies under the key of a row that is not stored",
    Kind.UNOWNED: "an object that belongs to no row",
}


class Repair(StrEnum):
    """What was done about a difference. Nothing is ever deleted from the bucket."""

    REQUEUED = "requeued"
    ADOPTED = "adopted"
    QUARANTINED = "quarantined"


class Standing(StrEnum):
    """What an object is that no stored row claims, where that is no difference."""

    MATCHED = "matched"
    QUARANTINED = "quarantined"
    IN_HAND = "in_hand"


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as the bucket lists it."""

    key: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class KeyedRow:
    """A row that names an object.

    Hash and size are None where the synchronous original stored it: nothing proves such an object.
    """

    wallpaper_id: int
    wallhaven_id: str
    s3_key: str
    object_sha256: str | None
    object_bytes: int | None


@dataclass(frozen=True, slots=True)
class PresentRow:
    """A row as it is at this moment; `is_in_hand` while a worker holds its image."""

    wallpaper_id: int
    wallhaven_id: str
    url: str
    file_type: str | None
    file_size: int | None
    s3_key: str | None
    object_sha256: str | None
    object_bytes: int | None
    is_in_hand: bool

    @property
    def planned_key(self) -> str | None:
        """The key that its image will have, None where it can have none."""
        try:
            return object_key(self.wallhaven_id, expected_type(self.file_type, self.url))
        except ItemError:
            return None


@dataclass(frozen=True, slots=True)
class QuarantinedObject:
    """An object that is left alone for a person to look at."""

    s3_key: str
    etag: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One object or row that differs, and what was done about it (None: nothing)."""

    kind: Kind
    s3_key: str
    wallhaven_id: str | None
    detail: str
    repair: Repair | None = None

    def as_json(self) -> dict[str, Json]:
        """Return it as one flat JSON object."""
        return {
            "kind": self.kind,
            "s3_key": self.s3_key,
            "wallhaven_id": self.wallhaven_id,
            "detail": self.detail,
            "repair": self.repair,
        }


@dataclass(slots=True)
class Findings:
    """What a comparison has found so far: numbers of all, the first MAX_LISTED one by one.

    `unproven` rows are the original's, of which only the presence can be told; `in_hand` objects
    are being confirmed at this moment.
    """

    rows: int = 0
    objects: int = 0
    bytes: int = 0
    matched: int = 0
    unproven: int = 0
    in_hand: int = 0
    quarantined: int = 0
    kinds: Counter[Kind] = field(default_factory=Counter)
    repairs: Counter[Repair] = field(default_factory=Counter)
    listed: list[Difference] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        """Note a difference."""
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
        """Return all numbers, each under one name."""
        return {
            "rows": self.rows,
            "objects": self.objects,
            "bytes": self.bytes,
            "matched": self.matched,
            "unproven": self.unproven,
            "in_hand": self.in_hand,
            "quarantined_objects": self.quarantined,
            **{kind.value: self.kinds[kind] for kind in Kind},
            **{repair.value: self.repairs[repair] for repair in Repair},
            "left": self.left,
        }

    def as_json(self) -> dict[str, Json]:
        """Return numbers and listed differences as one JSON object."""
        return {**self.counts(), "differences": [found.as_json() for found in self.listed]}


class BucketDiffers(NotRetryable):
    """Bucket and tables differ, and that was not put right; `counts` says how much of what."""

    def __init__(self, findings: Findings) -> None:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(findings.kinds.items()))
        super().__init__(f"bucket and tables differ in {findings.left} places ({kinds})")
        self.counts = findings.counts()


def id_of_key(key: str) -> str:
    """Return what stands where a wallpaper's id would: between prefix and extension."""
    return key.removeprefix(KEY_PREFIX).partition(".")[0]


def judge_stray(
    found: ListedObject, row: PresentRow | None, *, quarantined: bool
) -> Kind | Standing:
    """Say what an object is that was listed without a stored row.

    `row` is the wallpaper of its id as it is now; `quarantined` says that the object is on the list
    of strays, and is still the same.
    """
    if row is not None and row.s3_key == found.key:
        return Standing.MATCHED  # it was confirmed since the rows were read
    if quarantined:
        return Standing.QUARANTINED
    if row is None or row.s3_key is not None or row.planned_key != found.key:
        return Kind.UNOWNED
    return Standing.IN_HAND if row.is_in_hand else Kind.UNCONFIRMED


@dataclass(frozen=True, slots=True)
class Lapsed:
    """Claims whose process is gone: `released` are due again, `dead` had no try left."""

    released: int
    dead: int


@dataclass(frozen=True, slots=True)
class NotedUpload:
    """A multipart upload that was noted for a wallpaper which nobody has in hand."""

    wallpaper_id: int
    wallhaven_id: str
    url: str
    file_type: str | None
    upload_id: str

    @property
    def key(self) -> str | None:
        """The key that it was begun under, None where the row no longer tells."""
        try:
            return object_key(self.wallhaven_id, expected_type(self.file_type, self.url))
        except ItemError:
            return None


@dataclass(frozen=True, slots=True)
class Swept:
    """Multipart uploads that were dropped, and those that the store would not let go of."""

    aborted: int
    left: int


class RunDetail(StrEnum):
    """What a run leaves beside its audit, by table, in the order in which it can be trimmed.

    Pages go before the loads that they name.
    """

    ITEMS = "run_items"
    ENRICHMENTS = "run_enrichments"
    PAGES = "staged_pages"
    LOADS = "run_loads"
    LETTERS = "dead_letters"


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Runs that were closed for good, and rows of their details that were deleted."""

    runs: int
    rows: Mapping[RunDetail, int]


class UploadsLeft(CollectorError):
    """The store would not let go of multipart uploads; the next janitor tries them again."""

    def __init__(self, left: int) -> None:
        super().__init__(
            f"{left} stale uploads could not be aborted; they are tried again next time"
        )
        self.left = left
