"""Mirror one image: bytes from the source, validated, into the store, create-only.

Keeps three promises of docs/architecture.md: nothing wrong is ever visible under a final key, done
means a verified object, and after a lost reply the store is read again.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field

import anyio
from anyio import CapacityLimiter, to_thread

from collector.core.errors import Code, Edge, Fault, ItemError, LeaseLost, ObjectConflict
from collector.core.image_validation import Throughput, Validator
from collector.core.images import ImageType
from collector.core.keys import expected_type, object_key
from collector.core.parts import PART_BYTES, Chunk, Part, PartCutter
from collector.core.transfers import Claim, Outcome, StoredObject
from collector.failpoints import Point, reach
from collector.flow import ByteBudget
from collector.ports import Body, Http, ObjectExists, ObjectStore, Upload, WriteUnknown, true_sha256
from collector.stages.multipart import MultipartWriter, abort_upload, open_multipart

# Below 100 kB/s for a whole image, the connection is not slow but broken. The minute covers
# connecting and the store's answer.
DEADLINE_BASE_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 100_000
# A body larger than one part holds one part that is being sent and one that fills.
LARGE_BODY_BYTES = 2 * PART_BYTES
# A body without a `file_size` is held whole, because it is read to its end before it is stored. The
# API always gives a size; nearly every image is smaller than this, and others fit in memory too.
UNSIZED_BODY_BYTES = 4 * PART_BYTES


@dataclass(frozen=True, slots=True)
class MirrorPorts:
    """What mirroring one image needs.

    `require_lease` raises LeaseLost if the claim may be lost; `journal_upload` commits the id of a
    multipart upload and returns False if the claim is lost. `clock` is monotonic seconds.
    `decoders` bounds the images that are decoded at once, and so their memory. `reads_back`: the
    store does not verify checksums, so each object is read back.
    """

    http: Http
    store: ObjectStore
    budget: ByteBudget
    require_lease: Callable[[Claim], None]
    journal_upload: Callable[[Claim, str], Awaitable[bool]]
    max_image_bytes: int
    clock: Callable[[], float]
    decoders: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))
    reads_back: bool = False


async def mirror_image(claim: Claim, ports: MirrorPorts) -> StoredObject:
    """Store the image of `claim` and return the verified object under its key.

    Memory: a body holds at most two parts, one that is being sent and one that fills, or all of
    itself if the row has no `file_size`. So all bodies together hold at most

        sum over images in flight of held_bytes <= COLLECTOR_MEMORY_BYTES
        held_bytes = min(file_size, 2 parts), or 4 parts without a file_size

    plus what each connection buffers: half a MiB at most, less for a smaller image. Images without
    a `file_size` are decoded one at a time, from a copy of their bytes and into 200 MB at most
    (`MAX_DECODED_PIXELS`). Raises ItemError (this item), LeaseLost or Outage (all items). On
    failure or cancellation nothing wrong is visible, and no multipart upload is left as long as the
    store answers.
    """
    mirror = _Mirror(claim, ports)
    if (known := await mirror.find_known()) is not None:
        return known
    async with ports.budget.reserve(mirror.held_bytes):
        return await mirror.transfer()


class _Mirror:
    def __init__(self, claim: Claim, ports: MirrorPorts) -> None:
        self._claim = claim
        self._ports = ports
        self._store = ports.store
        self._type: ImageType = expected_type(claim.file_type, claim.url)
        self._key = object_key(claim.wallhaven_id, self._type)
        self._is_writing = False
        # Unique to this attempt because of the fence: tells later whose write landed.
        self._token = f"{claim.owner}/{claim.fence}"

    @property
    def max_bytes(self) -> int:
        limit = self._ports.max_image_bytes
        if self._claim.file_size:
            return limit
        return min(limit, UNSIZED_BODY_BYTES, self._ports.budget.limit_bytes)

    @property
    def held_bytes(self) -> int:
        size_bytes = self._claim.file_size
        return min(size_bytes, LARGE_BODY_BYTES) if size_bytes else self.max_bytes

    async def find_known(self) -> StoredObject | None:
        """Adopt an object without a download if its true hash is known.

        Asks the store only if an object is likely: after an earlier attempt, or if the row has a
        hash.
        """
        if self._claim.stale_upload_id:
            await abort_upload(self._store, Upload(self._key, self._claim.stale_upload_id))
        is_new = self._claim.attempt == 1 and self._claim.object_sha256 is None
        if is_new or self._ports.reads_back:
            return None
        info = await self._store.head(self._key)
        sha256 = true_sha256(info, self._claim.object_sha256) if info else None
        if info is None or sha256 is None or info.size_bytes != self._claim.file_size:
            return None
        return StoredObject(self._key, sha256, info.size_bytes, Outcome.ADOPTED)

    async def transfer(self) -> StoredObject:
        size_bytes = self._claim.file_size or self.max_bytes
        deadline_seconds = DEADLINE_BASE_SECONDS + size_bytes / SLOWEST_BYTES_PER_SECOND
        fits_one_part = 0 < (self._claim.file_size or 0) <= PART_BYTES
        try:
            with anyio.fail_after(deadline_seconds):
                if fits_one_part:
                    return await self._transfer_whole()
                return await self._transfer_in_parts()
        except TimeoutError:
            problem = f"not done in {deadline_seconds:.0f} s"
            code, edge = Code.SOURCE_ERROR, Edge.DOWNLOAD
            if self._is_writing:
                code, edge = Code.STORE_ERROR, Edge.UPLOAD
            raise ItemError(code, problem, fault=Fault.TRANSIENT, edge=edge) from None

    async def _transfer_whole(self) -> StoredObject:
        validator, whole = self._validator(), Part(number=1)
        async with self._open() as body:
            validator.check_head(body.status, body.headers)
            async for chunk in self._arriving(body):
                validator.feed(chunk)
                whole.chunks.append(chunk)
            # Inside, so that a failure closes the connection: it may be one answer behind.
            sha256 = validator.validate()
        whole.size_bytes = validator.size_bytes
        self._is_writing = True
        return await self._put(whole, sha256)

    async def _transfer_in_parts(self) -> StoredObject:
        validator, cutter = self._validator(), PartCutter()
        multipart = open_multipart(
            self._store,
            self._key,
            content_type=self._type,
            token=self._token,
            journal=self._journal,
        )
        async with self._open() as body, multipart as writer:
            validator.check_head(body.status, body.headers)
            async for chunk in self._arriving(body):
                validator.feed(chunk)
                self._is_writing = True
                for part in cutter.feed(chunk):
                    await writer.write(part)
                if cutter.is_full:
                    # One part is being sent and one is full: no more bytes are requested.
                    await writer.sent()
                self._is_writing = False
            sha256 = await self._validated(validator)
            self._is_writing = True
            if writer.upload is None:
                return await self._put(cutter.rest(), sha256)
            await writer.write(cutter.rest())
            return await self._complete(writer, sha256, validator.size_bytes)

    def _open(self) -> AbstractAsyncContextManager[Body]:
        max_bytes = self._claim.file_size or self.max_bytes
        return self._ports.http.open(self._claim.url, max_bytes=max_bytes)

    async def _arriving(self, body: Body) -> AsyncIterator[Chunk]:
        """Yield the body; raises ItemError if it arrives too slowly."""
        throughput, clock = Throughput(), self._ports.clock
        asked_at = clock()
        async for chunk in body.chunks():
            throughput.note(len(chunk), clock() - asked_at)
            reach(Point.BODY_ARRIVING)
            yield chunk
            asked_at = clock()

    async def _validated(self, validator: Validator) -> bytes:
        if not validator.is_slow:
            return validator.validate()
        return await to_thread.run_sync(
            validator.validate, limiter=self._ports.decoders, abandon_on_cancel=True
        )

    def _validator(self) -> Validator:
        return Validator(
            self._type,
            file_size=self._claim.file_size,
            dimensions=(self._claim.dimension_x, self._claim.dimension_y),
            max_bytes=self.max_bytes,
        )

    async def _journal(self, upload_id: str) -> None:
        if not await self._ports.journal_upload(self._claim, upload_id):
            raise LeaseLost(self._claim.wallhaven_id)

    async def _put(self, whole: Part, sha256: bytes) -> StoredObject:
        self._ports.require_lease(self._claim)
        checksum = f"sha256:{base64.b64encode(sha256).decode()}"
        try:
            await self._store.put(
                self._key,
                whole.chunks,
                size_bytes=whole.size_bytes,
                sha256=sha256,
                content_type=self._type,
                token=self._token,
            )
        except (ObjectExists, WriteUnknown) as error:
            return await self._resolve(sha256, whole.size_bytes, checksum, error)
        reach(Point.WRITTEN)
        if self._ports.reads_back:
            return await self._resolve(sha256, whole.size_bytes, checksum, None)
        # The store has compared the bytes with the checksum, so the object is verified.
        return self._stored(sha256, whole.size_bytes, Outcome.UPLOADED)

    async def _complete(
        self, writer: MultipartWriter, sha256: bytes, size_bytes: int
    ) -> StoredObject:
        problem: Exception | None = None
        try:
            await writer.complete(lambda: self._ports.require_lease(self._claim))
        except (ObjectExists, WriteUnknown) as error:
            problem = error
        stored = await self._resolve(sha256, size_bytes, writer.composite_checksum, problem)
        # If not completed by this call, the upload is aborted.
        writer.completed = problem is None
        return stored

    async def _resolve(
        self, sha256: bytes, size_bytes: int, checksum: str, problem: Exception | None
    ) -> StoredObject:
        """Read the key and decide: own object, equal bytes, nothing, or another object."""
        info = await self._store.head(self._key)
        if info is None:
            reason = str(problem or "the object is not there after its upload")
            raise ItemError(Code.STORE_ERROR, reason, fault=Fault.TRANSIENT, edge=Edge.UPLOAD)
        is_own = info.token == self._token
        if info.size_bytes == size_bytes:
            if is_own and not self._ports.reads_back and info.checksum in (None, checksum):
                return self._stored(sha256, size_bytes, Outcome.UPLOADED)
            if await stored_sha256(self._store, self._key) == sha256:
                outcome = Outcome.UPLOADED if is_own else Outcome.ADOPTED
                return self._stored(sha256, size_bytes, outcome)
        elif problem is None:
            # Just written, so the store shows an older state, or half of the object.
            reason = f"the store shows {info.size_bytes} bytes of {size_bytes} after its upload"
            raise ItemError(Code.STORE_ERROR, reason, fault=Fault.TRANSIENT, edge=Edge.UPLOAD)
        raise ObjectConflict(self._key, info.etag, info.size_bytes, is_damaged=is_own)

    def _stored(self, sha256: bytes, size_bytes: int, outcome: Outcome) -> StoredObject:
        return StoredObject(self._key, sha256.hex(), size_bytes, outcome)


async def stored_sha256(store: ObjectStore, key: str) -> bytes:
    """Read a stored object and return the sha256 of its bytes."""
    digest = hashlib.sha256()
    async with store.read(key) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
    return digest.digest()
