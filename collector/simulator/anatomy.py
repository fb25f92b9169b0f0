"""Where padding may go into a JPEG or PNG file: the few structures of both that it needs."""

from __future__ import annotations

from collector.simulator.stock import JPEG, PNG, Split

_PNG_SIGNATURE_BYTES = 8
_PNG_FRAME_BYTES = 12  # length, type and CRC of a chunk
_JPEG_SOI_BYTES = 2
_JPEG_APP0 = b"\xff\xe0"


def split(content: bytes, file_type: str) -> Split:
    """Split a picture file: a JPEG after SOI and APP0, a PNG before IEND, others at their end."""
    place = len(content)
    if file_type == JPEG:
        place = _after_app0(content)
    elif file_type == PNG:
        place = _before_iend(content)
    return Split(content[:place], content[place:])


def _after_app0(content: bytes) -> int:
    if content[_JPEG_SOI_BYTES : _JPEG_SOI_BYTES + 2] != _JPEG_APP0:
        return _JPEG_SOI_BYTES
    return _JPEG_SOI_BYTES + 2 + int.from_bytes(content[4:6], "big")


def _before_iend(content: bytes) -> int:
    place = _PNG_SIGNATURE_BYTES
    while place + _PNG_FRAME_BYTES <= len(content):
        if content[place + 4 : place + 8] == b"IEND":
            return place
        place += _PNG_FRAME_BYTES + int.from_bytes(content[place : place + 4], "big")
    return len(content)
