"""Pads an image file to a given length without changing its pixels.

Segments that every decoder skips go between the halves of a `Split`: COM segments in JPEG
(ITU-T T.81, B.2.4.5), private ancillary chunks with a valid CRC in PNG (PNG specification,
section 5.4). All items share the same noise, which is made once. Only the first segment of a file,
the lead, is unique: it carries the item's id, so every file has a different sha256, and a gigabyte
costs almost no CPU.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from collector.simulator.draws import generator_of

JPEG = "image/jpeg"
PNG = "image/png"
WEBP = "image/webp"

# A lead (up to a unit and LEAD_MIN_BYTES) must fit a JPEG segment's 16-bit length.
_UNIT_BYTES = 32 * 1024
_UNITS = 32  # 1 MiB of noise for each format
# Large enough to make system calls cheap, small enough for a socket's buffer.
CHUNK_BYTES = 8 * _UNIT_BYTES
# The shortest padding: the frame of a segment, the id and a little noise.
LEAD_MIN_BYTES = 64

_JPEG_SOI_BYTES = 2
_JPEG_APP0 = b"\xff\xe0"
_JPEG_COMMENT = b"\xff\xfe"
_PNG_IEND = b"\0\0\0\0IEND"
# First letter in lower case: a decoder may skip it; second: private; fourth: safe to copy.
_PNG_CHUNK_TYPE = b"paDd"


class Split(NamedTuple):
    """An image file in two halves; it stays valid with segments put between them."""

    head: bytes
    tail: bytes


def split_file(content: bytes, file_type: str) -> Split:
    """Split an image file: a JPEG after SOI and APP0, a PNG before IEND, others at their end."""
    place = len(content)
    if file_type == JPEG:
        place = _JPEG_SOI_BYTES
        if content[place : place + 2] == _JPEG_APP0:
            place += 2 + int.from_bytes(content[place + 2 : place + 4], "big")
    elif file_type == PNG:
        place = max(content.rfind(_PNG_IEND), 0)
    return Split(content[:place], content[place:])


def _jpeg_segment(payload: bytes) -> bytes:
    """Return a COM segment: 4 bytes longer than its payload of at most 65,533 bytes."""
    return _JPEG_COMMENT + (len(payload) + 2).to_bytes(2, "big") + payload


def _png_chunk(payload: bytes) -> bytes:
    """Return a private ancillary chunk: 12 bytes longer than its payload."""
    body = _PNG_CHUNK_TYPE + payload
    return len(payload).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


_FRAMES: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    JPEG: (_jpeg_segment, 4),
    PNG: (_png_chunk, 12),
}


def can_pad(file_type: str) -> bool:
    return file_type in _FRAMES


class Padding:
    """Segments made from a seed. Holds 1 MiB of noise for each format."""

    def __init__(self, seed: int) -> None:
        self._noise = generator_of(seed).randbytes(_UNITS * _UNIT_BYTES)
        self._segments = {kind: self._units(*frame) for kind, frame in _FRAMES.items()}

    def padded(
        self, split: Split, file_type: str, label: str, size_bytes: int
    ) -> Iterator[bytes | memoryview]:
        """Yield the file in chunks of at most CHUNK_BYTES, `size_bytes` in total.

        `label` is the item's id and determines the padding. Raises ValueError unless `size_bytes`
        is the file's own length or at least LEAD_MIN_BYTES more.
        """
        missing = size_bytes - len(split.head) - len(split.tail)
        yield from _slices(split.head)
        if missing:
            yield from self._fill(file_type, label, missing)
        yield from _slices(split.tail)

    def _fill(self, file_type: str, label: str, size_bytes: int) -> Iterator[bytes | memoryview]:
        if size_bytes < LEAD_MIN_BYTES:
            raise ValueError(f"{label}: cannot pad by {size_bytes} bytes")
        units, rest = divmod(size_bytes - LEAD_MIN_BYTES, _UNIT_BYTES)
        yield self._lead(file_type, label, LEAD_MIN_BYTES + rest)
        segments = self._segments[file_type]
        place = zlib.crc32(label.encode()) % _UNITS
        while units:
            count = min(units, CHUNK_BYTES // _UNIT_BYTES, _UNITS - place)
            yield segments[place * _UNIT_BYTES : (place + count) * _UNIT_BYTES]
            units -= count
            place = (place + count) % _UNITS

    def _lead(self, file_type: str, label: str, size_bytes: int) -> bytes:
        frame, overhead = _FRAMES[file_type]
        name = f"wallhaven-{label}\n".encode()
        return frame(name + self._noise[: size_bytes - overhead - len(name)])

    def _units(self, frame: Callable[[bytes], bytes], overhead: int) -> memoryview:
        starts = range(0, len(self._noise), _UNIT_BYTES)
        length = _UNIT_BYTES - overhead
        return memoryview(b"".join(frame(self._noise[at : at + length]) for at in starts))


def _slices(content: bytes) -> Iterator[memoryview]:
    view = memoryview(content)
    for start in range(0, len(view), CHUNK_BYTES):
        yield view[start : start + CHUNK_BYTES]
