"""A bucket of any S3-compatible store, as an ObjectStore.

Control calls go through the SDK (`client`), bodies straight to the socket (`bodies`). Store calls
are retried here and nowhere else. No code path deletes an object.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

from collector.core.images import ImageType
from collector.core.parts import Chunk
from collector.ports import ObjectExists, ObjectInfo, Upload, UploadedPart, WriteUnknown
from collector.store.bodies import BodySender
from collector.store.client import ControlCalls, sdk_errors
from collector.store.failures import (
    Location,
    NoReply,
    PartsLeft,
    Refused,
    Retries,
    StoreFailure,
    is_put_retryable,
    is_retryable,
    is_write_retryable,
    not_found,
)

# A part in flight may arrive after an abort, so an abort is repeated until no part is left:
# https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html (2026-11-23).
ABORT_ROUNDS = 5
# One read of a stored object's stream: large enough that the calls cost little.
READ_BYTES = 256 * 1024
# The store's own checksums; first the one that can be compared with the collector's.
_CHECKSUMS = {
    "ChecksumSHA256": "sha256",
    "ChecksumCRC64NVME": "crc64nvme",
    "ChecksumCRC32C": "crc32c",
    "ChecksumCRC32": "crc32",
    "ChecksumSHA1": "sha1",
}


class S3Store:
    """One bucket. See `collector.ports.ObjectStore` for what each method promises."""

    def __init__(
        self,
        control: ControlCalls,
        bodies: BodySender,
        location: Location,
        retries: Retries,
        *,
        looks_first: bool = False,
    ) -> None:
        """`looks_first` is for a store that would replace objects: HEAD before each write.

        Another writer may come between the two, which no client can prevent.
        """
        self._looks_first = looks_first
        self._control = control
        self._bodies = bodies
        self._location = location
        self._retries = retries

    def looking_first(self) -> S3Store:
        """Return the same bucket, but each write checks first whether the key is free."""
        return S3Store(self._control, self._bodies, self._location, self._retries, looks_first=True)

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
        """Write one object; raises ItemError(store_error) if each attempt is answered with 5xx."""
        await self._look(key)
        headers = {
            "if-none-match": "*",
            "content-type": content_type.value,
            "x-amz-meta-sha256": sha256.hex(),
            "x-amz-meta-token": token,
        }
        send = partial(
            self._bodies.put,
            _target(key),
            chunks,
            size_bytes=size_bytes,
            sha256=sha256,
            headers=headers,
        )
        try:
            await self._retries.call(send, is_put_retryable)
        except StoreFailure as failure:
            raise self._location.write_error_of(key, failure) from None

    async def begin(self, key: str, *, content_type: ImageType, token: str) -> Upload:
        """Start a multipart upload; if the reply is lost, the janitor aborts the upload."""
        with self._translated():
            reply = await self._call(
                "create_multipart_upload",
                Key=key,
                ContentType=content_type.value,
                Metadata={"token": token},
                ChecksumAlgorithm="SHA256",
            )
            if not (upload_id := reply.get("UploadId")):
                raise NoReply("the answer names no upload id", unclear=True)
        return Upload(key, upload_id)

    async def upload_part(
        self,
        upload: Upload,
        number: int,
        chunks: Sequence[Chunk],
        *,
        size_bytes: int,
        sha256: bytes,
    ) -> UploadedPart:
        """Send one part; it replaces an earlier part of the same number."""
        query = f"?partNumber={number}&uploadId={quote(upload.upload_id, safe='~')}"
        send = partial(
            self._bodies.put,
            _target(upload.key) + query,
            chunks,
            size_bytes=size_bytes,
            sha256=sha256,
            headers={},
        )
        with self._translated():
            etag = await self._retries.call(send, is_retryable)
        return UploadedPart(number, etag, sha256)

    async def complete(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        """Make the object visible; raises WriteUnknown unless the answer is clear."""
        await self._look(upload.key)
        ordered = sorted(parts, key=lambda part: part.number)
        call = partial(
            self._control.call,
            "complete_multipart_upload",
            Key=upload.key,
            UploadId=upload.upload_id,
            IfNoneMatch="*",
            MultipartUpload={"Parts": [_described(part) for part in ordered]},
        )
        try:
            reply = await self._retries.call(call, is_write_retryable)
        except StoreFailure as failure:
            # No such upload: an earlier attempt or another worker has completed it.
            if failure.unclear or failure.is_refused_as("NoSuchUpload"):
                raise WriteUnknown(upload.key, failure.problem) from None
            raise self._location.write_error_of(upload.key, failure) from None
        # The SDK treats an empty answer as success.
        if not reply.get("ETag"):
            raise WriteUnknown(upload.key, "the answer names no ETag")

    async def abort(self, upload: Upload) -> None:
        """Drop the upload, repeatedly until the store lists no part of it."""
        which = {"Key": upload.key, "UploadId": upload.upload_id}
        once = partial(self._abort_once, which)
        with self._translated():
            await self._retries.call(once, lambda it: isinstance(it, PartsLeft), ABORT_ROUNDS)

    async def _abort_once(self, which: Mapping[str, str]) -> None:
        try:
            await self._call("abort_multipart_upload", **which)
            if (await self._call("list_parts", **which, MaxParts=1)).get("Parts"):
                raise PartsLeft
        except Refused as refusal:
            if refusal.status != 404 or refusal.code == "NoSuchBucket":
                raise

    async def head(self, key: str) -> ObjectInfo | None:
        with self._translated():
            try:
                reply = await self._call("head_object", Key=key, ChecksumMode="ENABLED")
            except Refused as refusal:
                if refusal.status == 404:
                    return None
                raise
            if "ContentLength" not in reply or "ETag" not in reply:
                raise NoReply("the answer names no length or no ETag", unclear=False)
        metadata = reply.get("Metadata", {})
        return ObjectInfo(
            size_bytes=reply["ContentLength"],
            etag=reply["ETag"],
            sha256=metadata.get("sha256"),
            token=metadata.get("token"),
            checksum=_checksum(reply),
        )

    @asynccontextmanager
    async def read(self, key: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Stream an object; raises ItemError(store_error, transient) if it breaks off."""
        with self._translated():
            try:
                reply = await self._call("get_object", Key=key)
            except Refused as refusal:
                if refusal.status == 404 and refusal.code != "NoSuchBucket":
                    raise not_found(key) from None
                raise
        async with reply["Body"] as body:
            yield self._stream(body)

    async def _stream(self, body: Any) -> AsyncIterator[bytes]:
        with self._translated(), sdk_errors():
            async for chunk in body.iter_chunks(READ_BYTES):
                yield chunk

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        position: dict[str, str] = {}
        while True:
            with self._translated():
                page = await self._call("list_objects_v2", Prefix=prefix, **position)
            for item in page.get("Contents", ()):
                yield item["Key"], item["Size"]
            if not page.get("IsTruncated"):
                return
            position = {"ContinuationToken": page["NextContinuationToken"]}

    async def uploads(self, prefix: str) -> AsyncIterator[Upload]:
        """Yield the multipart uploads under way below `prefix`.

        SeaweedFS 4.48 does not sort its pages by key, so it lists only some of more than 1,000
        uploads. Abort those and list again to see the rest.
        """
        position: dict[str, str] = {}
        while True:
            with self._translated():
                page = await self._call("list_multipart_uploads", Prefix=prefix, **position)
            found = [
                Upload(item["Key"], item["UploadId"], item.get("Initiated"))
                for item in page.get("Uploads", ())
            ]
            for upload in found:
                yield upload
            if not page.get("IsTruncated") or not found:
                return
            # The same as NextKeyMarker and NextUploadIdMarker, which not every store sends.
            position = {"KeyMarker": found[-1].key, "UploadIdMarker": found[-1].upload_id}

    async def check_bucket(self) -> None:
        """Raise Outage, with the remedy, unless the bucket exists and may be listed.

        A listing says more than HeadBucket, whose errors have no body.
        """
        with self._translated():
            await self._call("list_objects_v2", MaxKeys=1)

    async def create_bucket(self) -> None:
        """Create the bucket if it does not exist; meant for the embedded server."""
        with self._translated():
            try:
                await self._call("create_bucket")
            except Refused as refusal:
                if refusal.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

    async def _look(self, key: str) -> None:
        if self._looks_first and await self.head(key) is not None:
            raise ObjectExists(key)

    async def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        once = partial(self._control.call, operation, **parameters)
        return await self._retries.call(once, is_retryable)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except StoreFailure as failure:
            raise self._location.error_of(failure) from None


def _target(key: str) -> str:
    return quote(key, safe="/~")


def _described(part: UploadedPart) -> dict[str, Any]:
    checksum = base64.b64encode(part.sha256).decode()
    return {"PartNumber": part.number, "ETag": part.etag, "ChecksumSHA256": checksum}


def _checksum(reply: Mapping[str, Any]) -> str | None:
    for name, algorithm in _CHECKSUMS.items():
        if value := reply.get(name):
            return f"{algorithm}:{value}"
    return None
