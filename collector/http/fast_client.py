"""The fast client for images: bytes go from the socket into the buffers that are sent on.

aiohttp copies what it receives and hands it over in small pieces; of the CPU that an image costs,
that is the largest share that can be saved (docs/decisions/0010-fast-client.md). Here one GET is
written, one strict head is read, and a body of known length is received in place. What is unusual
is left to aiohttp, which knows the rest of HTTP: `get` says so with None.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohappyeyeballs import start_connection

from collector.http.addresses import require_public, source_error, unreached_source
from collector.http.connection import COALESCE_SECONDS, MIN_CHUNK_BYTES, BrokenOff, Connection, Head

# Idle for longer, a connection may have been forgotten by whatever lies between, without a word:
# aiohttp gives up its own as soon.
MAX_IDLE_SECONDS = 15.0
# RFC 8305: the next address is tried when the one before it has not answered by then.
NEXT_ADDRESS_SECONDS = 0.25
# Letters that need no quoting, in a form that aiohttp would send as it stands, too.
_ADDRESS = re.compile(
    r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
    r"(/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*)"
)
_OK = 200
_HTTPS_PORT, _HTTP_PORT = 443, 80


class Place(NamedTuple):
    """Where a connection leads."""

    is_secure: bool
    host: str
    port: int


class FastClient:
    """Connections to image hosts, of which `max_idle` are kept for each; none outlives `close`."""

    def __init__(self, *, max_idle: int, connect_seconds: float, silence_seconds: float) -> None:
        self._max_idle = max_idle
        self._connect_seconds = connect_seconds
        self._silence_seconds = silence_seconds
        self._idle: dict[Place, list[Connection]] = {}
        # Whose answers are none for this client: they are not asked twice each time.
        self._odd: set[Place] = set()
        self._trust: ssl.SSLContext | None = None

    @asynccontextmanager
    async def get(
        self, url: str, headers: Mapping[str, str], max_bytes: int | None = None
    ) -> AsyncIterator[FastBody | None]:
        """GET `url`; None where that is not for this client, and aiohttp must be asked.

        A body of more than `max_bytes` is not received before it is asked for. Raises ItemError.
        Leaving the context drops what was not read; the connection is kept only where its answer
        was read to the end.
        """
        address = _ADDRESS.fullmatch(url)
        place = _place(address) if address else None
        if address is None or place is None or place in self._odd or "/." in address[4]:
            yield None
            return
        connection = self._kept(place) or await self._connect(place)
        try:
            yield await self._answer(place, connection, _request(address, headers), max_bytes)
        except BaseException:
            # Also where the answer came whole: it may be another request's.
            connection.abort()
            raise
        finally:
            self._let_go(place, connection)

    def close(self) -> None:
        """End all connections that are kept."""
        for connections in self._idle.values():
            for connection in connections:
                connection.abort()
        self._idle.clear()

    async def _answer(
        self, place: Place, connection: Connection, request: bytes, max_bytes: int | None
    ) -> FastBody | None:
        try:
            head = await connection.ask(request, self._silence_seconds, max_bytes)
        except BrokenOff as error:
            # A kept connection may have been closed just as it was used again.
            if connection.is_new:
                raise source_error(error) from None
            return None
        except TimeoutError as error:
            raise source_error(error) from None
        if head is None or (head.status == _OK and head.length_bytes is None):
            self._odd.add(place)
            return None
        return FastBody(head, connection, self._silence_seconds)

    def _kept(self, place: Place) -> Connection | None:
        idle = self._idle.get(place, [])
        fresh_since = asyncio.get_running_loop().time() - MAX_IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.is_reusable and connection.idle_since_seconds >= fresh_since:
                return connection
            connection.abort()
        return None

    async def _connect(self, place: Place) -> Connection:
        loop, host = asyncio.get_running_loop(), place.host.strip("[]")
        trust = self._context() if place.is_secure else None
        try:
            async with asyncio.timeout(self._connect_seconds):
                addresses = await loop.getaddrinfo(host, place.port, type=socket.SOCK_STREAM)
                require_public(host, (str(address[4][0]) for address in addresses))
                connected = await start_connection(
                    addresses, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, loop=loop
                )
                _, connection = await loop.create_connection(
                    Connection, sock=connected, ssl=trust, server_hostname=host if trust else None
                )
        except (OSError, TimeoutError, UnicodeError) as error:
            raise unreached_source(place.host, place.port, error) from None
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._trust is None:
            self._trust = ssl.create_default_context()
        return self._trust

    def _let_go(self, place: Place, connection: Connection) -> None:
        idle = self._idle.setdefault(place, [])
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
        """Yield the body as it arrives, in place: nobody writes there again. Raises ItemError."""
        left = self._length_bytes
        while left:
            slab, expected = self._connection.next_slab()
            left -= expected
            taken = 0
            while taken < expected:
                filled = await self._chunk_behind(taken, expected)
                yield slab[taken:filled]
                taken = filled

    async def _chunk_behind(self, taken: int, expected: int) -> int:
        """Wait until a chunk has come behind the first `taken` bytes; return where it ends."""
        clock, filled = asyncio.get_running_loop().time, taken
        due = clock() + COALESCE_SECONDS
        try:
            while True:
                filled = await self._connection.more_than(filled, self._silence_seconds)
                if filled == expected or filled - taken >= MIN_CHUNK_BYTES or clock() >= due:
                    return filled
        except (BrokenOff, TimeoutError) as error:
            raise source_error(error) from None


def _place(address: re.Match[str]) -> Place:
    is_secure = address[1] == "https"
    port = int(address[3]) if address[3] else _HTTPS_PORT if is_secure else _HTTP_PORT
    return Place(is_secure, address[2].lower(), port)


def _request(address: re.Match[str], headers: Mapping[str, str]) -> bytes:
    host = f"{address[2]}:{address[3]}" if address[3] else address[2]
    fields = {"Host": host, "Accept": "*/*", **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET {address[4]} HTTP/1.1\r\n{lines}\r\n".encode("ascii")
