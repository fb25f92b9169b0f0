"""A bucket, and what may be met when it is written to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from collector.core.images import ImageType
from collector.core.parts import Chunk


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
