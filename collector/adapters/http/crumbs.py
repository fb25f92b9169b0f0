"""Bodies that come in crumbs: what each chunk costs in memory must not outweigh what it holds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

# A view or a bytes object costs some 200 bytes beside its own: here, about one in a hundred.
LEAST_CHUNK_BYTES = 16 * 1024
# Whoever watches for a body that drips hears of it with the first piece after this.
CRUMB_SECONDS = 1.0


async def gathered(
    pieces: AsyncIterator[bytes], clock: Callable[[], float]
) -> AsyncIterator[bytes]:
    """Yield pieces of LEAST_CHUNK_BYTES as they are, and smaller ones together.

    `clock` is monotonic seconds. What was held back when `pieces` raises is dropped.
    """
    held, due = bytearray(), clock() + CRUMB_SECONDS
    async for piece in pieces:
        if not held and len(piece) >= LEAST_CHUNK_BYTES:
            yield piece
            continue
        if not held:
            due = clock() + CRUMB_SECONDS
        held += piece
        if len(held) >= LEAST_CHUNK_BYTES or clock() >= due:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
