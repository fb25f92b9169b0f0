"""One connection of the fast client: a head, then a body that is received in place.

Reading never pauses near the end of an answer. uvloop drops the bytes that it has read from a TLS
connection and not delivered yet if the peer closes meanwhile, as it may after its answer
(https://github.com/MagicStack/uvloop/pull/661, seen with 0.23.0, 2026-11-28).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple, cast

from multidict import CIMultiDict

# Size of a slab, except the last. Smaller slabs cost more calls, larger ones leave the CPU's cache.
SLAB_BYTES = 1024 * 1024
# Reading pauses only if more than this is still to come. uvloop holds back less: it stops at
# 256 KiB, after a read of at most as much.
MIN_REST_BYTES = 512 * 1024
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
# A view or a bytes object costs some 200 bytes on top of its data: about 1 percent of this.
MIN_CHUNK_BYTES = 16 * 1024
# The first piece after this ends a chunk, so that the caller notices a body that drips.
COALESCE_SECONDS = 1.0


class BrokenOff(ConnectionError):
    """The connection ended before the answer did."""


class Connection(asyncio.BufferedProtocol):
    """Carries one answer at a time.

    A body is received in slabs, each when the caller asks for it; between two slabs the socket is
    not read. If there is room for an image, its first slab begins as soon as the head has arrived.
    Bytes that arrive when none are expected break the connection.
    """

    def __init__(self) -> None:
        self.is_new = True
        self.idle_since_seconds = 0.0
        self._transport: asyncio.Transport | None = None
        self._head = memoryview(bytearray(MAX_HEAD_BYTES))
        # Where bytes go now (nowhere: none are expected), how many are expected there, and how many
        # have arrived.
        self._into = _NOWHERE
        self._expected = 0
        self._filled = 0
        self._max_bytes: int | None = None
        self._answer: Head | None = None
        self._is_answered = False
        # Of the body: its offset in the head buffer, its bytes that arrived with the head, how many
        # bytes have no slab yet, and a slab that the caller has not taken.
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
        """Whether the caller took the whole answer, another may follow, and no more bytes came."""
        is_taken = self._into is _NOWHERE and self._slab is _NOWHERE
        return is_taken and self._keeps_alive and not self._is_broken

    async def ask(
        self, request: bytes, silence_seconds: float, max_bytes: int | None = None
    ) -> Head | None:
        """Send a request and return the head of its answer; None if it is not of the strict form.

        A body of more than `max_bytes` is not received before the caller asks for it. Raises
        BrokenOff if the connection ends first, TimeoutError after `silence_seconds` without a byte.
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
        """Return the buffer of the next slab, and how many bytes are expected there.

        `more_than` says how many of them have arrived. Raises ValueError after the last slab, or if
        the answer has no body.
        """
        if self._slab is _NOWHERE:
            if not self._left:
                raise ValueError("the answer has no more bytes")
            self._begin_slab()
        slab, self._slab = self._slab, _NOWHERE
        return slab, self._expected

    async def more_than(self, filled: int, silence_seconds: float) -> int:
        """Wait until more than `filled` bytes of the slab have arrived; return how many.

        Raises BrokenOff if the connection ends first, TimeoutError after `silence_seconds` without
        a byte.
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
        self._is_broken = True
        if self._transport is not None:
            self._transport.abort()

    # --- What the transport calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports share no class with asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        # Bytes that are not expected go into the head buffer, and are dropped.
        return self._into[self._filled :] if self._filled < len(self._into) else self._head

    def buffer_updated(self, nbytes: int) -> None:
        if self._filled >= len(self._into):
            self.abort()
            return
        self._filled += nbytes
        if self._filled > self._expected:
            self._filled = self._expected
            self.abort()
        if self._into is self._head and not self._is_answered:
            self._parse_head()
        else:
            self._after_filling()
        self._wake()

    def eof_received(self) -> None:
        self._is_broken = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_broken = True
        self._wake()

    def _parse_head(self) -> None:
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
        if self._answer.status == HTTPStatus.OK and self._left and has_room:
            self._begin_slab()
        else:
            self._after_filling()

    def _begin_slab(self) -> None:
        """Receive the next part of the body in a new slab.

        The last slab has room for one byte too many, so that a body that is too long is noticed.
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
            # The socket was not read beyond the end of the answer, so more bytes may wait there.
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
    """Status, fields, and the body's length: None unless one plain Content-Length states it."""

    status: int
    headers: Mapping[str, str]
    length_bytes: int | None
    keeps_alive: bool


def read_head(block: bytes) -> Head | None:
    """Parse a head that ends with its empty line; None if it is not of the strict form."""
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
    keeps_alive = "close" not in headers.get("Connection", "").lower()
    return Head(int(line[1]), headers, _length(headers), keeps_alive)


def _length(headers: CIMultiDict[str]) -> int | None:
    found = headers.getall("Content-Length", [])
    if len(found) != 1 or "Transfer-Encoding" in headers or not _LENGTH.fullmatch(found[0]):
        return None
    return int(found[0])


async def coalesced(
    pieces: AsyncIterator[bytes], clock: Callable[[], float]
) -> AsyncIterator[bytes]:
    """Yield pieces of at least MIN_CHUNK_BYTES as they are, and join smaller ones.

    `clock` returns monotonic seconds. If `pieces` raises, bytes that were held back are dropped.
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
