"""The fast client: in place, in order, and out of the way where anything is unusual."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.core.errors import Code, Fault, ItemError
from collector.http import connection
from collector.http import fast_client as fast_clients
from collector.http.client import AiohttpClient, open_http
from collector.http.connection import MAX_HEAD_BYTES
from collector.http.fast_client import FastClient

TIMEOUT_SECONDS = 10
HEADERS = {"User-Agent": "test"}
OK = b"HTTP/1.1 200 OK\r\n"


def slabs_of(monkeypatch: pytest.MonkeyPatch, size_bytes: int) -> None:
    """Let bodies come in slabs of this size, the last one included."""
    monkeypatch.setattr(connection, "SLAB_BYTES", size_bytes)
    monkeypatch.setattr(connection, "MIN_REST_BYTES", 0)


def head_of(length: int) -> bytes:
    return OK + f"Content-Length: {length}\r\n\r\n".encode()


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


class Peer:
    """A server that does to each connection what a script says, and counts."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.connections = 0
        self.requests: list[bytes] = []
        self.host = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Follow the script, as far as the other side lets us."""
        self.connections += 1
        try:
            await self._script(reader, writer, self.connections)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def asked(self, reader: asyncio.StreamReader) -> bytes:
        """Read one request."""
        request = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(request)
        return request


@asynccontextmanager
async def peer(script: Script, trust: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    found = Peer(script)
    async with await asyncio.start_server(found.serve, "127.0.0.1", 0, ssl=trust) as server:
        found.host = "{}:{}".format(*server.sockets[0].getsockname())
        with anyio.fail_after(TIMEOUT_SECONDS):
            yield found


@asynccontextmanager
async def client(*hosts: str) -> AsyncIterator[AiohttpClient]:
    async with open_http(image_hosts=frozenset(hosts), user_agent="t", connections=4) as http:
        yield http


async def body_of(http: AiohttpClient, url: str) -> bytes:
    async with http.open(url) as body:
        return b"".join([bytes(chunk) async for chunk in body.chunks()])


async def read(client: FastClient, url: str) -> bytes:
    async with client.get(url, HEADERS) as body:
        assert body is not None
        return b"".join([bytes(chunk) async for chunk in body.chunks()])


def answers(*bodies: bytes, pieces: int = 1) -> Script:
    """Answer request after request, on whatever connection, each in so many writes."""
    left = list(bodies)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        while left:
            await reader.readuntil(b"\r\n\r\n")
            body = left.pop(0)
            answer = head_of(len(body)) + body
            step = -(-len(answer) // pieces)
            for start in range(0, len(answer), step):
                writer.write(answer[start : start + step])
                await writer.drain()
                await asyncio.sleep(0)

    return script


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 40),
    st.integers(1, 7),
)
def test_bodies_come_as_they_are_however_they_are_cut(
    sizes: list[int], pieces: int, slab_bytes: int
) -> None:
    bodies = [bytes(range(size * 7)) * size for size in sizes]

    async def main() -> None:
        client = FastClient(max_idle=4, connect_seconds=5, silence_seconds=5)
        async with peer(answers(*bodies, pieces=pieces)) as server:
            for body in bodies:
                async with client.get(f"http://{server.host}/x", HEADERS) as found:
                    assert found is not None
                    chunks = [chunk async for chunk in found.chunks()]
                assert b"".join(chunks) == body
                assert all(0 < len(chunk) <= slab_bytes for chunk in chunks)
            client.close()

    with pytest.MonkeyPatch.context() as patch:
        slabs_of(patch, slab_bytes)
        anyio.run(main)


async def test_a_chunk_stays_what_it_was_when_the_next_ones_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slabs_of(monkeypatch, 10)
    client, body = (
        FastClient(max_idle=1, connect_seconds=5, silence_seconds=5),
        bytes(range(100)),
    )
    async with peer(answers(body, body[::-1])) as server:
        kept = []
        for _ in range(2):
            async with client.get(f"http://{server.host}/x", HEADERS) as found:
                assert found is not None
                kept += [chunk async for chunk in found.chunks()]
        client.close()
    assert b"".join(kept) == body + body[::-1]


async def test_the_socket_is_not_read_while_nobody_takes_the_body(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a slow consumer does not take stays with the sender, but for the kernel's buffers."""
    slabs_of(monkeypatch, 1000)
    sent = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"Content-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(bytes(100_000))
            await writer.drain()
            sent += 100_000

    client = FastClient(max_idle=1, connect_seconds=5, silence_seconds=5)
    async with (
        peer(script) as server,
        client.get(f"http://{server.host}/x", HEADERS) as body,
    ):
        assert body is not None
        assert await anext(aiter(body.chunks()))
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.1)
        assert sent < 100_000_000
    client.close()


