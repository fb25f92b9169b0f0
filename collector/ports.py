"""Ports: what the stages need from the world, as Protocols. Adapters implement them.

Every method may raise `Outage` (systemic: the world is not there). Every method is safe to
cancel; what holds then is said where it is not "nothing happened".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from collector.core.audit import AuditRow, Recount, Verdict
from collector.core.enrichment import Finding, Target
from collector.core.errors import Code
from collector.core.images import ImageType
from collector.core.pacing import Announcement, Slot, Wait
from collector.core.paging import CoveredPage
from collector.core.parts import Chunk
from collector.core.planning import Holdings
from collector.core.runs import Run, StageCall, StageEnd
from collector.core.transfers import Backlog, Claim, ItemFailure, StoredObject
from collector.core.wallpapers import Page


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer; header names are case-insensitive."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Body(Protocol):
    """An HTTP answer whose body has not been read yet."""

    @property
    def status(self) -> int:
        """HTTP status code."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields, names case-insensitive."""

    def chunks(self) -> AsyncIterator[Chunk]:
        """Yield the body as it arrives; raises ItemError(transient) when it breaks off."""


class Http(Protocol):
    """The outside: API answers whole and bounded, images as streams. Follows no redirect."""

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        """GET a small answer. Raises PayloadError when it is too large, Outage when refused."""

    def open(self, url: str) -> AbstractAsyncContextManager[Body]:
        """GET an image; leaving the context drops what was not read.

        Raises ItemError with `fault` transient, or systemic where nobody answers.
        """


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store says of one object.

    `sha256` is OUR metadata (hex), `token` our identity of one upload; `checksum` what the
    store computed itself, as `<algorithm>:<base64>` (`sha256:...`, or `sha256:...-<parts>` for
    a multipart upload), None where the store keeps none.
    """

    size_bytes: int
    etag: str
    sha256: str | None
    token: str | None
    checksum: str | None


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload under way."""

    key: str
    upload_id: str


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A part the store has acknowledged; `sha256` is the part's digest (32 bytes)."""

    number: int
    etag: str
    sha256: bytes


class ObjectExists(Exception):
    """A conditional write found an object under the key; nothing was written by this call."""

    def __init__(self, key: str) -> None:
        super().__init__(f"an object exists under {key}")
        self.key = key


