"""An ObjectStore in memory: the baseline of tests and benchmarks.

It keeps S3's promises (create-only writes, checksums, multipart) without its limits: a part may
have any size. Chunks are kept without a copy, so they must not change afterwards.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from anyio.lowlevel import checkpoint

from collector.core.errors import Code
from collector.core.images import ImageType
from collector.core.parts import Chunk
from collector.ports import ObjectExists, ObjectInfo, Upload, UploadedPart, WriteUnknown
from collector.store.failures import not_found, upload_error


@dataclass(frozen=True, slots=True)
class _Object:
    chunks: tuple[Chunk, ...]
    info: ObjectInfo


@dataclass(frozen=True, slots=True)
class _Part:
    chunks: tuple[Chunk, ...]
    size_bytes: int
    uploaded: UploadedPart


@dataclass(slots=True)
class _Unfinished:
    token: str
    parts: dict[int, _Part] = field(default_factory=dict)


@dataclass(slots=True)
class Counters:
    """Writes that the store accepted, and the most bytes it ever held."""

    puts: int = 0
    parts: int = 0
    held_bytes: int = 0
    peak_held_bytes: int = 0

    def hold(self, size_bytes: int) -> None:
        self.held_bytes += size_bytes
        self.peak_held_bytes = max(self.peak_held_bytes, self.held_bytes)


class MemoryStore:
    """One bucket in this process. See `collector.ports.ObjectStore` for its promises."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.counters = Counters()
        self._clock = clock
        self._objects: dict[str, _Object] = {}
        self._uploads: dict[Upload, _Unfinished] = {}
        self._upload_ids = itertools.count(1)

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
        await checkpoint()
        _verify(chunks, size_bytes, sha256)
        info = ObjectInfo(size_bytes, f'"{sha256.hex()}"', sha256.hex(), token, _checksum(sha256))
        self._create(key, _Object(tuple(chunks), info))
        self.counters.puts += 1
        self.counters.hold(size_bytes)

    async def begin(self, key: str, *, content_type: ImageType, token: str) -> Upload:
        await checkpoint()
        upload = Upload(key, str(next(self._upload_ids)), self._clock())
        self._uploads[upload] = _Unfinished(token)
        return upload

    async def upload_part(
        self,
        upload: Upload,
        number: int,
        chunks: Sequence[Chunk],
        *,
        size_bytes: int,
        sha256: bytes,
    ) -> UploadedPart:
        await checkpoint()
        _verify(chunks, size_bytes, sha256)
        if (unfinished := self._uploads.get(upload)) is None:
            raise upload_error(Code.STORE_ERROR, f"no upload of {upload.key} has this id")
        uploaded = UploadedPart(number, f'"{sha256.hex()}"', sha256)
        replaced = unfinished.parts.get(number)
        unfinished.parts[number] = _Part(tuple(chunks), size_bytes, uploaded)
        self.counters.parts += 1
        self.counters.hold(size_bytes - (replaced.size_bytes if replaced else 0))
        return uploaded

    async def complete(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        """Make the object of these parts visible; other parts are dropped."""
        await checkpoint()
        if (unfinished := self._uploads.get(upload)) is None:
            raise WriteUnknown(upload.key, "no such upload")
        ordered = sorted(parts, key=lambda part: part.number)
        kept = [unfinished.parts.get(part.number) for part in ordered]
        chosen = [part for part in kept if part is not None]
        if not chosen or [part.uploaded for part in chosen] != ordered:
            raise upload_error(Code.STORE_ERROR, "a part named at completion was never sent")
        self._create(upload.key, _assembled(chosen, unfinished.token))
        self._drop(upload)
        self.counters.hold(sum(part.size_bytes for part in chosen))

    async def abort(self, upload: Upload) -> None:
        await checkpoint()
        if upload in self._uploads:
            self._drop(upload)

    async def head(self, key: str) -> ObjectInfo | None:
        await checkpoint()
        found = self._objects.get(key)
        return found.info if found else None

    @asynccontextmanager
    async def read(self, key: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream a stored object, in the chunks in which it was written."""
        await checkpoint()
        if (found := self._objects.get(key)) is None:
            raise not_found(key)
        yield _stream(found.chunks)

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Yield (key, size_bytes) of all objects under `prefix`, ordered by key."""
        await checkpoint()
        for key in sorted(self._objects):
            if key.startswith(prefix):
                yield key, self._objects[key].info.size_bytes

    async def uploads(self, prefix: str) -> AsyncIterator[Upload]:
        await checkpoint()
        for upload in list(self._uploads):
            if upload.key.startswith(prefix):
                yield upload

    def _create(self, key: str, created: _Object) -> None:
        if key in self._objects:
            raise ObjectExists(key)
        self._objects[key] = created

    def _drop(self, upload: Upload) -> None:
        dropped = self._uploads.pop(upload)
        self.counters.hold(-sum(part.size_bytes for part in dropped.parts.values()))


def _verify(chunks: Iterable[Chunk], size_bytes: int, sha256: bytes) -> None:
    digest, received_bytes = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        received_bytes += len(chunk)
    if digest.digest() != sha256 or received_bytes != size_bytes:
        raise upload_error(Code.CHECKSUM_MISMATCH, "bytes and checksum differ")


def _assembled(parts: Sequence[_Part], token: str) -> _Object:
    digests = b"".join(part.uploaded.sha256 for part in parts)
    composite = f"{_checksum(hashlib.sha256(digests).digest())}-{len(parts)}"
    info = ObjectInfo(
        size_bytes=sum(part.size_bytes for part in parts),
        etag=f'"{hashlib.sha256(digests).hexdigest()}-{len(parts)}"',
        sha256=None,
        token=token,
        checksum=composite,
    )
    return _Object(tuple(chunk for part in parts for chunk in part.chunks), info)


def _checksum(digest: bytes) -> str:
    return f"sha256:{base64.b64encode(digest).decode()}"


async def _stream(chunks: Iterable[Chunk]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await checkpoint()
        yield bytes(chunk)
