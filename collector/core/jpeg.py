"""The headers of a JPEG that begins with long metadata."""

from __future__ import annotations

import struct

from collector.core.parts import Chunk

# Tables and frame headers have a few kilobytes.
MAX_KEPT_BYTES = 64 * 1024
# Real files have some hundred segments; of 64 KiB each, so many are longer than any image.
MAX_SEGMENTS = 10_000
# 0xff, the marker, the length of the segment with its own two bytes.
_SEGMENT = struct.Struct(">BBH")
_MARKER_START = 0xFF
_START_OF_SCAN = 0xDA
# Markers without a segment, with their bytes: start of image, and 0xff, which fills.
_BARE_MARKERS = {0xD8: 2, 0xFF: 1}
# APP0 to APP15, and comments.
_METADATA_MARKERS = frozenset({*range(0xE0, 0xF0), 0xFE})


class JpegSegments:
    """Skips the metadata of a JPEG, however long it is, and keeps its other headers.

    `kept` is the JPEG without its metadata, up to its first scan; `read_bytes` is where in the body
    the last segment ends that has begun. No input raises.

    Markers and segments: ITU-T T.81, annex B, https://www.w3.org/Graphics/JPEG/itu-t81.pdf
    (September 1992).
    """

    def __init__(self) -> None:
        self.kept = bytearray(b"\xff\xd8")
        self._unread = bytearray()
        # Of a segment that has begun and is not kept.
        self._skip_bytes = 0
        self.read_bytes = 0
        self._segments_left = MAX_SEGMENTS
        self._is_over = False

    def feed(self, chunk: Chunk) -> None:
        """Take the next bytes, from the signature on; what follows the headers is left alone."""
        if self._is_over:
            return
        skipped = min(self._skip_bytes, len(chunk))
        self._skip_bytes -= skipped
        self._unread += chunk[skipped:]
        while not self._is_over and self._read_segment():
            pass
        if self._is_over:
            self._unread.clear()

    def _read_segment(self) -> bool:
        """Take a segment off the unread bytes; False if more are needed, or it is none."""
        if len(self._unread) < _SEGMENT.size:
            return False
        start, marker, length = _SEGMENT.unpack_from(self._unread)
        self._segments_left -= 1
        is_none = start != _MARKER_START or self._segments_left < 0
        if is_none or len(self.kept) > MAX_KEPT_BYTES:
            self._is_over = True
            return False
        size = _BARE_MARKERS.get(marker, 2 + length)
        if marker not in _METADATA_MARKERS and marker not in _BARE_MARKERS:
            if len(self._unread) < size:
                return False
            self.kept += self._unread[:size]
        self._is_over = marker == _START_OF_SCAN
        self._skip_bytes = max(0, size - len(self._unread))
        self.read_bytes += size
        del self._unread[:size]
        return True
