"""PNG: a walk from chunk to chunk.

Source: PNG third edition, https://www.w3.org/TR/png-3/ (24 June 2025), sections 5 and 11.2.
"""

from __future__ import annotations

import struct
import zlib

from collector.core.images.facts import ImageType
from collector.core.images.walk import Findings, MalformedImageError, Read, Walk

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Ours: a step each. A file as large as we take, in the 4 kB chunks of a careful encoder, has fewer.
MOST_CHUNKS = 200_000

_MAX_INTEGER = 2**31 - 1  # the format's largest length, width and height
_CRC_BYTES = 4
_CHUNK = struct.Struct(">I4s")  # body length, type
_HEADER = struct.Struct(">I4sII5xI")  # the whole IHDR chunk: length, type, width, height, .., CRC
_HEADER_BODY_BYTES = 13


def walk_png(found: Findings) -> Walk:
    """Walk a PNG, from behind the first three bytes of its signature to the end of its IEND chunk.

    Bodies are passed by their length. Only the CRC of the chunk with the dimensions is checked;
    at least one IDAT chunk must be there.
    """
    if SIGNATURE[:3] + (yield Read(len(SIGNATURE) - 3)) != SIGNATURE:
        raise MalformedImageError
    found.type = ImageType.PNG
    found.width, found.height = _dimensions((yield Read(_HEADER.size)))
    has_data = False
    length, kind = _CHUNK.unpack((yield Read(_CHUNK.size)))
    for _ in range(MOST_CHUNKS):
        if kind == b"IEND":
            break
        if length > _MAX_INTEGER or not kind.isalpha():
            raise MalformedImageError
        has_data = has_data or kind == b"IDAT"
        length, kind = _CHUNK.unpack((yield Read(_CHUNK.size, skip=length + _CRC_BYTES)))
    else:
        raise MalformedImageError
    if length or not has_data:
        raise MalformedImageError
    yield Read(_CRC_BYTES)


def _dimensions(chunk: bytes) -> tuple[int, int]:
    length, kind, width, height, crc = _HEADER.unpack(chunk)
    if (length, kind) != (_HEADER_BODY_BYTES, b"IHDR") or zlib.crc32(chunk[4:-4]) != crc:
        raise MalformedImageError
    if not (0 < width <= _MAX_INTEGER and 0 < height <= _MAX_INTEGER):
        raise MalformedImageError
    return width, height
