"""What can go wrong, as types that carry their data.

Each error knows its fault class, and each failure of one item its dead-letter code, so that
callers decide by attribute and never by text.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class Fault(StrEnum):
    """Whose fault a failure is; decides attempts, leases and where it ends (docs/architecture)."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    SYSTEMIC = "systemic"
    BUG = "bug"


class Edge(StrEnum):
    """Where the world was touched when something failed."""

    API = "api"
    DOWNLOAD = "download"
    UPLOAD = "upload"
    DATABASE = "database"


class Code(StrEnum):
    """Why one item was given up on; the `code` column of `dead_letters`."""

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


# One sentence for each code: what the reader of a dead letter should know.
CODE_MEANING: dict[Code, str] = {
    Code.INVALID_METADATA: "the API item lacks a required field or has one of the wrong type",
    Code.BAD_ID: "the id is not 1 to 16 letters and digits, so no object key can be made of it",
    Code.TYPE_MISMATCH: "the bytes are not of the row's type, or the row names none that we store",
    Code.SIZE_MISMATCH: "the body is not as long as the row's file_size",
    Code.LENGTH_MISMATCH: "the body is not as long as its Content-Length",
    Code.DIMENSION_MISMATCH: "the picture's pixel dimensions are not the row's",
    Code.MAGIC_MISMATCH: "the bytes are no image of a known type",
    Code.TRUNCATED: "the image ends before its own end marker",
    Code.HTML_RESPONSE: "the image host answered with a page instead of an image",
    Code.EMPTY: "the body has no bytes",
    Code.TOO_LARGE: "the body is larger than COLLECTOR_MAX_IMAGE_BYTES, or, if the row tells no "
    "size, than 32 MiB",
    Code.NOT_FOUND: "the image host answered 404",
    Code.GONE: "the image host answered 410 or 451",
    Code.FORBIDDEN: "the image host answered 401 or 403",
    Code.REDIRECT_REFUSED: "the image host redirects to where we do not go, or too often",
    Code.HOST_REFUSED: "the image address is not on a host of WALLHAVEN_IMAGE_HOSTS",
    Code.CONFLICT_OBJECT: "another object is already stored under this key; it was left alone",
    Code.CHECKSUM_MISMATCH: "the store received other bytes than were sent",
    Code.SOURCE_ERROR: "the image host failed: reset, timeout, 429 or 5xx",
    Code.STORE_ERROR: "the store failed for this object: timeout or 5xx",
    Code.EXHAUSTED: "the process died each time while this item was in its hands",
    Code.INTERNAL_ERROR: "a defect of the collector; the reason names the exception type",
}


class CollectorError(Exception):
    """Base of every foreseeable error; `str()` is one clear line without secrets."""


class NotRetryable(CollectorError):
    """The same call again fails the same way, until somebody changes what is wrong.

    Schedulers go by it: they retry anything else.
    """


class SettingsError(NotRetryable):
    """A setting is missing or wrong: exit 2, known without the network."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting
        self.problem = problem


class SchemaMissing(NotRetryable):
    """The database has no schema of ours, or an older one: exit 2, `migrate` mends it."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"{problem}; run `collector migrate`")


class SchemaTooNew(SchemaMissing):
    """A newer collector has migrated the database: exit 2, only that version can use it."""

    def __init__(self, found: int, known: int) -> None:
        CollectorError.__init__(
            self,
            f"the schema is at version {found}, this collector knows {known}; use the newer one",
        )


class Outage(CollectorError):
    """A systemic failure: not the items' fault, so attempts are refunded and the run fails."""

    def __init__(self, edge: Edge, problem: str) -> None:
        super().__init__(f"{edge}: {problem}")
        self.edge = edge
        self.problem = problem


class Refusal(Outage, NotRetryable):
    """An edge is there and refuses us: credentials, rights or the bucket's name are wrong.

    Asking again is of no use before somebody mends that.
    """


class MissingRight(Refusal):
    """A right is not granted, or a call not supported: another one may do."""


