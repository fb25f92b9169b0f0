"""One connection of the fast lane: a head, then a body that is received in place."""

from __future__ import annotations

import asyncio
from typing import cast

from collector.adapters.http.head import HEAD_END, MOST_HEAD_BYTES, Head, read_head

_NOWHERE = memoryview(b"")


class BrokenOff(ConnectionError):
    """The connection ended before the answer did."""


class Connection(asyncio.BufferedProtocol):
    """Carries one answer after the other.

    Bytes go where the reader has said, `receive_into`; until it has said so, up to MOST_HEAD_BYTES
    of them wait behind the head, and then the socket is not read. What comes when nothing is
    expected breaks the connection.
    """

    def __init__(self) -> None:
        self.is_new = True
        self.idle_since_seconds = 0.0
        self._transport: asyncio.Transport | None = None
        self._head = memoryview(bytearray(MOST_HEAD_BYTES))
        # Where bytes go now, how many are expected there, and how many are there. Nowhere: none is
        # expected.
        self._into = _NOWHERE
        self._expected = 0
        self._filled = 0
        self._body_at = 0
        self._early = _NOWHERE
        self._is_last = True
        self._is_broken = False
        self._is_paused = False
        self._keeps_alive = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_reusable(self) -> bool:
        """True where an answer came whole, the next may follow, and nothing came uncalled for."""
        return self._into is _NOWHERE and self._keeps_alive and not self._is_broken

    async def ask(self, request: bytes, silence_seconds: float) -> Head | None:
        """Send a request and return the head of its answer, None where that is an odd one.

        Raises BrokenOff where the connection ends first, TimeoutError.
        """
        if self._transport is None or self._is_broken:
            raise BrokenOff
        self._into, self._expected, self._filled = self._head, len(self._head), 0
        self._is_last = self._keeps_alive = False
        self._read_on()
        self._transport.write(request)
        while (end := bytes(self._head[: self._filled]).find(HEAD_END)) < 0:
            if self._filled == len(self._head):
                return None
            await self.more_than(self._filled, silence_seconds)
        head = read_head(bytes(self._head[: end + len(HEAD_END)]))
        if head is None:
            return None
        self.is_new = False
        self._keeps_alive = head.keeps_alive
        self._body_at = end + len(HEAD_END)
        return head

    def receive_into(self, slab: memoryview, expected: int, *, is_last: bool) -> None:
        """Let the body go on in `slab`, for `expected` bytes; `is_last` where it ends there.

        The last slab has room for more than that: what is too much shows itself at once.
        """
        if self._into is self._head:
            self._early = self._head[self._body_at : self._filled]
        early = self._early[:expected]
        self._early = self._early[len(early) :]
        slab[: len(early)] = early
        self._into, self._expected, self._filled, self._is_last = (
            slab,
            expected,
            len(early),
            is_last,
        )
        if is_last and self._early:
            self.abort()
        if is_last and self._is_paused and self._filled == expected:
            # The socket was not read to where the answer ends: what lies behind it is unknown.
            self._keeps_alive = False
        self._after_filling()
        if self._filled < expected:
            self._read_on()

    async def more_than(self, filled: int, silence_seconds: float) -> int:
        """Wait until more bytes than `filled` are there; return how many.

        Raises BrokenOff where the connection ends first, TimeoutError.
        """
        while self._filled == filled:
            if self._is_broken:
                raise BrokenOff
            self._waiter = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(silence_seconds):
                await self._waiter
        return self._filled

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
