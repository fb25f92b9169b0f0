"""Bodies to S3: a list of chunks goes to the socket as it is, signed with its known digest.

The SDK would join the chunks, read them again to sign them, and cost more than a millisecond a
call. This is the hot path, so it is one signed PUT on an aiohttp session.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from yarl import URL

from collector.core.parts import Chunk
from collector.store.failures import NoReply, read_refusal, read_transport_error

# A slower upload times out; the deadline of an item assumes the same.
SLOWEST_BYTES_PER_SECOND = 100_000
# TLS encrypts a piece at a time. The ciphertext of larger pieces would take memory outside the
# budget, and cost more CPU (docs/decisions/0010-fast-client.md).
TLS_PIECE_BYTES = 256 * 1024
# An S3 error has a few hundred bytes of XML; a longer answer is something else.
_MAX_ERROR_BYTES = 16 * 1024


class ChunkPayload(aiohttp.Payload):
    """Chunks as a request body, neither joined nor copied.

    It counts as consumed as soon as the first byte is written. aiohttp repeats a PUT by itself if
    an idle connection breaks, unless the body is consumed. A create-only write must not be repeated
    unseen: its first attempt would make the second one fail.
    """

    def __init__(self, chunks: Sequence[Chunk], size_bytes: int) -> None:
        """Raises ValueError unless `chunks` hold exactly `size_bytes`."""
        if (held_bytes := sum(map(len, chunks))) != size_bytes:
            raise ValueError(f"chunks hold {held_bytes} bytes, not {size_bytes}")
        super().__init__(chunks)
        self._size = size_bytes

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        """Write all chunks; `__init__` has checked their length."""
        self._consumed = True
        for chunk in self._value:
            await writer.write(chunk)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a body of chunks is not text")


@dataclass(frozen=True, slots=True)
class Address:
    """The bucket's `url`, which ends with a slash, and the `region` that signatures name."""

    url: str
    region: str


class BodySender:
    """Sends bodies to one bucket; each call is one attempt."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        address: Address,
        credentials: Callable[[], Awaitable[Credentials]],
        *,
        grace_seconds: float,
    ) -> None:
        self._session = session
        self._address = address
        self._credentials = credentials
        self._grace_seconds = grace_seconds

    async def put(
        self,
        target: str,
        chunks: Sequence[Chunk],
        *,
        size_bytes: int,
        sha256: bytes,
        headers: Mapping[str, str],
    ) -> str:
        """PUT the chunks to `target` (quoted key and query) and return the ETag.

        The store verifies `sha256` twice: as part of the signature and as the checksum it keeps.
        Raises StoreFailure. On cancellation the connection is closed, so an incomplete body is
        never stored.
        """
        url = self._address.url + target
        signed = signed_headers(
            "PUT",
            url,
            {**headers, "x-amz-checksum-sha256": base64.b64encode(sha256).decode()},
            body_sha256=sha256,
            credentials=await self._credentials(),
            region=self._address.region,
        )
        pieces = _pieces(chunks) if url.startswith("https:") else chunks
        payload = ChunkPayload(pieces, size_bytes)
        try:
            return await self._send(url, payload, signed, size_bytes)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise read_transport_error(error, sent=payload.consumed) from None

    async def _send(
        self, url: str, payload: ChunkPayload, headers: Mapping[str, str], size_bytes: int
    ) -> str:
        async with self._session.put(
            URL(url, encoded=True),
            data=payload,
            headers={**headers, "content-length": str(size_bytes)},
            allow_redirects=False,
            # Bounds the whole call, including the wait for a free connection and a stalled body.
            timeout=aiohttp.ClientTimeout(
                total=self._grace_seconds + size_bytes / SLOWEST_BYTES_PER_SECOND,
                sock_connect=self._session.timeout.sock_connect,
                sock_read=self._session.timeout.sock_read,
            ),
        ) as reply:
            if reply.status >= 300:
                region = reply.headers.get("x-amz-bucket-region")
                raise read_refusal(reply.status, await _beginning(reply.content), region)
            if not (etag := reply.headers.get("ETag")):
                raise NoReply("the answer names no ETag", unclear=True)
            return etag


def _pieces(chunks: Sequence[Chunk]) -> list[Chunk]:
    return [
        memoryview(chunk)[start : start + TLS_PIECE_BYTES]
        for chunk in chunks
        for start in range(0, len(chunk), TLS_PIECE_BYTES)
    ]


async def _beginning(stream: aiohttp.StreamReader) -> bytes:
    try:
        return await stream.readexactly(_MAX_ERROR_BYTES)
    except asyncio.IncompleteReadError as short:
        return short.partial


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request is signed with; only temporary credentials have a token."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    token: str | None = field(repr=False, default=None)


class _Signer(S3SigV4Auth):  # type: ignore[misc]
    """The SDK's signer, given the digest of a body that it never reads."""

    def __init__(self, credentials: Credentials, region: str, body_sha256: bytes) -> None:
        super().__init__(credentials, "s3", region)
        self._body_sha256 = body_sha256.hex()

    def payload(self, request: AWSRequest) -> str:
        return self._body_sha256


def signed_headers(
    method: str,
    url: str,
    headers: Mapping[str, str],
    *,
    body_sha256: bytes,
    credentials: Credentials,
    region: str,
) -> dict[str, str]:
    """Return `headers` plus those that sign the request; the signature covers every header.

    `url` is already percent-encoded.
    """
    request = AWSRequest(method, url, headers=headers)
    _Signer(credentials, region, body_sha256).add_auth(request)
    return dict(request.headers.items())
