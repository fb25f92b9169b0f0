"""Errors, as types that carry their data: callers decide by type and attribute, never by text."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Fault(StrEnum):
    """Fault class of a failure; docs/architecture.md says what follows from each."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    SYSTEMIC = "systemic"
    BUG = "bug"


class Edge(StrEnum):
    """The outside system that a failure came from."""

    API = "api"
    DOWNLOAD = "download"
    UPLOAD = "upload"
    DATABASE = "database"


class Code(StrEnum):
    """Why one item was given up; the `code` column of `dead_letters`."""

    INVALID_METADATA = "invalid_metadata"
    BAD_ID = "bad_id"
    TYPE_MISMATCH = "type_mismatch"
    SIZE_MISMATCH = "size_mismatch"
    LENGTH_MISMATCH = "length_mismatch"
    DIMENSION_MISMATCH = "dimension_mismatch"
    MAGIC_MISMATCH = "magic_mismatch"
    TRUNCATED = "truncated"
    HTML_RESPONSE = "html_response"
    EMPTY = "empty"
    TOO_LARGE = "too_large"
    NOT_FOUND = "not_found"
    GONE = "gone"
    FORBIDDEN = "forbidden"
    REDIRECT_REFUSED = "redirect_refused"
    HOST_REFUSED = "host_refused"
    CONFLICT_OBJECT = "conflict_object"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    SOURCE_ERROR = "source_error"
    STORE_ERROR = "store_error"
    EXHAUSTED = "exhausted"
    INTERNAL_ERROR = "internal_error"


# What the reader of a dead letter should know.
CODE_MEANING: dict[Code, str] = {
    Code.INVALID_METADATA: "the API item lacks a required field or has one of the wrong type",
    Code.BAD_ID: "the id is not 1 to 16 letters and digits, so it cannot become an object key",
    Code.TYPE_MISMATCH: "the bytes are not of the row's type, or the row names no type that is "
    "stored",
    Code.SIZE_MISMATCH: "the length of the body is not the row's file_size",
    Code.LENGTH_MISMATCH: "the length of the body is not its Content-Length",
    Code.DIMENSION_MISMATCH: "the image's pixel dimensions are not the row's",
    Code.MAGIC_MISMATCH: "the bytes are not an image of a known type",
    Code.TRUNCATED: "the image ends before its own end marker",
    Code.HTML_RESPONSE: "the image host answered with a page instead of an image",
    Code.EMPTY: "the body has no bytes",
    Code.TOO_LARGE: "the body is larger than COLLECTOR_MAX_IMAGE_BYTES, or than 32 MiB if the row "
    "gives no size",
    Code.NOT_FOUND: "the image host answered 404",
    Code.GONE: "the image host answered 410 or 451",
    Code.FORBIDDEN: "the image host answered 401 or 403",
    Code.REDIRECT_REFUSED: "the image host redirects to an address that is not allowed, or too "
    "often",
    Code.HOST_REFUSED: "the image address is not on a host of WALLHAVEN_IMAGE_HOSTS",
    Code.CONFLICT_OBJECT: "a different object is already stored under this key; it was left alone",
    Code.CHECKSUM_MISMATCH: "the store did not receive the bytes that were sent",
    Code.SOURCE_ERROR: "the image host failed: reset, timeout, 429 or 5xx",
    Code.STORE_ERROR: "the store failed for this object: timeout or 5xx",
    Code.EXHAUSTED: "the process died on each attempt at this item",
    Code.INTERNAL_ERROR: "a defect of the collector; the reason names the exception type",
}


class CollectorError(Exception):
    """Base of all foreseeable errors; `str()` is one line without secrets."""


class NotRetryable(CollectorError):
    """A retry fails the same way until a person fixes the cause. Schedulers retry all others."""


class SettingsError(NotRetryable):
    """A setting is missing or wrong: exit 2, known without the network."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting
        self.problem = problem


class SchemaMissing(NotRetryable):
    """The database has no schema of the collector, or an older one: exit 2, run `migrate`."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; run `collector migrate`")


class SchemaTooNew(SchemaMissing):
    """A newer collector has migrated the database: exit 2, only that version can use it."""

    def __init__(self, found: int, known: int) -> None:
        problem = f"the schema is at version {found}, this collector knows {known}"
        CollectorError.__init__(self, f"{problem}; use the newer collector")