class Unreadable(Outage):
    """One request is refused, not answered, or its answers are of no use: others may be answered.

    It is the outage that it is called until another request was answered.
    """


class PayloadError(CollectorError):
    """An API answer cannot be understood as a whole (not JSON, wrong shape)."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class OtherSearch(NotRetryable):
    """The run has read pages of another search: a run id belongs to one."""

    def __init__(self, was: str, asked: str) -> None:
        super().__init__(f"this run id has read {was}, not {asked}; use another --run-id")
        self.was = was
        self.asked = asked


class RunTrimmed(NotRetryable):
    """The details of the run are trimmed: its audit stands, and it cannot go on."""

    def __init__(self, run_id: str, audit_id: int) -> None:
        super().__init__(
            f"run {run_id} ended long ago, and its details are trimmed; use another id"
        )
        self.audit_id = audit_id


class QuestionIgnored(CollectorError):
    """The API answers another question than was asked: its answers must not be mirrored.

    `parameters` are those that it did not heed, as the API names them.
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        said = "; ".join(problem for _, problem in problems)
        super().__init__(f"the API did not heed what was asked for: {said}")
        self.parameters = tuple(parameter for parameter, _ in problems)


class StagingMismatch(CollectorError):
    """Staged rows and the page ledger disagree; nothing was merged."""

    def __init__(self, staged: int, ledger: int) -> None:
        super().__init__(f"staging holds {staged} rows but the page ledger says {ledger}")
        self.staged = staged
        self.ledger = ledger


class TooManyDead(NotRetryable):
    """The run gave up on so many items of one kind that it has failed."""

    def __init__(self, kind: str, dead: int, handled: int) -> None:
        self.kind = kind
        self.dead = dead
        self.handled = handled
        self.percent = 100.0 * dead / max(1, handled)
        super().__init__(f"{dead} of {handled} {kind} given up ({self.percent:.1f} %)")


class RunFailed(NotRetryable):
    """The audit has judged the run `run_id` as failed; `notes` are the audit's."""

    def __init__(self, run_id: str, notes: str | None) -> None:
        super().__init__(f"run {run_id} failed" + (f": {notes}" if notes else ""))
        self.run_id = run_id
        self.notes = notes


class ImagesLeft(CollectorError):
    """A crawl has read its list, and the next call tries images again that it could not store."""

    def __init__(self) -> None:
        super().__init__("some images are neither stored nor given up; run it again to retry them")


class UnknownRun(CollectorError):
    """A run that was never opened: there is nothing to audit."""

    def __init__(self, dag_id: str, run_id: str) -> None:
        super().__init__(
            f"there is no run {run_id} of {dag_id}: nothing was audited; `collector status` lists"
            " the last runs"
        )
        self.dag_id = dag_id
        self.run_id = run_id


class ItemError(CollectorError):
    """One item failed; the others go on.

    `code` names the reason, `fault` decides about a retry, `edge` which failure counter it is.
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
    """Another object lies under the item's key; it was left alone, for a person to look at.

    Where it is our own, which a store without checksums has damaged, the code says so.
    """

    def __init__(
        self, s3_key: str, etag: str, size_bytes: int, *, is_damaged: bool = False
    ) -> None:
        code = Code.CHECKSUM_MISMATCH if is_damaged else Code.CONFLICT_OBJECT
        what = "what was sent, damaged," if is_damaged else "another object"
        reason = f"{s3_key} holds {what} of {size_bytes} bytes; it was left alone"
        super().__init__(code, reason, fault=Fault.PERMANENT, edge=Edge.UPLOAD)
        self.s3_key = s3_key
        self.etag = etag
        self.size_bytes = size_bytes


class LeaseLost(CollectorError):
    """The claim is no longer ours: this try is dropped, whoever holds the item now decides."""

    def __init__(self, wallhaven_id: str) -> None:
        super().__init__(f"the lease of {wallhaven_id} is lost")
        self.wallhaven_id = wallhaven_id
