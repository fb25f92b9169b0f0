"""Crumbs come together, and nothing else happens to a body."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.adapters.http import crumbs
from collector.adapters.http.crumbs import CRUMB_SECONDS, LEAST_CHUNK_BYTES, gathered

# A piece, and how long it was waited for.
PIECES = st.lists(
    st.tuples(st.integers(1, 2 * LEAST_CHUNK_BYTES), st.sampled_from((0.0, CRUMB_SECONDS))),
    max_size=20,
)


async def arriving(
    sizes: list[int], now: list[float], waits: Iterator[float]
) -> AsyncIterator[bytes]:
    for number, size_bytes in enumerate(sizes):
        now[0] += next(waits)
        yield bytes([number]) * size_bytes


@given(PIECES)
async def test_all_come_in_their_order_and_small_ones_together(
    pieces: list[tuple[int, float]],
) -> None:
    now, sizes = [0.0], [size for size, _ in pieces]
    source = arriving(sizes, now, iter([seconds for _, seconds in pieces]))
    chunks = [chunk async for chunk in gathered(source, lambda: now[0])]
    whole = b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    assert b"".join(chunks) == whole
    crumbs_left = sum(len(chunk) < LEAST_CHUNK_BYTES for chunk in chunks)
    assert crumbs_left <= 1 + sum(seconds > 0 for _, seconds in pieces)


async def test_a_large_piece_is_handed_on_as_it_is() -> None:
    piece = bytes(LEAST_CHUNK_BYTES)

    async def one() -> AsyncIterator[bytes]:
        yield piece

    assert [chunk is piece async for chunk in gathered(one(), lambda: 0.0)] == [True]


async def test_what_came_before_a_break_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crumbs, "LEAST_CHUNK_BYTES", 10)

    async def breaking() -> AsyncIterator[bytes]:
        yield b"0123456789"
        yield b"crumb"
        raise ConnectionResetError

    chunks = gathered(breaking(), lambda: 0.0)
    assert await anext(chunks) == b"0123456789"
    with pytest.raises(ConnectionResetError):
        await anext(chunks)
