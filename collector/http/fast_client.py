"""The fast client for images: bytes go from the socket into the buffers that are uploaded.

aiohttp copies what it receives and delivers it in small pieces. Of the CPU time that an image
costs, that is the largest share that can be saved (docs/decisions/0010-fast-client.md). This client
writes one GET, reads one strict head, and receives a body of known length in origin. It leaves
everything unusual to aiohttp, which knows the rest of HTTP: `get` then yields None.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import NamedTuple

from aiohappyeyeballs import start_connection

from collector.http.addresses import connect_error, require_public, source_error
from collector.http.connection import COALESCE_SECONDS, MIN_CHUNK_BYTES, BrokenOff, Connection, Head

# A router or firewall may forget a connection that is idle for longer. aiohttp uses the same limit.
MAX_IDLE_SECONDS = 15.0
# RFC 8305: the next address is tried if the one before it has not answered by then.
NEXT_ADDRESS_SECONDS = 0.25
# Only characters that need no quoting, so that aiohttp would send the same request.
_ADDRESS = re.compile(
    r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
    r"(/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*)"
)
_HTTPS_PORT, _HTTP_PORT = 443, 80


class Origin(NamedTuple):
    is_secure: bool
    host: str
    port: int


class FastClient:
    """Connections to image hosts: at most `max_idle` idle ones for each; `close` ends them."""

    def __init__(self, *, max_idle: int, connect_seconds: float, silence_seconds: float) -> None:
        self._max_idle = max_idle
        self._connect_seconds = connect_seconds
        self._silence_seconds = silence_seconds
        self._idle: dict[Origin, list[Connection]] = {}
        # Their answers are not for this client, so they are not asked twice each time.
        self._unsuitable: set[Origin] = set()
        self._tls: ssl.SSLContext | None = None

    @asynccontextmanager
    async def get(
        self, url: str, headers: Mapping[str, str], max_bytes: int | None = None
    ) -> AsyncIterator[FastBody | None]:
        """GET `url`; yields None if this client cannot, and the caller must ask aiohttp.

        A body of more than `max_bytes` is not received before the caller asks for it. Raises
        ItemError. Leaving the context drops unread bytes; the connection is kept only if its answer
        was read to the end.
        """
        address = _ADDRESS.fullmatch(url)
        origin = _origin(address) if address else None
        if address is None or origin is None or origin in self._unsuitable or "/." in address[4]:
            yield None
            return
        connection = self._reuse(origin) or await self._connect(origin)
        try:
            yield await self._answer(origin, connection, _request(address, headers), max_bytes)
        except BaseException:
            # Even after a whole answer: it may belong to another request.
            connection.abort()
            raise
        finally:
            self._release(origin, connection)

    def close(self) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    async def _answer(
        self, origin: Origin, connection: Connection, request: bytes, max_bytes: int | None
    ) -> FastBody | None:
        try:
            head = await connection.ask(request, self._silence_seconds, max_bytes)
        except BrokenOff as error:
            # The host may have closed an idle connection just as it was used again.
            if connection.is_new:
                raise source_error(error) from None
            return None
        except TimeoutError as error:
            raise source_error(error) from None
        if head is None or (head.status == HTTPStatus.OK and head.length_bytes is None):
            self._unsuitable.add(origin)
            return None
        return FastBody(head, connection, self._silence_seconds)

    def _reuse(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin, [])
        fresh_since = asyncio.get_running_loop().time() - MAX_IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.is_reusable and connection.idle_since_seconds >= fresh_since:
                return connection
            connection.abort()
        return None

    async def _connect(self, origin: Origin) -> Connection:
        loop, host = asyncio.get_running_loop(), origin.host.strip("[]")
        tls = self._tls_context() if origin.is_secure else None
        try:
            async with asyncio.timeout(self._connect_seconds):
                addresses = await loop.getaddrinfo(host, origin.port, type=socket.SOCK_STREAM)
                require_public(host, (str(address[4][0]) for address in addresses))
                connected = await start_connection(
                    addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, loop=loop
                )
                _, connection = await loop.create_connection(
                    Connection, sock=connected, ssl=tls, server_hostname=host if tls else None
                )
        except (OSError, TimeoutError, UnicodeError) as error:
            raise connect_error(origin.host, origin.port, error) from None
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _release(self, origin: Origin, connection: Connection) -> None:
        idle = self._idle.setdefault(origin, [])
        if connection.is_reusable and len(idle) < self._max_idle:
            connection.idle_since_seconds = asyncio.get_running_loop().time()
            idle.append(connection)
        else:
            connection.abort()


class FastBody:
    """An answer whose body has not been read yet."""

    def __init__(self, head: Head, connection: Connection, silence_seconds: float) -> None:
        self.status = head.status
        self.headers = head.headers
        self._length_bytes = head.length_bytes or 0
        self._connection = connection
        self._silence_seconds = silence_seconds

    async def chunks(self) -> AsyncIterator[memoryview]:
        """Yield the body as it arrives; the views stay valid and unchanged. Raises ItemError."""
        left = self._length_bytes
        while left:
            slab, expected = self._connection.next_slab()
            left -= expected
            taken = 0
            while taken < expected:
                filled = await self._end_of_chunk(taken, expected)
                yield slab[taken:filled]
                taken = filled

    async def _end_of_chunk(self, taken: int, expected: int) -> int:
        """Wait until a chunk has arrived after the first `taken` bytes; return where it ends."""
        clock, filled = asyncio.get_running_loop().time, taken
        due = clock() + COALESCE_SECONDS
        try:
            while True:
                filled = await self._connection.more_than(filled, self._silence_seconds)
                if filled == expected or filled - taken >= MIN_CHUNK_BYTES or clock() >= due:
                    return filled
        except (BrokenOff, TimeoutError) as error:
            raise source_error(error) from None


def _origin(address: re.Match[str]) -> Origin:
    is_secure = address[1] == "https"
    port = int(address[3]) if address[3] else _HTTPS_PORT if is_secure else _HTTP_PORT
    return Origin(is_secure, address[2].lower(), port)


def _request(address: re.Match[str], headers: Mapping[str, str]) -> bytes:
    host = f"{address[2]}:{address[3]}" if address[3] else address[2]
    fields = {"Host": host, "Accept": "*/*", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET {address[4]} HTTP/1.1\r\n{lines}\r\n".encode("ascii")