class Outage(CollectorError):
    """A systemic failure, not the items' fault: attempts are refunded, and the run fails."""

    def __init__(self, edge: Edge, problem: str) -> None:
        super().__init__(f"{edge}: {problem}")
        self.edge = edge
        self.problem = problem


class Refusal(Outage, NotRetryable):
    """An edge answers and refuses: credentials, rights or the bucket's name are wrong."""


class MissingRight(Refusal):
    """A right is not granted, or a call is not supported; another call may work instead."""


class Unreadable(Outage):
    """One request is refused, unanswered or answered unusably, while others may succeed.

    It counts as an outage until another request was answered.
    """


class PayloadError(CollectorError):
    """An API answer is unusable as a whole (not JSON, wrong shape)."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class OtherSearch(NotRetryable):
    """The run has read pages of another search: a run id belongs to one search."""

    def __init__(self, was: str, asked: str) -> None:
        super().__init__(f"this run id has read {was}, not {asked}; use another --run-id")


class RunTrimmed(NotRetryable):
    """The details of the run are trimmed: its audit stands, and it cannot continue."""

    def __init__(self, run_id: str, audit_id: int) -> None:
        super().__init__(
            f"run {run_id} ended long ago, and its details are trimmed; use another id"
        )
        self.audit_id = audit_id


class QuestionIgnored(CollectorError):
    """The API's answer does not match the question, so it must not be mirrored."""

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__(f"the API ignored what was requested: {'; '.join(problems)}")


class StagingMismatch(CollectorError):
    """Staged rows and the page ledger disagree; nothing was merged."""

    def __init__(self, staged: int, ledger: int) -> None:
        super().__init__(f"staging holds {staged} rows but the page ledger says {ledger}")


class TooManyDead(NotRetryable):
    """The run has failed: it gave up on too many items of one kind."""

    def __init__(self, kind: str, dead: int, handled: int) -> None:
        percent = 100.0 * dead / max(1, handled)
        super().__init__(f"{dead} of {handled} {kind} given up ({percent:.1f} %)")
        self.kind = kind
        self.dead = dead
        self.handled = handled


class RunFailed(NotRetryable):
    """The audit says that the run has failed; `notes` are those of the audit."""

    def __init__(self, run_id: str, notes: str | None) -> None:
        super().__init__(f"run {run_id} failed" + (f": {notes}" if notes else ""))
        self.run_id = run_id
        self.notes = notes


class ImagesLeft(CollectorError):
    """A crawl has read its list but could not store all images; the next call retries them."""

    def __init__(self) -> None:
        super().__init__("some images are neither stored nor given up; run it again to retry them")


class UnknownRun(CollectorError):
    def __init__(self, dag_id: str, run_id: str) -> None:
        super().__init__(
            f"there is no run {run_id} of {dag_id}: nothing was audited; `collector status` lists"
            " the last runs"
        )


class ItemError(CollectorError):
    """One item failed; the others go on.

    `code` names the reason, `fault` decides about a retry, `edge` selects the failure counter.
    """

    def __init__(
        self,
        code: Code,
        reason: str,
        *,
        fault: Fault,
        edge: Edge = Edge.DOWNLOAD,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
        self.fault = fault
        self.edge = edge
        self.retry_after_seconds = retry_after_seconds


class ObjectConflict(ItemError):
    """A different object is stored under the item's key; it was left alone for a person to check.

    `is_damaged`: it is the collector's own object, damaged by a store without checksums. The code
    says so.
    """

    def __init__(
        self, s3_key: str, etag: str, size_bytes: int, *, is_damaged: bool = False
    ) -> None:
        code = Code.CHECKSUM_MISMATCH if is_damaged else Code.CONFLICT_OBJECT
        what = "a damaged copy of this image," if is_damaged else "a different object,"
        reason = f"{s3_key} holds {what} {size_bytes} bytes long; it was left alone"
        super().__init__(code, reason, fault=Fault.PERMANENT, edge=Edge.UPLOAD)
        self.s3_key = s3_key
        self.etag = etag
        self.size_bytes = size_bytes


class LeaseLost(CollectorError):
    """The claim is no longer valid: this attempt is dropped, the item's current owner decides."""

    def __init__(self, wallhaven_id: str) -> None:
        super().__init__(f"the lease of {wallhaven_id} is lost")