async def test_what_is_unusual_is_left_to_aiohttp() -> None:
    chunked = OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n"
    unlengthed = OK + b"\r\nwhole"
    folded = OK + b"X: a\r\n b\r\nContent-Length: 5\r\n\r\nwhole"
    early = b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nwhole"
    old = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nwhole"
    for answer in (chunked, unlengthed, early, old, folded):

        async def script(
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            _: int,
            answer: bytes = answer,
        ) -> None:
            await server.asked(reader)
            writer.write(answer)
            await writer.drain()

        async with peer(script) as server, client(server.host) as http:
            assert await body_of(http, f"http://{server.host}/x") == b"whole"
        assert len(server.requests) == 2, answer


@pytest.mark.parametrize(
    "path", ["/a b", "/a\u00e9", "/a?b=c", "/a#b", '/a"b', "/a\\b", "/a%2e", "/a%zz", ""]
)
async def test_an_address_that_needs_care_is_left_to_aiohttp(path: str) -> None:
    client = FastClient(max_idle=1, connect_seconds=5, silence_seconds=5)
    async with client.get(f"http://127.0.0.1:1{path}", HEADERS) as body:
        assert body is None


async def test_a_refusal_needs_no_second_request() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await server.asked(reader)
        writer.write(b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        await writer.drain()

    async with (
        peer(script) as server,
        client(server.host) as http,
        http.open(f"http://{server.host}/x") as body,
    ):
        assert body.status == 404
    assert len(server.requests) == 1


async def test_a_kept_connection_that_was_closed_costs_no_try() -> None:
    """The peer closes after its first answer without a word, as idle servers do."""

    async def script(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        await server.asked(reader)
        writer.write(OK + b"Content-Length: 5\r\n\r\nwhole")
        await writer.drain()
        if number == 1:
            # The second request arrives, and is answered by the end of the connection.
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()

    async with peer(script) as server, client(server.host) as http:
        for _ in range(2):
            assert await body_of(http, f"http://{server.host}/x") == b"whole"
    assert server.connections == 2


async def test_more_than_was_announced_never_meets_the_next_answer() -> None:
    poison = OK + b"Content-Length: 5\r\n\r\nwrong"

    async def script(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        while True:
            await server.asked(reader)
            writer.write(OK + b"Content-Length: 5\r\n\r\nwhole" + (poison if number == 1 else b""))
            await writer.drain()

    async with peer(script) as server, client(server.host) as http:
        for _ in range(3):
            assert await body_of(http, f"http://{server.host}/x") == b"whole"
    # What was too much came with the first answer: its connection is not used again.
    assert server.connections == 2


async def test_a_connection_whose_answer_nobody_took_is_not_kept() -> None:
    client = FastClient(max_idle=4, connect_seconds=5, silence_seconds=5)
    async with peer(answers(b"whole", b"whole")) as server:
        async with client.get(f"http://{server.host}/x", HEADERS) as body:
            assert body is not None
        assert await read(client, f"http://{server.host}/x") == b"whole"
        assert server.connections == 2
        client.close()


@pytest.mark.parametrize("max_bytes", [0, 9, 10, None])
async def test_a_body_without_room_is_received_only_on_demand(
    max_bytes: int | None,
) -> None:
    whole = b"0123456789" * (MAX_HEAD_BYTES // 5)
    for body in (whole[:10], whole):
        client = FastClient(max_idle=4, connect_seconds=5, silence_seconds=5)
        async with peer(answers(body, body)) as server:
            for _ in range(2):
                async with client.get(f"http://{server.host}/x", HEADERS, max_bytes) as found:
                    assert found is not None
                    has_room = max_bytes is None or len(body) <= max_bytes
                    assert bool(found._connection._slab) is has_room
                    assert b"".join([bytes(it) async for it in found.chunks()]) == body
                    with pytest.raises(ValueError, match="no more bytes"):
                        await anext(found.chunks())
            client.close()


@pytest.mark.parametrize("size_bytes", [5, MAX_HEAD_BYTES - len(head_of(MAX_HEAD_BYTES)), 100_000])
async def test_an_unrequested_answer_is_never_used(size_bytes: int) -> None:
    """Also where all that was right fills the head's buffer, or a slab, to the last byte."""
    body, poison = bytes(size_bytes), head_of(5) + b"wrong"

    async def script(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        while True:
            await server.asked(reader)
            writer.write(head_of(len(body)) + body + (poison if number == 1 else b""))
            await writer.drain()

    client = FastClient(max_idle=4, connect_seconds=5, silence_seconds=5)
    async with peer(script) as server:
        for _ in range(4):
            assert await read(client, f"http://{server.host}/x") == body
        client.close()


async def test_a_connection_that_was_idle_for_long_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = FastClient(max_idle=4, connect_seconds=5, silence_seconds=5)
    async with peer(answers(b"whole", b"whole")) as server:
        assert await read(client, f"http://{server.host}/x") == b"whole"
        monkeypatch.setattr(fast_clients, "MAX_IDLE_SECONDS", -1.0)
        assert await read(client, f"http://{server.host}/x") == b"whole"
        assert server.connections == 2
        client.close()


async def test_an_unsuitable_host_is_asked_twice_only_once() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await server.asked(reader)
        writer.write(OK + b"Connection: close\r\n\r\nwhole")
        await writer.drain()

    async with peer(script) as server, client(server.host) as http:
        for _ in range(3):
            assert await body_of(http, f"http://{server.host}/x") == b"whole"
    assert len(server.requests) == 4


async def test_a_connection_that_is_to_be_closed_is_not_kept() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await server.asked(reader)
        writer.write(OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nwhole")
        await writer.drain()
        await reader.read()

    async with peer(script) as server, client(server.host) as http:
        for _ in range(2):
            assert await body_of(http, f"http://{server.host}/x") == b"whole"
    assert server.connections == 2


@pytest.mark.parametrize("said", [b"", OK, OK + b"Content-Length: 9\r\n\r\nhalf"])
async def test_silence_is_not_waited_for_for_ever(said: bytes) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int) -> None:
        await server.asked(reader)
        writer.write(said)
        await writer.drain()
        await reader.read()

    client = FastClient(max_idle=1, connect_seconds=5, silence_seconds=0.05)
    async with peer(script) as server:
        with pytest.raises(ItemError) as caught:
            await read(client, f"http://{server.host}/x")
    assert (caught.value.code, caught.value.fault) == (Code.SOURCE_ERROR, Fault.TRANSIENT)
    assert caught.value.reason == "no answer in time"


# --- TLS ----------------------------------------------------------------------------------------


class ClosingHost:
    """A host in a thread: it answers while nobody listens, and closes at once."""

    def __init__(self, certificate: Path, size_bytes: int, is_heard: Callable[[], None]) -> None:
        self._trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._trust.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        self._size_bytes = size_bytes
        self._is_heard = is_heard
        self.closed = threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = "https://{}:{}/x".format(*self.listening.getsockname())

    def serve(self) -> None:
        """Answer one request."""
        taken, _ = self.listening.accept()
        with taken, self._trust.wrap_socket(taken, server_side=True) as secure:
            request = b""
            while b"\r\n\r\n" not in request:
                request += secure.recv(65536)
            self._is_heard()
            secure.sendall(head_of(self._size_bytes) + bytes(self._size_bytes))
        self.closed.set()


# What fits the kernel's buffers comes with its end; more is left to come when a slab is full.
CLOSING_SIZES = {
    "smaller than a slab": 60_000,
    "a little more than a slab": connection.SLAB_BYTES + 100_000,
    "several slabs, the last one small": 3 * connection.SLAB_BYTES + 100_000,
}


@pytest.mark.parametrize("size_bytes", CLOSING_SIZES.values(), ids=CLOSING_SIZES)
def test_what_came_before_a_host_closed_is_received_whole(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    """Also over TLS on uvloop, which drops what nobody has taken when it sees the end."""
    uvloop = pytest.importorskip("uvloop")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    blocked = threading.Event()

    async def main() -> int:
        loop = asyncio.get_running_loop()

        def wait_for_the_end() -> None:
            blocked.set()
            host.closed.wait(1)  # more than the kernel holds cannot be sent meanwhile

        def heard() -> None:
            loop.call_soon_threadsafe(wait_for_the_end)
            blocked.wait()

        host = ClosingHost(certificate, size_bytes, heard)
        client = FastClient(max_idle=1, connect_seconds=5, silence_seconds=5)
        received = 0
        with host.listening:
            serving = loop.run_in_executor(None, host.serve)
            async with client.get(host.url, HEADERS) as body:
                assert body is not None
                async for chunk in body.chunks():
                    received += len(chunk)
                    # Nobody reads until the host has closed, as far as it can.
                    await loop.run_in_executor(None, host.closed.wait, 0.2)
            await serving
        return received

    assert uvloop.run(main()) == size_bytes


async def test_a_host_is_trusted_by_its_certificate_alone(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    body = bytes(range(256)) * 1000
    async with peer(answers(body, body), trust) as server:
        url = f"https://{server.host}/x"
        with pytest.raises(ItemError) as caught:
            await read(FastClient(max_idle=1, connect_seconds=5, silence_seconds=5), url)
        assert caught.value.fault is Fault.SYSTEMIC
        assert "SSLCertVerificationError" in caught.value.reason

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
        client = FastClient(max_idle=1, connect_seconds=5, silence_seconds=5)
        for _ in range(2):
            assert await read(client, url) == body
        # One that was not trusted is none for the server.
        assert server.connections == 1
        client.close()
