"""Mirror one image: bytes from the source, validated, into the store, create-only.

The three promises of docs/architecture.md live here: nothing wrong is ever visible under a final
key, done means a verified object, and a lost reply is read again, never guessed.
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
from collector.core.images import ImageType
from collector.core.keys import expected_type, object_key
from collector.core.parts import PART_BYTES, Chunk, Part, PartCutter
from collector.core.transfers import Claim, Outcome, StoredObject
from collector.core.validation import Throughput, Validator
from collector.failpoints import Point, reach
from collector.flow import ByteBudget
from collector.ports import Body, Http, ObjectExists, ObjectStore, Upload, WriteUnknown, true_sha256
from collector.stages.multipart import MultipartWriter, abort_upload, open_multipart

# An honest slow line: below 100 kB/s for the whole of an image something is wrong. The minute
# covers connecting and the store's answer.
DEADLINE_BASE_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 100_000
# A body larger than one part holds one part on its way out and one that fills.
LARGE_BODY_BYTES = 2 * PART_BYTES
# A body whose row tells no size is held whole, for it is read to its end before it is stored. The
# API always tells one; this is more than nearly every image has, and leaves room for others.
UNSIZED_BODY_BYTES = 4 * PART_BYTES


@dataclass(frozen=True, slots=True)
class MirrorPorts:
    """What mirroring one image needs.

    `require_lease` raises LeaseLost where the claim may not be ours any more; `journal_upload`
    commits a multipart upload's id and says whether the claim still is. `clock` is monotonic
    seconds. `decoders` bounds the images that are decoded at once, and their memory. `reads_back`
    says that the store's word on checksums is worth nothing.
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
    """Store the image of `claim` and return what is now verified under its key.

    Memory: a body holds at most two parts, one on its way out and one that fills, or all of itself
    if the row tells no size. So all bodies together hold at most

        sum over images in flight of held_bytes <= COLLECTOR_MEMORY_BYTES
        held_bytes = min(file_size, 2 parts), or 4 parts if the row tells no size

    besides what a connection has taken in ahead of us: half a MiB, and less than that of an image
    that is not larger. An image whose row tells no size is decoded, one at a time, in a copy of its
    bytes and 200 MB at most (`MAX_DECODED_PIXELS`). Raises ItemError (this item's), LeaseLost or
    Outage (everything's). On failure or cancellation nothing wrong is visible, and no multipart
    upload is left as far as the store answers.
    """
    mirror = _Mirror(claim, ports)
    if (known := await mirror.find_known()) is not None:
        return known
    async with ports.budget.reserve(mirror.held_bytes):
        return await mirror.transfer()


