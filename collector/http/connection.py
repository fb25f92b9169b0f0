"""One connection of the fast client: a head, then a body that is received in place.

It is never left unread while little of an answer is left: what uvloop has taken off a TLS
connection and not handed on yet is dropped when the peer closes meanwhile, as it may after its
answer (https://github.com/MagicStack/uvloop/pull/661, seen with 0.23.0, 2026-11-28).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple, cast

from multidict import CIMultiDict

# Received at once at most, but for the last ones: smaller ones cost more calls, larger ones leave
# the CPU's cache.
SLAB_BYTES = 1024 * 1024
# Where the socket is not read for a while, more than this is left to come. uvloop holds back less:
# it stops at 256 KiB, after a read of as much at most.
MIN_REST_BYTES = 512 * 1024
_OK = 200
_NOWHERE = memoryview(b"")
# A usual head has half a kilobyte.
MAX_HEAD_BYTES = 16 * 1024
HEAD_END = b"\r\n\r\n"

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_FIELD = re.compile(
    rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*+((?:[\x21-\x7e\x80-\xff]"
    rb"(?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[\t ]*\r\n"
)
_LENGTH = re.compile(r"[0-9]{1,18}")
# A view or a bytes object costs some 200 bytes beside its own: here, about one in a hundred.
MIN_CHUNK_BYTES = 16 * 1024
# Whoever watches for a body that drips hears of it with the first piece after this.
COALESCE_SECONDS = 1.0


class BrokenOff(ConnectionError):
    """The connection ended before the answer did."""


class Connection(asyncio.BufferedProtocol):
    """Carries one answer after the other.

    A body is received in slabs, each when it is asked for; between two the socket is not read. The
    first one of an image that there is room for begins as soon as the head has come. What comes
    when nothing is expected breaks the connection.
    """

    def __init__(self) -> None:
        self.is_new = True
        self.idle_since_seconds = 0.0
        self._transport: asyncio.Transport | None = None
        self._head = memoryview(bytearray(MAX_HEAD_BYTES))
        # Where bytes go now, how many are expected there, and how many are there. Nowhere: none is
        # expected.
        self._into = _NOWHERE
        self._expected = 0
        self._filled = 0
        self._max_bytes: int | None = None
        self._answer: Head | None = None
        self._is_answered = False
        # Of the body: where it begins behind the head, what came there, what no slab was made for
        # yet, and a slab that nobody has taken.
        self._body_at = 0
        self._early = _NOWHERE
        self._left = 0
        self._slab = _NOWHERE
        self._is_last = True
        self._is_broken = False
        self._is_paused = False
        self._keeps_alive = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_reusable(self) -> bool:
        """True where an answer was taken whole, another may follow, and no more has come."""
        is_taken = self._into is _NOWHERE and self._slab is _NOWHERE
        return is_taken and self._keeps_alive and not self._is_broken

    async def ask(
        self, request: bytes, silence_seconds: float, max_bytes: int | None = None
    ) -> Head | None:
        """Send a request and return the head of its answer, None where that is an odd one.

        A body of more than `max_bytes` is not received before it is asked for. Raises BrokenOff
        where the connection ends first, TimeoutError.
        """
        if self._transport is None or self._is_broken:
            raise BrokenOff
        self._into, self._expected, self._filled = self._head, len(self._head), 0
        self._is_last = self._keeps_alive = self._is_answered = False
        self._slab, self._max_bytes = _NOWHERE, max_bytes
        self._read_on()
        self._transport.write(request)
        while not self._is_answered:
            await self._next_bytes(silence_seconds)
        if self._answer is not None:
            self.is_new = False
        return self._answer

    def next_slab(self) -> tuple[memoryview, int]:
        """Return where the body goes on, and how many bytes are expected there.

        `more_than` says how many of them have come. Raises ValueError where all were expected
        before, or the answer has no body.
        """
        if self._slab is _NOWHERE:
            if not self._left:
                raise ValueError("the answer has no more bytes")
            self._begin_slab()
        slab, self._slab = self._slab, _NOWHERE
        return slab, self._expected

    async def more_than(self, filled: int, silence_seconds: float) -> int:
        """Wait until more bytes than `filled` are there; return how many.

        Raises BrokenOff where the connection ends first, TimeoutError.
        """
        while self._filled == filled:
            await self._next_bytes(silence_seconds)
        return self._filled

    async def _next_bytes(self, silence_seconds: float) -> None:
        if self._is_broken:
            raise BrokenOff
        self._waiter = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(silence_seconds):
            await self._waiter

    def abort(self) -> None:
        """End the connection at once."""
        self._is_broken = True
        if self._transport is not None:
            self._transport.abort()

    # --- What the transport calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There is a connection."""
        # Not checked: uvloop's transports are of no common class.
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where bytes go; where none are expected, into the head, to be dropped."""
        return self._into[self._filled :] if self._filled < len(self._into) else self._head

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes have come."""
        if self._filled >= len(self._into):
            self.abort()
            return
        self._filled += nbytes
        if self._filled > self._expected:
            self._filled = self._expected
            self.abort()
        if self._into is self._head and not self._is_answered:
            self._look_for_the_head()
        else:
            self._after_filling()
        self._wake()

    def eof_received(self) -> None:
        """Nothing more will come; the transport closes itself."""
        self._is_broken = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._is_broken = True
        self._wake()

    def _look_for_the_head(self) -> None:
        end = bytes(self._head[: self._filled]).find(HEAD_END)
        if end < 0:
            self._is_answered = self._filled == len(self._head)
            self._answer = None
            return
        self._body_at = end + len(HEAD_END)
        self._answer, self._is_answered = read_head(bytes(self._head[: self._body_at])), True
        if self._answer is None:
            return
        self._keeps_alive = self._answer.keeps_alive
        self._left = self._answer.length_bytes or 0
        has_room = self._max_bytes is None or self._left <= self._max_bytes
        if self._answer.status == _OK and self._left and has_room:
            self._begin_slab()
        else:
            self._after_filling()

    def _begin_slab(self) -> None:
        """Let the body go on in a slab of its own.

        The last one has room for more than is expected: what is too much shows itself at once.
        """
        is_unread = self._is_paused
        if self._into is self._head:
            self._early = self._head[self._body_at : self._filled]
            is_unread = self._filled == len(self._head)
        all_at_once = self._left <= SLAB_BYTES + MIN_REST_BYTES
        self._expected = self._left if all_at_once else SLAB_BYTES
        self._left -= self._expected
        self._is_last = not self._left
        room = self._expected + 1 if self._is_last else self._expected
        self._into = self._slab = memoryview(bytearray(room))
        early = self._early[: self._expected]
        self._early = self._early[len(early) :]
        self._into[: len(early)] = early
        self._filled = len(early)
        if self._is_last and self._early:
            self.abort()
        if self._is_last and is_unread and self._filled == self._expected:
            # The socket was not read beyond where the answer ends: what lies there is unknown.
            self._keeps_alive = False
        self._after_filling()
        if self._filled < self._expected:
            self._read_on()

    def _after_filling(self) -> None:
        if self._filled < self._expected:
            return
        if self._is_last:
            self._into = _NOWHERE
        elif self._transport is not None and not self._is_paused:
            self._transport.pause_reading()
            self._is_paused = True

    def _read_on(self) -> None:
        if self._is_paused and self._transport is not None:
            self._transport.resume_reading()
            self._is_paused = False

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Head(NamedTuple):
    """Status, fields, and the length of the body, None where the head does not say it plainly."""

    status: int
    headers: Mapping[str, str]
    length_bytes: int | None
    keeps_alive: bool


