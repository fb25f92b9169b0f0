"""One request and its answer on raw sockets: what a framework's server could not send, this can."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass

# A head of this size is no head any more; ours have a kilobyte.
MAX_HEAD_BYTES = 256 * 1024


@dataclass(frozen=True)
class Asked:
    """A request as it came. Names of headers are in small letters; `at` is the loop's time."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    at: float

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What stands behind the question mark."""
        return self.target.partition("?")[2]

    @property
    def raw(self) -> bytes:
        """The request as it may be sent on."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        head = f"{self.method} {self.target} HTTP/1.1\r\n{lines}\r\n"
        return head.encode("latin-1") + self.body


@dataclass(frozen=True)
class Answer:
    """A whole answer: its head with the empty line, and its body without any framing."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def framed(self, **headers: str | None) -> bytes:
        """Return it as bytes with its true length; `headers` replace, None takes away."""
        changed = {name.replace("_", "-").lower(): value for name, value in headers.items()}
        kept = {
            name: value
            for name, value in self.headers.items()
            if name not in ("content-length", "transfer-encoding", *changed)
        }
        kept |= {name: value for name, value in changed.items() if value is not None}
        if "content-length" not in changed:
            kept["content-length"] = str(len(self.body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in kept.items())
        return f"HTTP/1.1 {self.status} Said\r\n{lines}\r\n".encode("latin-1") + self.body


def said(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Return an answer that nobody upstream has given."""
    named = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    return Answer(status, named, body)


class Exchange:
    """A request in the hands of a fault: it may be sent on, and answered in any way or none."""

    def __init__(
        self, asked: Asked, upstream: tuple[str, int] | None, writer: asyncio.StreamWriter
    ) -> None:
        self.asked = asked
        self._upstream = upstream
        self._writer = writer

    @property
    def is_open(self) -> bool:
        """True while the client may go on with this connection."""
        return not self._writer.is_closing()

    async def forward(self, asked: Asked | None = None) -> Answer:
        """Send the request on, or another one, and return what came back: it has been done."""
        assert self._upstream is not None, "this peer stands before nobody"
        reader, writer = await asyncio.open_connection(*self._upstream, limit=MAX_HEAD_BYTES)
        try:
            writer.write((asked or self.asked).raw)
            await writer.drain()
            return await read_answer(reader, (asked or self.asked).method)
        finally:
            writer.close()

    async def send(self, raw: bytes) -> None:
        """Send bytes to the client as they are."""
        self._writer.write(raw)
        await self._writer.drain()

    async def answer(self, answer: Answer) -> None:
        """Send a whole answer; to HEAD, its head."""
        raw = answer.framed()
        is_head = self.asked.method == "HEAD"
        await self.send(raw[: len(raw) - len(answer.body)] if is_head else raw)

    async def relay(self) -> Answer:
        """Let the request pass as if nobody stood between."""
        answer = await self.forward()
        if self.asked.method == "HEAD":
            # The length is of a body that is not sent.
            await self.send(answer.framed(content_length=answer.headers.get("content-length")))
        else:
            await self.answer(answer)
        return answer

    def close(self) -> None:
        """End the connection in an orderly way."""
        self._writer.close()

    def reset(self) -> None:
        """End the connection with a reset."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


async def read_asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Asked | None:
    """Read one request; None where the client has left."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    line, headers = _head(head)
    method, target, _ = line.split(" ", 2)
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return Asked(method, target, headers, body, asyncio.get_running_loop().time())


async def read_answer(reader: asyncio.StreamReader, method: str) -> Answer:
    """Read one whole answer of a well-behaved server."""
    line, headers = _head(await reader.readuntil(b"\r\n\r\n"))
    status = int(line.split(" ", 2)[1])
    if method == "HEAD" or status in (204, 304):
        return Answer(status, headers, b"")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return Answer(status, headers, await _chunked(reader))
    if "content-length" in headers:
        return Answer(status, headers, await reader.readexactly(int(headers["content-length"])))
    return Answer(status, headers, await reader.read())


async def _chunked(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


def _head(head: bytes) -> tuple[str, dict[str, str]]:
    line, *fields = head.decode("latin-1").split("\r\n")[:-2]
    pairs = (field.split(":", 1) for field in fields)
    return line, {name.strip().lower(): value.strip() for name, value in pairs}
