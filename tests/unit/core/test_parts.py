"""Parts have the right size and the same bytes, whatever the chunks were."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.parts import PART_BYTES, Chunk, Part, PartCutter

chunk = st.binary(max_size=40)
chunks = st.lists(chunk | chunk.map(memoryview), max_size=12)


def cut(body: list[Chunk], part_bytes: int) -> list[Part]:
    cutter = PartCutter(part_bytes)
    full = [part for piece in body for part in cutter.feed(piece)]
    return [*full, cutter.rest()]


def joined(body: list[Chunk]) -> bytes:
    return b"".join(body)


@given(chunks, st.integers(1, 50))
def test_parts_are_the_body_cut_into_equal_pieces(body: list[Chunk], part_bytes: int) -> None:
    parts = cut(body, part_bytes)
    assert b"".join(joined(part.chunks) for part in parts) == joined(body)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert all(part.size_bytes == part_bytes for part in parts[:-1])
    assert all(part.size_bytes == len(joined(part.chunks)) for part in parts)
    assert parts[-1].size_bytes <= part_bytes
    assert parts[-1].size_bytes > 0 or not joined(body)
    assert all(len(piece) > 0 for part in parts for piece in part.chunks)


@given(st.integers(1, 60), st.lists(st.integers(0, 60), max_size=5))
def test_a_body_of_one_part_yields_nothing_before_its_rest(
    part_bytes: int, cuts: list[int]
) -> None:
    body = bytes(range(part_bytes))
    borders = [0, *sorted(min(cut, part_bytes) for cut in cuts), part_bytes]
    cutter = PartCutter(part_bytes)
    for start, end in pairwise(borders):
        assert list(cutter.feed(body[start:end])) == []
    assert cutter.rest().size_bytes == part_bytes
    assert [part.number for part in cutter.feed(b"!")] == [1]
    assert cutter.rest() == Part(number=2, chunks=[b"!"], size_bytes=1)


@given(st.integers(1, 20), st.lists(st.integers(1, 20), max_size=8))
def test_a_part_is_full_where_the_next_byte_would_end_it(part_bytes: int, sizes: list[int]) -> None:
    cutter, fed_bytes = PartCutter(part_bytes), 0
    assert not cutter.is_full
    for size_bytes in sizes:
        list(cutter.feed(bytes(size_bytes)))
        fed_bytes += size_bytes
        assert cutter.is_full == (fed_bytes % part_bytes == 0)


def test_an_empty_body_is_one_empty_part() -> None:
    assert cut([], 5) == cut([b"", memoryview(b"")], 5) == [Part(number=1)]


def test_one_chunk_over_several_parts_is_not_copied() -> None:
    body = bytes(100)
    pieces = [piece for part in cut([body], 30) for piece in part.chunks]
    assert [len(piece) for piece in pieces] == [30, 30, 30, 10]
    assert all(isinstance(piece, memoryview) and piece.obj is body for piece in pieces)


def test_a_chunk_that_fits_is_kept_as_it_is() -> None:
    first, second = b"ab", memoryview(b"cd")
    kept = cut([first, second], 4)[0].chunks
    assert kept[0] is first
    assert kept[1] is second


def test_a_part_is_handed_out_while_its_chunk_is_still_cut() -> None:
    cutter = PartCutter(2)
    parts = cutter.feed(b"abcdef")
    assert next(parts).number == 1
    assert next(parts).number == 2
    assert list(parts) == []
    assert cutter.rest().number == 3


def test_the_part_size_is_that_of_the_store() -> None:
    assert PART_BYTES == 8 * 1024 * 1024


@pytest.mark.parametrize("part_bytes", [0, -1])
def test_a_part_has_bytes(part_bytes: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        PartCutter(part_bytes)
