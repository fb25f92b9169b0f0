"""An HTTP peer before a real server, or before nobody: it lets pass what no rule is about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from urllib.parse import unquote

from peers.exchange import Answer, Asked, Exchange, read_asked, said

# Whoever looks at a body looks at a small one.
MAX_NOTED_BYTES = 64 * 1024

Fault = Callable[[Exchange], Awaitable[None]]
Match = Callable[[Asked], bool]
Rewrite = Callable[[Answer], Answer]


@dataclass
class _Rule:
    match: Match
    fault: Fault
    skip: int
    times: int | None

    def takes(self, asked: Asked) -> bool:
        if self.times == 0 or not self.match(asked):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


class HttpPeer:
    """Listens on loopback; `asked` are all requests in their order of arrival."""

    def __init__(self, upstream: tuple[str, int] | None, rewrite: Rewrite | None = None) -> None:
        self.asked: list[Asked] = []
        self.commits: list[str] = []
        self.port = 0
        self._upstream = upstream
        self._rewrite = rewrite
        self._rules: list[_Rule] = []

    @property
    def host(self) -> str:
        """The `host:port` of this peer."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address of this peer, without a slash at the end."""
        return f"http://{self.host}"

    def on(self, match: Match, fault: Fault, *, times: int | None = 1, skip: int = 0) -> None:
        """Let `fault` answer requests that match, behind the first `skip` of them.

        It does so `times` times, None: for ever. The first rule that takes a request has it.
        """
        self._rules.append(_Rule(match, fault, skip, times))

    def heal(self) -> None:
        """Forget all rules."""
        self._rules.clear()

    def count(self, match: Match) -> int:
        """Count the requests that match."""
        return sum(map(match, self.asked))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while (asked := await read_asked(reader, writer)) is not None:
                self.asked.append(_noted(asked))
                exchange = _Watched(asked, self._upstream, writer, self)
                fault = next((r.fault for r in self._rules if r.takes(asked)), self._pass)
                await fault(exchange)
                if not exchange.is_open:
                    break
        writer.close()

    async def _pass(self, exchange: Exchange) -> None:
        if self._rewrite is None:
            await exchange.relay()
        else:
            await exchange.answer(self._rewrite(await exchange.forward()))

    def note(self, asked: Asked, answer: Answer) -> None:
        """Note a write that the store behind this peer has carried out."""
        if answer.status != 200 or b"<Error>" in answer.body:
            return
        is_put = asked.method == "PUT" and "partNumber" not in asked.query
        if is_put or (asked.method == "POST" and "uploadId=" in asked.query):
            _, _, key = unquote(asked.path).lstrip("/").partition("/")
            self.commits.append(key)


def _noted(asked: Asked) -> Asked:
    """What is kept of a request: large bodies would fill the memory of a long test."""
    return replace(asked, body=b"") if len(asked.body) > MAX_NOTED_BYTES else asked


class _Watched(Exchange):
    """An exchange whose writes are noted when they are carried out."""

    def __init__(
        self,
        asked: Asked,
        upstream: tuple[str, int] | None,
        writer: asyncio.StreamWriter,
        peer: HttpPeer,
    ) -> None:
        super().__init__(asked, upstream, writer)
        self._peer = peer

    async def forward(self, asked: Asked | None = None) -> Answer:
        answer = await super().forward(asked)
        self._peer.note(asked or self.asked, answer)
        return answer


@asynccontextmanager
async def open_peer(
    upstream: tuple[str, int] | None = None, rewrite: Rewrite | None = None
) -> AsyncIterator[HttpPeer]:
    """Open a peer before `upstream`; `rewrite` changes every answer that passes."""
    peer = HttpPeer(upstream, rewrite)
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

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=256 * 1024)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        while tasks:
            await asyncio.sleep(0)


# --- Faults: what a peer may do in place of letting a request pass -------------------------------


def answering(answer: Answer) -> Fault:
    """Answer so, and never ask upstream."""
    return lambda exchange: exchange.answer(answer)


def status(number: int, body: bytes = b"", **headers: str) -> Fault:
    """Answer with a status, and never ask upstream."""
    return answering(said(number, body, **headers))


def raw(answer: bytes, *, then: str = "close") -> Fault:
    """Send these bytes and then `close`, `reset` or `keep` the connection."""

    async def fault(exchange: Exchange) -> None:
        await exchange.send(answer)
        _end(exchange, then)

    return fault


async def reset(exchange: Exchange) -> None:
    """Reset the connection; the request is not carried out."""
    exchange.reset()


async def lose_reply(exchange: Exchange) -> None:
    """Carry the request out, and reset the connection before a word of the answer is heard."""
    await exchange.forward()
    exchange.reset()


async def hang(exchange: Exchange) -> None:
    """Say nothing until the client leaves or the test ends."""
    while exchange.is_open:
        await asyncio.sleep(0.05)


async def lose_reply_and_hang(exchange: Exchange) -> None:
    """Carry the request out, and never say so."""
    await exchange.forward()
    await hang(exchange)


def cut(after_bytes: int, *, then: str = "reset", from_end: bool = False) -> Fault:
    """Send the true head and so many bytes of the body (or all but so many), and end."""

    async def fault(exchange: Exchange) -> None:
        answer = await exchange.forward()
        whole = answer.framed()
        head = len(whole) - len(answer.body)
        kept = len(answer.body) - after_bytes if from_end else after_bytes
        await exchange.send(whole[: head + kept])
        _end(exchange, then)

    return fault


def rewritten(change: Rewrite) -> Fault:
    """Carry the request out and change what is said about it."""

    async def fault(exchange: Exchange) -> None:
        await exchange.answer(change(await exchange.forward()))

    return fault


def _end(exchange: Exchange, how: str) -> None:
    if how == "reset":
        exchange.reset()
    elif how == "close":
        exchange.close()
