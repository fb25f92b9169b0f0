"""What has more than one implementation: a bucket, the web, an API's budget, a progress bar.

Every method may raise `Outage` (systemic: the other side is not there). Every method is safe to
cancel: nothing happened then, unless its docstring says otherwise.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from collector.core.images import ImageType
from collector.core.pacing import Announcement, Slot, Wait
from collector.core.parts import Chunk


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
    """A multipart upload under way; `begun_at` is known of those that the store has listed."""

    key: str
    upload_id: str
    begun_at: datetime | None = field(default=None, compare=False)


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
        """Yield the body as it arrives; raises ItemError(transient) when it breaks off.

        Small pieces come together, until the first one after a second: a body has few chunks,
        however it was cut on its way, so what they cost beside their bytes does not count.
        """


class Http(Protocol):
    """The outside: API answers whole and bounded, images as streams."""

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        """GET a small answer; follows no redirect.

        Raises PayloadError when it is too large, Outage when refused.
        """

    def open(self, url: str, *, max_bytes: int | None = None) -> AbstractAsyncContextManager[Body]:
        """GET an image; leaving the context drops what was not read.

        There is room for `max_bytes`: of more, nothing is taken in before it is asked for.

        A few redirects are followed, to listed hosts only. Raises ItemError: permanent where
        one leads elsewhere, transient, or systemic where nobody answers.
        """


def true_sha256(info: ObjectInfo, row_sha256: str | None) -> str | None:
    """Return the object's hash where it is known for sure: our metadata, and the store agrees.

    The row's hash counts where the store's own checksum confirms it, too.
    """
    for sha256 in (row_sha256, info.sha256):
        if sha256 and info.checksum == f"sha256:{_base64(sha256)}":
            return sha256
    return None


def _base64(sha256: str) -> str | None:
    try:
        return base64.b64encode(bytes.fromhex(sha256)).decode()
    except ValueError:  # metadata is whatever the object's writer made of it
        return None
