"""HTTP on aiohttp: API answers whole and bounded, images as streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from collector.core.errors import Code, Edge, Fault, ItemError, Outage, PayloadError
from collector.core.hosts import require_allowed
from collector.ports import Body, Reply

# An answer of 64 items has about 80 kB; a hundred times that is not an answer any more.
MAX_REPLY_BYTES = 8 * 1024 * 1024
CONNECT_TIMEOUT_SECONDS = 10.0
# Silence on an open connection; a drip is caught by the deadline of the whole transfer.
READ_TIMEOUT_SECONDS = 30.0
# An API answer comes whole within this, or is asked for again.
REPLY_TIMEOUT_SECONDS = 60.0
# Large reads cost less CPU per byte; two of these may lie in aiohttp's buffer per connection.
READ_BUFFER_BYTES = 256 * 1024


class AiohttpClient:
    """The Http port on one aiohttp session. Follows no redirect, keeps no cookie.

    Images are fetched from `image_hosts` only, without the API's headers: a key never reaches
    another host.
    """

    def __init__(
        self, session: aiohttp.ClientSession, image_hosts: frozenset[str], user_agent: str
    ) -> None:
        self._session = session
        self._image_hosts = image_hosts
        self._image_headers = {"User-Agent": user_agent, "Accept-Encoding": "identity"}

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        """GET a small answer.

        Raises Outage(api) where nobody answers in time, PayloadError for more than
        MAX_REPLY_BYTES or a body that breaks off.
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
    async def open(self, url: str) -> AsyncIterator[Body]:
        """GET an image; leaving the context drops what was not read.

        Raises ItemError: host_refused (permanent) for a host that is not listed, source_error
        (transient; systemic where no connection can be made).
        """
        require_allowed(url, self._image_hosts)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=READ_TIMEOUT_SECONDS
        )
        try:
            response = await self._session.get(
                url, headers=self._image_headers, timeout=timeout, allow_redirects=False
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _source_error(error) from None
        try:
            yield _AiohttpBody(response)
        finally:
            # Not `release`: what was not read must not be drained at the budget's cost.
            response.close()


class _AiohttpBody:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _source_error(error) from None


@asynccontextmanager
async def open_http(
    *, image_hosts: frozenset[str], user_agent: str, connections: int
) -> AsyncIterator[AiohttpClient]:
    """Open a client with at most `connections` sockets; none is left behind."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        read_bufsize=READ_BUFFER_BYTES,
    )
    async with session:
        yield AiohttpClient(session, image_hosts, user_agent)


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_REPLY_BYTES:
            raise PayloadError(f"the answer is larger than {MAX_REPLY_BYTES} bytes")
    return bytes(body)


def describe(error: BaseException) -> str:
    """Return the kind of a network error and its host; never an address with its query."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"cannot connect to {error.host}:{error.port} (the name is not known here)"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {error.host}:{error.port} ({type(error.os_error).__name__})"
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__


def _source_error(error: BaseException) -> ItemError:
    unreachable = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    fault = Fault.SYSTEMIC if unreachable else Fault.TRANSIENT
    return ItemError(Code.SOURCE_ERROR, describe(error), fault=fault)