class _Mirror:
    """One image on its way."""

    def __init__(self, claim: Claim, ports: MirrorPorts) -> None:
        self._claim = claim
        self._ports = ports
        self._store = ports.store
        self._type: ImageType = expected_type(claim.file_type, claim.url)
        self._key = object_key(claim.wallhaven_id, self._type)
        self._is_writing = False
        # The fence makes it unique to this try: whose write landed can be told afterwards.
        self._token = f"{claim.owner}/{claim.fence}"

    @property
    def max_bytes(self) -> int:
        """What the body may have."""
        limit = self._ports.max_image_bytes
        if self._claim.file_size:
            return limit
        return min(limit, UNSIZED_BODY_BYTES, self._ports.budget.limit_bytes)

    @property
    def held_bytes(self) -> int:
        """What is held of the body at once."""
        size_bytes = self._claim.file_size
        return min(size_bytes, LARGE_BODY_BYTES) if size_bytes else self.max_bytes

    async def find_known(self) -> StoredObject | None:
        """Adopt without a download what is there with its true hash known.

        Looks only where something is likely: after an earlier try, or where the row has a hash.
        """
        if self._claim.stale_upload_id:
            await abort_upload(self._store, Upload(self._key, self._claim.stale_upload_id))
        if self._claim.attempt == 1 and self._claim.object_sha256 is None:
            return None
        if self._ports.reads_back:
            return None
        info = await self._store.head(self._key)
        sha256 = true_sha256(info, self._claim.object_sha256) if info else None
        if info is None or sha256 is None or info.size_bytes != self._claim.file_size:
            return None
        return StoredObject(self._key, sha256, info.size_bytes, Outcome.ADOPTED)

    async def transfer(self) -> StoredObject:
        """Download, validate and store, before the item's deadline."""
        size_bytes = self._claim.file_size or self.max_bytes
        deadline_seconds = DEADLINE_BASE_SECONDS + size_bytes / SLOWEST_BYTES_PER_SECOND
        try:
            with anyio.fail_after(deadline_seconds):
                return await self._transfer()
        except TimeoutError:
            problem = f"not done in {deadline_seconds:.0f} s"
            if self._is_writing:
                raise ItemError(
                    Code.STORE_ERROR, problem, fault=Fault.TRANSIENT, edge=Edge.UPLOAD
                ) from None
            raise ItemError(Code.SOURCE_ERROR, problem, fault=Fault.TRANSIENT) from None

    async def _transfer(self) -> StoredObject:
        if 0 < (self._claim.file_size or 0) <= PART_BYTES:
            return await self._transfer_whole()
        return await self._transfer_in_parts()

    async def _transfer_whole(self) -> StoredObject:
        """Take an image that fits one part: what is larger than its row says is refused."""
        validator, whole = self._validator(), Part(number=1)
        async with self._open() as body:
            validator.check_head(body.status, body.headers)
            async for chunk in self._arriving(body):
                validator.feed(chunk)
                whole.chunks.append(chunk)
            # Inside: a connection that brought a wrong image may be one answer behind.
            sha256 = validator.validate()
        whole.size_bytes = validator.size_bytes
        self._is_writing = True
        return await self._put(whole, sha256)

    async def _transfer_in_parts(self) -> StoredObject:
        validator, cutter = self._validator(), PartCutter()
        async with self._open() as body, self._writer() as writer:
            validator.check_head(body.status, body.headers)
            async for chunk in self._arriving(body):
                validator.feed(chunk)
                self._is_writing = True
                for part in cutter.feed(chunk):
                    await writer.write(part)
                if cutter.is_full:
                    # While a part is on its way, nobody asks for a third one.
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
        """Yield the body; raises ItemError where it drips."""
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

    def _writer(self) -> AbstractAsyncContextManager[MultipartWriter]:
        return open_multipart(
            self._store,
            self._key,
            content_type=self._type,
            token=self._token,
            journal=self._journal,
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
        # The store compared the bytes with our checksum before it said yes: that is verified.
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
        # An upload that was not the one is aborted.
        writer.completed = problem is None
        return stored

    async def _resolve(
        self, sha256: bytes, size_bytes: int, checksum: str, problem: Exception | None
    ) -> StoredObject:
        """Read what is under the key and decide: ours, a twin's, nothing, or another object."""
        info = await self._store.head(self._key)
        if info is None:
            reason = str(problem or "the object is not there after its upload")
            raise ItemError(Code.STORE_ERROR, reason, fault=Fault.TRANSIENT, edge=Edge.UPLOAD)
        is_ours = info.token == self._token
        if info.size_bytes == size_bytes:
            if is_ours and not self._ports.reads_back and info.checksum in (None, checksum):
                return self._stored(sha256, size_bytes, Outcome.UPLOADED)
            if await self._hash_of_stored() == sha256:
                outcome = Outcome.UPLOADED if is_ours else Outcome.ADOPTED
                return self._stored(sha256, size_bytes, outcome)
        elif problem is None:
            # We have just written it: the store shows what was there before, or half of it.
            reason = f"the store shows {info.size_bytes} bytes of {size_bytes} after its upload"
            raise ItemError(Code.STORE_ERROR, reason, fault=Fault.TRANSIENT, edge=Edge.UPLOAD)
        raise ObjectConflict(self._key, info.etag, info.size_bytes, is_damaged=is_ours)

    async def _hash_of_stored(self) -> bytes:
        digest = hashlib.sha256()
        async with self._store.read(self._key) as chunks:
            async for chunk in chunks:
                digest.update(chunk)
        return digest.digest()

    def _stored(self, sha256: bytes, size_bytes: int, outcome: Outcome) -> StoredObject:
        return StoredObject(self._key, sha256.hex(), size_bytes, outcome)