class WriteUnknown(Exception):
    """A write whose reply is lost or unusable: it may have happened. Read, then decide."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"outcome of the write to {key} is unknown: {problem}")
        self.key = key
        self.problem = problem


class ObjectStore(Protocol):
    """A bucket. Writes are create-only: they never replace an object.

    Raises Outage(upload) for what no retry of one item mends (credentials, bucket, nobody
    there after the adapter's own few tries) and ItemError(edge=upload) for the rest.
    """

    async def put(
        self,
        key: str,
        chunks: Sequence[Chunk],
        *,
        size_bytes: int,
        sha256: bytes,
        content_type: ImageType,
        token: str,
    ) -> None:
        """Write one whole object, verified by the store against `sha256` (32 bytes).

        Raises ObjectExists, WriteUnknown. After cancellation the object may exist.
        """

    async def begin(self, key: str, *, content_type: ImageType, token: str) -> Upload:
        """Start a multipart upload that carries `token`; nothing is visible under `key` yet."""

    async def upload_part(
        self,
        upload: Upload,
        number: int,
        chunks: Sequence[Chunk],
        *,
        size_bytes: int,
        sha256: bytes,
    ) -> UploadedPart:
        """Send part `number` (from 1), verified by the store against `sha256`. Repeatable."""

    async def complete(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        """Make the object visible, only if the key is free. Raises ObjectExists, WriteUnknown."""

    async def abort(self, upload: Upload) -> None:
        """Drop the upload and its parts; an upload that is gone already is fine."""

    async def head(self, key: str) -> ObjectInfo | None:
        """Return what is stored under `key`, None where there is nothing."""

    def read(self, key: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream a stored object. Raises ItemError(not_found) where there is none."""

    def keys(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Yield (key, size_bytes) of all objects under `prefix`."""

    def uploads(self, prefix: str) -> AsyncIterator[Upload]:
        """Yield the multipart uploads under way below `prefix`."""


@dataclass(frozen=True, slots=True)
class SearchTotal:
    """How many wallpapers a search had, and how long ago."""

    total: int
    age_seconds: float


class PageCatalog(Protocol):
    """Where pages are put, and what is known of searches."""

    async def covered_pages(self, run_key: int) -> list[CoveredPage]:
        """Return the pages that this run has in its ledger, in the order in which it read them."""

    async def pages_above(self, search_key: str, run_key: int) -> list[list[CoveredPage]]:
        """Return what earlier runs have read since the watermark was set, run by run, newest first.

        Between these pages and the watermark lies a gap.
        """

    async def search_total(self, search_key: str) -> SearchTotal | None:
        """Return what `note_search_total` noted last, None where it never did."""

    async def note_search_total(self, search_key: str, total: int) -> None:
        """Note how many wallpapers a search has now."""

    async def watermark(self, search_key: str) -> list[str]:
        """Return the first page's ids of the last whole reading that was merged, or []."""

    async def has_read(self, run_key: int, search_key: str) -> bool:
        """Say whether the run has read the search without a hole, and no later run has since."""

    async def note_reading(self, run_key: int, search_key: str, newest_ids: list[str]) -> None:
        """Note that the run read the search without a hole, its first page having had these ids.

        They become the watermark when the run's pages are merged.
        """

    async def stage_page(
        self, run_key: int, search_key: str, page: Page, reading: int = 1
    ) -> CoveredPage:
        """COPY the page to staging and note it in the ledger, in one transaction.

        A `reading` of it that is there already stays as it is.
        """


class CrawlCatalog(PageCatalog, Protocol):
    """Where a crawl puts pages."""

    async def crawled_pages(self, run_key: int) -> list[CoveredPage]:
        """Return `covered_pages`, with ids only where they may still join two slices."""


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """What the loads of a run did; seen = inserted + updated + unchanged + invalid + duplicates."""

    pages: int
    inserted: int
    updated: int
    unchanged: int
    invalid: int
    duplicates: int


class LoadCatalog(Protocol):
    """Where load merges what was staged."""

    async def merge(self, run_key: int) -> None:
        """Merge this run's staged pages, and those an ended run left, in one transaction.

        Raises StagingMismatch when staging and ledger disagree; then nothing changed.
        """

    async def loaded(self, run_key: int) -> LoadCounts:
        """Return what all loads of the run have done together, each item counted once."""


class TransferCatalog(Protocol):
    """The backlog of images: claims with a lease and a fence, and what became of them."""

    async def claim(self, run_key: int, most: int, run_limit: int = 0) -> list[Claim]:
        """Claim up to `most` due items for a fresh owner; counts one attempt each.

        With a `run_limit`, what the run has stored and what all its workers have in hand never
        exceed it together.
        """

    async def heartbeat(self, claims: Sequence[Claim]) -> set[int]:
        """Extend the leases; return the wallpaper keys that are still ours."""

    async def journal_upload(self, claim: Claim, upload_id: str) -> bool:
        """Note a multipart upload before its first part. False: not ours."""

    async def confirm(self, claim: Claim, stored: StoredObject) -> bool:
        """Commit that the object is stored. False: not ours any more; nothing changed."""

    async def fail(self, claim: Claim, failure: ItemFailure) -> bool:
        """Commit a failed try: a later attempt or a dead letter. False: not ours any more."""

    async def release(self, claims: Sequence[Claim]) -> None:
        """Hand claims back at once and refund their attempts."""

    async def refund_outage(self, run_key: int, codes: Sequence[Code]) -> None:
        """Give back the tries of this run that failed with `codes`: an edge was down.

        Safe to repeat, and while other workers of the run go on.
        """

    async def next_due_seconds(self, run_key: int, run_limit: int = 0) -> float | None:
        """Return the wait until this run may claim again, None if it need not wait."""

    async def enlist(self) -> None:
        """Put into the backlog what has no object and is not in it: rows that others inserted."""

    async def known_good_url(self) -> str | None:
        """Return the address of the image that was stored last, None where there is none."""

    async def backlog(self) -> Backlog:
        """Return the number of items by state."""


class EnrichmentCatalog(Protocol):
    """Which wallpapers to ask about, and what the answers become."""

    async def enlist(self, *, nsfw: bool) -> None:
        """Put into the queue what is new, and follow favourites of what was never answered.

        Wallpapers that are nsfw are put there only with `nsfw`.
        """

    async def asked(self, run_key: int) -> int:
        """Return about how many wallpapers the run has asked."""

    async def claim(self, most: int) -> list[Target]:
        """Take up to `most` due wallpapers in hand, in order of their value.

        First those that were never answered for: most favourites, then oldest upload. Then those
        that are due again, the longest due first.
        """

    async def release(self, targets: Sequence[Target]) -> None:
        """Hand back what was not asked about: it is due at once, and its attempt is refunded."""

    async def postpone(self, targets: Sequence[Target]) -> None:
        """Hand back what could not be answered for: due later, ever later from try to try."""

    async def save(self, run_key: int, findings: Sequence[Finding]) -> None:
        """Write all that was found and hand it back, in one transaction. Safe to repeat."""


class RunCatalog(Protocol):
    """Runs, their stages and their audit rows."""

    async def open_run(self, run: Run) -> int:
        """Begin the run, or go on with it; return its key."""

    async def heartbeat(self, run_key: int) -> None:
        """Note that the run's process lives."""

    async def begin_stage(self, call: StageCall) -> None:
        """Note that a worker begins a stage of the run."""

    async def end_stage(self, call: StageCall, end: StageEnd) -> None:
        """Note how the stage ended for this worker."""

    async def recount(self, run_key: int) -> Recount:
        """Count anew what the run did; write nothing."""

    async def close_run(self, run_key: int, judge: Callable[[Recount], Verdict]) -> AuditRow:
        """Count anew and write the audit row, both in one snapshot."""

    async def silent_runs(self, but: int, silent_seconds: float) -> list[int]:
        """Return running runs, except `but`, that nobody has heard of for so long."""

    async def close_silent_run(
        self, run_key: int, silent_seconds: float, judge: Callable[[Recount, datetime], Verdict]
    ) -> AuditRow | None:
        """Close the run as `close_run` does, if it is silent still; None where it is not.

        `judge` is told when the run was last heard of. Of several that do this at once, one does.
        """


class HoldingsCatalog(Protocol):
    """What there is already."""

    async def holdings(self) -> Holdings:
        """Count wallpapers and stored images; write nothing."""


class RequestBudget(Protocol):
    """The requests that one API allows, shared by all processes; as one caller sees it.

    In no window, wherever it begins, are more requests under way or answered than the limit: a
    slot is taken before its request leaves, and free again one window after its answer came.
    """

    async def take(self) -> Slot | Wait:
        """Take a slot for one request, or learn how long there is none.

        Who learns that waits, as the others know: ones of a lower priority get none meanwhile.
        Cancelled, it takes nothing.
        """

    async def end(self, slot: Slot, announced: Announcement | None) -> None:
        """Note that the request of a slot was answered, or given up; to be shielded.

        With what the API announced in an answer, the budget follows it: the newest limit counts,
        and where less remains than we believe, others use it too, and so much less is handed out.
        """

    async def pause(self, seconds: float) -> None:
        """Hand out nothing for so long; a longer pause that is in force stays."""


class Progress(Protocol):
    """What a person may watch; calls are cheap and never fail."""

    def start(self, task: str, total: int | None) -> None:
        """A task begins; `total` None where the end is unknown."""

    def advance(self, task: str, items: int, size_bytes: int = 0) -> None:
        """Items (and bytes) were done."""

    def finish(self, task: str) -> None:
        """The task is over."""
