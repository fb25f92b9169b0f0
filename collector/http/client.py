"""HTTP on aiohttp: API answers whole and bounded, images as streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing

import aiohttp

from collector.core.addresses import redirect_target, require_allowed
from collector.core.errors import Code, Edge, Fault, ItemError, Outage, PayloadError
from collector.core.parts import Chunk
from collector.http.addresses import PublicResolver, describe, source_error
from collector.http.connection import coalesced
from collector.http.fast_client import FastClient
from collector.ports import Body, Reply

# An answer of 64 items has about 80 kB; a hundred times as much cannot be an API answer.
MAX_REPLY_BYTES = 8 * 1024 * 1024
CONNECT_TIMEOUT_SECONDS = 10.0
# Silence on an open connection. The deadline of the whole transfer ends a body that drips.
READ_TIMEOUT_SECONDS = 30.0
# A whole API answer must arrive within this, or it is requested again.
REPLY_TIMEOUT_SECONDS = 60.0
# An image host that has moved redirects once; a longer chain is a mistake, or a trap.
MAX_REDIRECTS = 3
# Large reads cost less CPU per byte; aiohttp may buffer two of these for each connection.
READ_BUFFER_BYTES = 256 * 1024


class AiohttpClient:
    """The Http port on aiohttp. Keeps no cookies.

    Images are fetched from `image_hosts` only, without the API's headers: a key never reaches
    another host. They go through `fast_client`, or through `image_session` if that is None or
    cannot fetch them. `open` follows the redirects of images itself; those of the API are never
    followed.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        image_session: aiohttp.ClientSession,
        image_hosts: frozenset[str],
        user_agent: str,
        fast_client: FastClient | None = None,
    ) -> None:
        self._session = session
        self._image_session = image_session
        self._fast = fast_client
        self._image_hosts = image_hosts
        self._image_headers = {
            "User-Agent": user_agent,
            "Accept-Encoding": "identity",
            # The client must end a connection: if the host closes it while uvloop's TLS buffers the
            # body, the rest of the body is lost (see `connection`).
            "Connection": "keep-alive",
        }

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        """GET a small answer.

        Raises Outage(api) if no answer arrives in time, PayloadError if it is larger than
        MAX_REPLY_BYTES or breaks off.
        """
        timeout = aiohttp.ClientTimeout(
            total=REPLY_TIMEOUT_SECONDS, sock_connect=CONNECT_TIMEOUT_SECONDS
        )
        sent = {"Accept-Encoding": "identity", **headers}
        try:
            async with self._session.get(
                url, headers=sent, timeout=timeout, allow_redirects=False
            ) as response:
                return Reply(response.status, response.headers, await _bounded(response))
        except aiohttp.ClientPayloadError:
            raise PayloadError("the answer broke off") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Outage(Edge.API, describe(error)) from None

    @asynccontextmanager
    async def open(self, url: str, *, max_bytes: int | None = None) -> AsyncIterator[Body]:
        """GET an image; leaving the context drops unread bytes.

        Follows up to MAX_REDIRECTS, each to a listed host. Raises ItemError: host_refused or
        redirect_refused (permanent) for a host that is not listed, source_error (transient;
        systemic if no connection can be made).
        """
        require_allowed(url, self._image_hosts)
        for _ in range(MAX_REDIRECTS + 1):
            async with self._get_image(url, max_bytes) as body:
                target = redirect_target(url, body.status, body.headers, self._image_hosts)
                if target is None:
                    yield body
                    return
            url = target
        raise ItemError(
            Code.REDIRECT_REFUSED, f"more than {MAX_REDIRECTS} redirects", fault=Fault.PERMANENT
        )

    @asynccontextmanager
    async def _get_image(self, url: str, max_bytes: int | None) -> AsyncIterator[Body]:
        if self._fast is not None:
            async with self._fast.get(url, self._image_headers, max_bytes) as body:
                if body is not None:
                    yield body
                    return
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=READ_TIMEOUT_SECONDS
        )
        try:
            response = await self._image_session.get(
                url, headers=self._image_headers, timeout=timeout, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise source_error(error) from None
        try:
            yield _AiohttpBody(response)
        finally:
            # Not `release`: that would read the rest of the body, at the cost of the budget.
            response.close()


class _AiohttpBody:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    async def chunks(self) -> AsyncIterator[Chunk]:
        try:
            clock = asyncio.get_running_loop().time
            async for chunk in coalesced(self._response.content.iter_any(), clock):
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise source_error(error) from None


@asynccontextmanager
async def open_http(
    *, image_hosts: frozenset[str], user_agent: str, connections: int, is_fast: bool = True
) -> AsyncIterator[AiohttpClient]:
    """Open a client with at most `connections` aiohttp sockets for each session; all are closed.

    The fast client has one connection for each image in flight, and keeps `connections` idle ones.
    """
    fast_client = FastClient(
        max_idle=connections,
        connect_seconds=CONNECT_TIMEOUT_SECONDS,
        silence_seconds=READ_TIMEOUT_SECONDS,
    )
    async with (
        _session(connections, force_close=False) as session,
        # aiohttp reuses a connection as soon as a body has ended, even if the body turns out wrong.
        # If a host lagged one answer, each request would get the image of the one before it.
        _session(connections, force_close=True) as image_session,
    ):
        with closing(fast_client):
            yield AiohttpClient(
                session,
                image_session,
                image_hosts,
                user_agent,
                fast_client if is_fast else None,
            )


def _session(connections: int, *, force_close: bool) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections, resolver=PublicResolver(), force_close=force_close
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=READ_BUFFER_BYTES,
    )


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            raise PayloadError(f"the answer is larger than {MAX_REPLY_BYTES} bytes")
    return bytes(body)
