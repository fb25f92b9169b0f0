"""What the simulator of these tests serves, and how it is held in the middle of it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from aiohttp import web

# Two pages of 24, and the odd ones of a third.
WALLPAPERS = 60
# So much of a held picture is sent: one part of 8 MiB is on its way into the store by then.
HELD_BYTES = 12 * 2**20


class ImageGate:
    """Holds downloads of large pictures in the middle while it is closed."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.held = threading.Semaphore(0)

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def serve(self, content: bytes, request: web.Request) -> web.StreamResponse | None:
        """Answer with `content`, in two halves while closed; None: as usual."""
        if self._open.is_set():
            return None
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        await response.write(content[:HELD_BYTES])
        self.held.release()
        while not self._open.is_set():
            await asyncio.sleep(0.05)
        with suppress(ConnectionError):  # who asked may have been killed meanwhile
            await response.write(content[HELD_BYTES:])
        return response