def read_head(block: bytes) -> Head | None:
    """Read a head that ends with its empty line; None where it is not of the strict form."""
    line = _STATUS_LINE.match(block)
    if line is None:
        return None
    headers: CIMultiDict[str] = CIMultiDict()
    position = line.end()
    while position < len(block) - 2:
        field = _FIELD.match(block, position)
        if field is None:
            return None
        headers.add(field[1].decode("ascii"), field[2].decode("latin-1"))
        position = field.end()
    if block[position:] != b"\r\n":
        return None
    return Head(int(line[1]), headers, _length(headers), _keeps_alive(headers))


def _length(headers: CIMultiDict[str]) -> int | None:
    found = headers.getall("Content-Length", [])
    if len(found) != 1 or "Transfer-Encoding" in headers or not _LENGTH.fullmatch(found[0]):
        return None
    return int(found[0])


def _keeps_alive(headers: CIMultiDict[str]) -> bool:
    return "close" not in headers.get("Connection", "").lower()


async def coalesced(
    pieces: AsyncIterator[bytes], clock: Callable[[], float]
) -> AsyncIterator[bytes]:
    """Yield pieces of MIN_CHUNK_BYTES as they are, and smaller ones together.

    `clock` is monotonic seconds. What was held back when `pieces` raises is dropped.
    """
    held, due = bytearray(), clock() + COALESCE_SECONDS
    async for piece in pieces:
        if not held and len(piece) >= MIN_CHUNK_BYTES:
            yield piece
            continue
        if not held:
            due = clock() + COALESCE_SECONDS
        held += piece
        if len(held) >= MIN_CHUNK_BYTES or clock() >= due:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
