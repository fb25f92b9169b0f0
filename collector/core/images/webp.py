"""WebP: a walk from chunk to chunk of a RIFF container.

Sources: RFC 9649, https://www.rfc-editor.org/rfc/rfc9649 (November 2024), for the container and
the lossless header; RFC 6386 section 9.1, https://www.rfc-editor.org/rfc/rfc6386 (November 2011),
for the lossy one.
"""

from __future__ import annotations

import struct

from collector.core.images.facts import ImageType
from collector.core.images.walk import Findings, MalformedImageError, Read, Step, Walk

SIGNATURE = b"RIFF"

_FILE = struct.Struct("<cI4s")  # the signature's last byte, length of all that follows, form
_FORM_BYTES = 4  # counted in that length
_CHUNK = struct.Struct("<4sI")  # type, body length; a padding byte follows an odd body
_IMAGE_CHUNKS = frozenset({b"VP8 ", b"VP8L", b"ANMF"})

_LOSSY = struct.Struct("<B2x3sHH")  # frame tag, start code, width and height with their scales
_LOSSY_START = b"\x9d\x01\x2a"
_LOSSLESS = struct.Struct("<BI")  # signature; width, height, alpha and version in 32 bits
_LOSSLESS_SIGNATURE = 0x2F
_EXTENDED_BYTES = 10  # flags, 3 reserved, 3 of width, 3 of height
_14_BITS = 0x3FFF


def walk_webp(found: Findings) -> Walk:
    """Walk a WebP from behind the first three bytes of its signature to its RIFF length.

    The first chunk gives the dimensions, an extended file's those of its canvas. Chunks must fit
    into the RIFF length and one of them must hold an image; a last padding byte may be missing.
    """
    last, length, form = _FILE.unpack((yield Read(_FILE.size)))
    if (last, form) != (SIGNATURE[-1:], b"WEBP"):
        raise MalformedImageError
    found.type = ImageType.WEBP
    left, skip, has_image = length - _FORM_BYTES, 0, False
    while left - skip >= _CHUNK.size:
        kind, body_bytes = _CHUNK.unpack((yield Read(_CHUNK.size, skip)))
        left -= skip + _CHUNK.size
        if body_bytes > left:
            raise MalformedImageError
        skip = body_bytes + body_bytes % 2
        has_image = has_image or kind in _IMAGE_CHUNKS
        if found.width is None:
            header_bytes = yield from _read_header(kind, body_bytes, found)
            left, skip = left - header_bytes, skip - header_bytes
    if not has_image:
        raise MalformedImageError
    yield Read(0, skip=left)


def _read_header(kind: bytes, body_bytes: int, found: Findings) -> Step[int]:
    header_bytes = _HEADER_BYTES.get(kind, 0)
    if not 0 < header_bytes <= body_bytes:
        raise MalformedImageError
    header = yield Read(header_bytes)
    found.width, found.height = _READERS[kind](header)
    return header_bytes


def _lossy(header: bytes) -> tuple[int, int]:
    tag, start, width, height = _LOSSY.unpack(header)
    width, height = width & _14_BITS, height & _14_BITS
    if tag & 1 or start != _LOSSY_START or not (width and height):  # 1: no key frame
        raise MalformedImageError
    return width, height


def _lossless(header: bytes) -> tuple[int, int]:
    signature, bits = _LOSSLESS.unpack(header)
    if signature != _LOSSLESS_SIGNATURE or bits >> 29:  # the version must be 0
        raise MalformedImageError
    return (bits & _14_BITS) + 1, (bits >> 14 & _14_BITS) + 1


def _extended(header: bytes) -> tuple[int, int]:
    return int.from_bytes(header[4:7], "little") + 1, int.from_bytes(header[7:], "little") + 1


_READERS = {b"VP8 ": _lossy, b"VP8L": _lossless, b"VP8X": _extended}
_HEADER_BYTES = {b"VP8 ": _LOSSY.size, b"VP8L": _LOSSLESS.size, b"VP8X": _EXTENDED_BYTES}
