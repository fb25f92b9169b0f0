"""A TCP proxy before PostgreSQL that reads along, and cuts where a test says."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import urlsplit

_SSL_REQUEST = 80877103
_CHUNK_BYTES = 64 * 1024


class Cut(Enum):
    """What becomes of a statement.

    BEFORE: it never reaches the server. AFTER: the server carries it out, and its answer is lost.
    In both cases the connection is gone then. SILENT: it is carried out and never answered, and the
    connection stays.
    """

    BEFORE = auto()
    AFTER = auto()
    SILENT = auto()


@dataclass
class _Rule:
    fragment: bytes
    cut: Cut
    skip: int
    times: int

    def takes(self, statement: bytes) -> bool:
        if not self.times or self.fragment not in statement:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class PostgresPeer:
    """Passes connections on to the server; `statements` are the texts that were run, in order."""

    def __init__(self, dsn: str) -> None:
        self._address = urlsplit(dsn)
        self.port = 0
        self.statements: list[bytes] = []
        self._rules: list[_Rule] = []
        self._connections: set[_Connection] = set()
        self._is_down = False

    @property
    def dsn(self) -> str:
        """The address of the same database through this proxy."""
        login = self._address.netloc.rpartition("@")[0]
        return self._address._replace(netloc=f"{login}@127.0.0.1:{self.port}").geturl()

    @property
    def upstream(self) -> tuple[str, int]:
        """Where the server is."""
        return self._address.hostname or "", self._address.port or 5432

    def on(self, fragment: str, cut: Cut, *, skip: int = 0, times: int = 1) -> None:
        """Cut statements whose text has this fragment, behind the first `skip` of them."""
        self._rules.append(_Rule(fragment.encode(), cut, skip, times))

    def heal(self) -> None:
        """Forget all rules, and let connections through."""
        self._rules.clear()
        self._is_down = False

    def cut_all(self) -> None:
        """End all connections at once, as a server that dies does."""
        for connection in list(self._connections):
            connection.abort()

    def go_down(self) -> None:
        """End all connections and let no new one through."""
        self._is_down = True
        self.cut_all()

    def ruling(self, statement: bytes) -> Cut | None:
        """Note a statement and say what becomes of it."""
        self.statements.append(statement)
        return next((rule.cut for rule in self._rules if rule.takes(statement)), None)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, both ways."""
        if self._is_down:
            writer.transport.abort()
            return
        with suppress(ConnectionError, OSError):
            server = await asyncio.open_connection(*self.upstream)
            connection = _Connection(self, (reader, writer), server)
            self._connections.add(connection)
            try:
                await connection.run()
            finally:
                self._connections.discard(connection)
                connection.abort()


class _Connection:
    def __init__(
        self,
        peer: PostgresPeer,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._peer = peer
        self._client_reader, self._client = client
        self._server_reader, self._server = server
        self._texts: dict[bytes, bytes] = {}
        self._cut: Cut | None = None

    def abort(self) -> None:
        self._client.transport.abort()
        self._server.transport.abort()

    async def run(self) -> None:
        done, pending = await asyncio.wait(
            [asyncio.ensure_future(self._up()), asyncio.ensure_future(self._down())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in pending:
            task.cancel()
        await asyncio.gather(*done, *pending, return_exceptions=True)

    async def _up(self) -> None:
        await self._pass_startup()
        with suppress(asyncio.IncompleteReadError):
            while True:
                kind = await self._client_reader.readexactly(1)
                size = await self._client_reader.readexactly(4)
                body = await self._client_reader.readexactly(struct.unpack("!I", size)[0] - 4)
                statement = self._statement(kind, body)
                cut = None if statement is None else self._peer.ruling(statement)
                if cut is Cut.BEFORE:
                    return
                # Before it is sent: its answer may be quicker than the next line.
                self._cut = cut or self._cut
                self._server.write(kind + size + body)
                await self._server.drain()

    async def _pass_startup(self) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                size = await self._client_reader.readexactly(4)
                body = await self._client_reader.readexactly(struct.unpack("!I", size)[0] - 4)
                self._server.write(size + body)
                if struct.unpack("!I", body[:4])[0] != _SSL_REQUEST:
                    return

    def _statement(self, kind: bytes, body: bytes) -> bytes | None:
        """Return the text of the statement that a message runs, None where it runs none."""
        if kind == b"Q":
            return body.rstrip(b"\0")
        if kind == b"P":
            name, text, _ = body.split(b"\0", 2)
            self._texts[name] = text
        if kind == b"B":
            _, name, _ = body.split(b"\0", 2)
            return self._texts.get(name, b"")
        return None

    async def _down(self) -> None:
        while data := await self._server_reader.read(_CHUNK_BYTES):
            if self._cut is Cut.AFTER:
                return
            if self._cut is Cut.SILENT:
                continue
            self._client.write(data)
            await self._client.drain()


@asynccontextmanager
async def open_postgres_peer(dsn: str) -> AsyncIterator[PostgresPeer]:
    """Open a proxy before the server of `dsn`."""
    peer = PostgresPeer(dsn)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await peer.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        peer.cut_all()
        for task in list(tasks):
            task.cancel()
        while tasks:
            await asyncio.sleep(0)
