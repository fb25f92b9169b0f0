from __future__ import annotations

import hashlib
import zlib
from io import BytesIO
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from collector.simulator.padding import (
    CHUNK_BYTES,
    JPEG,
    LEAD_MIN_BYTES,
    PNG,
    WEBP,
    Padding,
    split_file,
)

PADDING = Padding(seed=7)
SIZE = (40, 30)


def _file(file_type: str) -> bytes:
    file = BytesIO()
    Image.new("RGB", SIZE, "#663399").save(file, file_type.removeprefix("image/"))
    return file.getvalue()


FILES = {file_type: _file(file_type) for file_type in (JPEG, PNG)}


def _padded(file_type: str, label: str, extra_bytes: int) -> bytes:
    content = FILES[file_type]
    split = split_file(content, file_type)
    return b"".join(PADDING.padded(split, file_type, label, len(content) + extra_bytes))


@settings(max_examples=150, deadline=None)
@given(
    file_type=st.sampled_from([JPEG, PNG]),
    label=st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=6, max_size=6),
    extra=st.integers(LEAD_MIN_BYTES, 400_000),
)
def test_a_padded_file_has_the_wished_length_and_decodes(
    file_type: str, label: str, extra: int
) -> None:
    content = _padded(file_type, label, extra)
    assert len(content) == len(FILES[file_type]) + extra
    assert label.encode() in content
    with Image.open(BytesIO(content)) as image, Image.open(BytesIO(FILES[file_type])) as plain:
        assert image.size == SIZE
        assert image.tobytes() == plain.tobytes()


@pytest.mark.parametrize("extra", [LEAD_MIN_BYTES, 70_000, 2_500_000])
def test_all_chunks_of_a_png_have_a_valid_crc(extra: int) -> None:
    content = _padded(PNG, "abc123", extra)
    place, types = 8, []
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        body = content[place + 4 : place + 8 + length]
        assert zlib.crc32(body) == int.from_bytes(content[place + 8 + length :][:4], "big")
        types.append(body[:4])
        place += 12 + length
    assert place == len(content)
    assert types[0] == b"IHDR"
    assert types[-1] == b"IEND"
    assert b"paDd" in types


def test_a_padded_jpeg_is_a_chain_of_segments_that_ends_with_eoi() -> None:
    content = _padded(JPEG, "abc123", 200_000)
    assert content.startswith(b"\xff\xd8\xff\xe0")
    assert content.endswith(b"\xff\xd9")
    place, markers = 2, []
    while content[place + 1] != 0xDA:
        assert content[place] == 0xFF
        markers.append(content[place + 1])
        place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    assert markers[:2] == [0xE0, 0xFE]


@pytest.mark.parametrize("file_type", [JPEG, PNG])
def test_no_two_items_have_equal_bytes(file_type: str) -> None:
    bodies = [_padded(file_type, label, 5_000) for label in ("abc123", "abc124", "zzzzzz")]
    assert len({hashlib.sha256(body).digest() for body in bodies}) == 3


def test_padding_looks_incompressible() -> None:
    content = _padded(PNG, "abc123", 1_000_000)
    assert len(zlib.compress(content)) > 0.99 * len(content)


def test_large_bodies_come_in_large_chunks() -> None:
    split = split_file(FILES[JPEG], JPEG)
    sizes = [len(chunk) for chunk in PADDING.padded(split, JPEG, "abc123", 35_000_000)]
    assert max(sizes) == CHUNK_BYTES
    assert sum(sizes) == 35_000_000
    assert len(sizes) < 35_000_000 / CHUNK_BYTES * 1.4
    assert all(first + second > 64 * 1024 for first, second in pairwise(sizes[2:-1]))


def test_a_file_of_its_own_length_is_left_as_it_is() -> None:
    content = _file("image/webp")
    split = split_file(content, WEBP)
    assert b"".join(PADDING.padded(split, WEBP, "abc123", len(content))) == content


def test_padding_too_short_for_a_segment_is_refused() -> None:
    with pytest.raises(ValueError, match="abc123"):
        _padded(JPEG, "abc123", LEAD_MIN_BYTES - 1)


def test_seeds_give_different_bytes() -> None:
    split = split_file(FILES[PNG], PNG)
    first, second = (
        b"".join(Padding(seed).padded(split, PNG, "abc123", 90_000)) for seed in (1, 2)
    )
    assert first != second


@given(st.binary(max_size=200), st.sampled_from([JPEG, PNG, WEBP]))
def test_any_bytes_split_without_loss(content: bytes, file_type: str) -> None:
    assert b"".join(split_file(content, file_type)) == content
