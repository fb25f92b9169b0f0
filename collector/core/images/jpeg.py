"""JPEG: a walk from marker to marker.

Source: ITU-T T.81 annex B, https://www.w3.org/Graphics/JPEG/itu-t81.pdf (September 1992).
"""

from __future__ import annotations

import re
import struct

import re2

from collector.core.images.facts import ImageType
from collector.core.images.walk import Findings, MalformedImageError, Read, Step, Walk

# Start of image, and the first byte of the marker that must follow.
SIGNATURE = b"\xff\xd8\xff"

# Ours: a step each. Real files have some hundred at most; millions of empty ones would be a way to
# keep us busy.
MOST_MARKERS = 10_000

_SOI, _EOI, _SOS, _FILL = 0xD8, 0xD9, 0xDA, 0xFF
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0-15 without DHT, JPG and DAC
_STANDALONE = frozenset(range(0xD0, 0xD8)) | {0x01}  # RST0-7 and TEM have no segment
_SEGMENTS = frozenset(range(0xC0, 0xFF)) - _STANDALONE - {_SOI, _EOI}  # below it all is reserved


def _of_bytes(pattern: bytes) -> re.Pattern[bytes]:
    options = re2.Options()
    # One character is one byte.
    options.encoding = re2.Options.Encoding.LATIN1
    compiled: re.Pattern[bytes] = re2.compile(pattern, options)
    return compiled


# In entropy-coded data 0xFF00 is a stuffed 0xFF, RST0-7 belong to the data, and a repeated 0xFF is
# fill. A 0xFF comes every 300 bytes: RE2 leaps from one to the next, where `re` looks at each byte
# (docs/decisions/0012-re2-in-the-walk.md).
_END_OF_SCAN = _of_bytes(rb"\xff[^\x00\xd0-\xd7\xff]")
_AFTER_FILL = re.compile(rb"[^\xff]")

_FRAME = struct.Struct(">xHH")  # sample precision, height, width
_FRAME_MIN_BODY_BYTES = 6  # those and the number of components


def walk_jpeg(found: Findings) -> Walk:
    """Walk a JPEG from behind its signature to its end of image, which must follow a scan.

    Segments are passed by their length, so a thumbnail's own end of image does not count. A height
    of 0 says that a DNL segment gives it later; that is not read, and the height stays None.
    """
    found.type = ImageType.JPEG
    scanned = False
    code = (yield Read(1))[0]
    for _ in range(MOST_MARKERS):
        if code == _EOI:
            break
        if code == _FILL:
            code = (yield _AFTER_FILL)[0]
        elif code in _STANDALONE:
            code = yield from _next_code(0)
        elif code == _SOS:
            code = yield from _pass_scan(found)
            scanned = True
        else:
            code = yield from _pass_segment(code, found)
    else:
        raise MalformedImageError
    if not scanned:
        raise MalformedImageError


def _pass_scan(found: Findings) -> Step[int]:
    if found.width is None:
        raise MalformedImageError
    body_bytes = yield from _body_bytes()
    yield Read(0, skip=body_bytes)
    return (yield _END_OF_SCAN)[1]


def _pass_segment(code: int, found: Findings) -> Step[int]:
    if code not in _SEGMENTS:
        raise MalformedImageError
    body_bytes = yield from _body_bytes()
    if code in _FRAMES:
        yield from _read_frame(body_bytes, found)
        body_bytes -= _FRAME.size
    return (yield from _next_code(body_bytes))


def _read_frame(body_bytes: int, found: Findings) -> Walk:
    if body_bytes < _FRAME_MIN_BODY_BYTES or found.width is not None:
        raise MalformedImageError
    height, width = _FRAME.unpack((yield Read(_FRAME.size)))
    if not width:
        raise MalformedImageError
    found.width, found.height = width, height or None


def _body_bytes() -> Step[int]:
    length = int.from_bytes((yield Read(2)), "big")
    if length < 2:  # it counts its own two bytes
        raise MalformedImageError
    return length - 2


def _next_code(skip: int) -> Step[int]:
    prefix, code = yield Read(2, skip)
    if prefix != _FILL:
        raise MalformedImageError
    return code
