"""Interfaces with more than one implementation: a bucket, HTTP, an API's budget, progress.

Every method may raise `Outage` (systemic: the other side is down). A method that is cancelled has
done nothing, unless its docstring says otherwise.
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
    """One caller's view of the requests that an API allows; all processes share them.

    No window of time, wherever it begins, has more requests in flight or answered than the limit:
    a slot is taken before its request is sent, and freed one window after its answer came.
    """

    async def take(self) -> Slot | Wait:
        """Take a slot for one request, or return how long to wait for one.

        A caller that waits is registered: callers of a lower priority get no slot meanwhile.
        """

    async def end(self, slot: Slot, announced: Announcement | None) -> None:
        """Note that the request of a slot was answered or given up; callers shield this call.

        The budget follows what the API announced: the newest limit counts, and if fewer requests
        remain than the budget has counted, other clients use the API too, and the budget shrinks.
        """

    async def pause(self, seconds: float) -> None:
        """Hand out no slot for `seconds`; a longer pause that is in force stays."""


class Progress(Protocol):
    """Shows how far tasks are; calls are cheap and never fail."""

    def start(self, task: str, total: int | None) -> None:
        """Begin a task of `total` items, None if unknown."""

    def advance(self, task: str, items: int, size_bytes: int = 0) -> None:
        """Count items, and their bytes, as done."""

    def finish(self, task: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What the store knows about one object.

    `sha256` (hex) and `token`, the identity of one upload, are metadata that the collector wrote.
    `checksum` is what the store computed itself, as `<algorithm>:<base64>` (`sha256:...`, or
    `sha256:...-<parts>` for a multipart upload), None if it keeps none.
    """

    size_bytes: int
    etag: str
    sha256: str | None
    token: str | None
    checksum: str | None


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload in progress; `begun_at` is known if the store has listed it."""

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
    """The reply to a write was lost or unusable, so it may have happened: read, then decide."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"outcome of the write to {key} is unknown: {problem}")
        self.key = key
        self.problem = problem


class ObjectStore(Protocol):
    """A bucket. Writes are create-only: they never replace an object.

    Raises Outage(upload) for what no retry of one item repairs (credentials, bucket, a store that
    does not answer the adapter's own retries) and ItemError(edge=upload) for the rest.
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
        """Drop the upload and its parts; do nothing if the upload is gone."""

    async def head(self, key: str) -> ObjectInfo | None:
        """Return what is stored under `key`, None if nothing is."""

    def read(self, key: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Stream a stored object. Raises ItemError(not_found)."""

    def keys(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Yield (key, size_bytes) of all objects under `prefix`."""

    def uploads(self, prefix: str) -> AsyncIterator[Upload]:
        """Yield the multipart uploads in progress under `prefix`."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP answer; header names are case-insensitive."""

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
        """Yield the body as it arrives; raise ItemError(transient) if it breaks off.

        Small pieces are coalesced for up to a second, so a body has few chunks, however the network
        cut it, and the cost of each chunk does not matter.
        """


class Http(Protocol):
    """HTTP requests: answers of the API whole and bounded, images as streams."""

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        """GET a small answer; follow no redirect.

        Raises PayloadError if it is too large, Outage if it is refused.
        """

    def open(self, url: str, *, max_bytes: int | None = None) -> AbstractAsyncContextManager[Body]:
        """GET an image; leaving the context drops what was not read.

        A body larger than `max_bytes` is received only as the caller asks for it. A few redirects
        are followed, to listed hosts only. Raises ItemError: permanent if a redirect leads
        elsewhere, systemic if the host does not answer, else transient.
        """


def true_sha256(info: ObjectInfo, row_sha256: str | None) -> str | None:
    """Return the hash of the row, or of the object's metadata, that the store's checksum confirms.

    None if the checksum confirms neither.
    """
    for sha256 in (row_sha256, info.sha256):
        if sha256 and info.checksum == f"sha256:{_base64(sha256)}":
            return sha256
    return None


def _base64(sha256: str) -> str | None:
    try:
        return base64.b64encode(bytes.fromhex(sha256)).decode()
    except ValueError:  # another program may have written the metadata
        return None
