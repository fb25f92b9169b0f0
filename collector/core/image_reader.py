"""Read the type, size and end of an image from the first and last bytes of its body."""

from __future__ import annotations

import struct
from collections import deque

from collector.core.images import (
    END_MARKERS,
    SHORT_LOOK_BYTES,
    ImageHead,
    ImageType,
    read_head,
)
from collector.core.parts import PART_BYTES, Chunk

# The most that is kept of the end, for bytes that follow an image: one part, which is in memory
# anyway while it fills.
LONG_LOOK_BYTES = PART_BYTES
# The tables and frame headers of a JPEG have a few kilobytes.
MAX_KEPT_BYTES = 64 * 1024
# Real files have some hundred segments; this many of 64 KiB each are longer than any image.
MAX_SEGMENTS = 10_000
# 0xff, the marker, the length of the segment including its own two bytes.
_SEGMENT = struct.Struct(">BBH")
_MARKER_START = 0xFF
_START_OF_SCAN = 0xDA
# Markers without a segment, and their length: start of image, and the fill byte 0xff.
_BARE_MARKERS = {0xD8: 2, 0xFF: 1}
# APP0 to APP15, and comments.
_METADATA_MARKERS = frozenset({*range(0xE0, 0xF0), 0xFE})


class ImageReader:
    """Keeps the first and last bytes of a body while it arrives, and reads them.

    Takes chunks of any size and copies few of them. Keeps the chunks of the first SHORT_LOOK_BYTES
    and of the last LONG_LOOK_BYTES at most. No input raises. The result depends on the bytes alone,
    not on where chunks end.
    """

    def __init__(self) -> None:
        self._size_bytes = 0
        self._head: ImageHead | None = None
        self._first: list[Chunk] = []
        self._segments: JpegSegments | None = None
        self._last: deque[Chunk] = deque()
        self._last_bytes = 0

    def feed(self, chunk: Chunk) -> None:
        """Take the next bytes of the body; a memoryview must be contiguous, of single bytes."""
        self._size_bytes += len(chunk)
        self._last.append(chunk)
        self._last_bytes += len(chunk)
        while self._last_bytes - len(self._last[0]) >= LONG_LOOK_BYTES:
            self._last_bytes -= len(self._last.popleft())
        if self._segments is not None:
            self._segments.feed(chunk)
        elif self._head is None:
            self._first.append(chunk)
            if self._size_bytes >= SHORT_LOOK_BYTES:
                self._look_at_head()

    def head(self) -> ImageHead:
        """Return what the bytes so far say; may be called at any time."""
        if self._segments is not None:
            size = read_head(bytes(self._segments.kept)).size
            return ImageHead(ImageType.JPEG, size, self._segments.read_bytes)
        return self._head or read_head(b"".join(self._first))

    def has_end(self, head: ImageHead) -> bool:
        """Return whether the image's own end has arrived; other bytes may follow it.

        The end marker of a JPEG or PNG must be within the last LONG_LOOK_BYTES.
        """
        rest_bytes = self._size_bytes - head.min_bytes
        if head.type is None or rest_bytes < 0:
            return False
        marker = END_MARKERS[head.type]
        # The marker is nearly always the last thing, so the short look comes first.
        looks = (min(look, rest_bytes) for look in (SHORT_LOOK_BYTES, LONG_LOOK_BYTES))
        return any(marker in _last_of(self._last, look) for look in looks)

    def _look_at_head(self) -> None:
        data = b"".join(self._first)
        self._first.clear()
        self._head = read_head(data[:SHORT_LOOK_BYTES])
        if self._head.type is ImageType.JPEG and self._head.size is None:
            self._segments = JpegSegments()
            self._segments.feed(data)


def _last_of(chunks: deque[Chunk], size_bytes: int) -> bytes:
    taken: deque[Chunk] = deque()
    for chunk in reversed(chunks):
        if size_bytes <= 0:
            break
        taken.appendleft(chunk[-size_bytes:])
        size_bytes -= len(chunk)
    return b"".join(taken)


class JpegSegments:
    """Skips the metadata of a JPEG, however long it is, and keeps its other headers.

    `kept` is the JPEG without its metadata, up to its first scan. `read_bytes` is the position in
    the body where the last segment that has begun ends. No input raises.

    Markers and segments: ITU-T T.81, annex B, https://www.w3.org/Graphics/JPEG/itu-t81.pdf
    (September 1992).
    """

    def __init__(self) -> None:
        self.kept = bytearray(b"\xff\xd8")
        self._unread = bytearray()
        # How much of a skipped segment has not arrived yet.
        self._skip_bytes = 0
        self.read_bytes = 0
        self._segments_left = MAX_SEGMENTS
        self._is_over = False

    def feed(self, chunk: Chunk) -> None:
        """Take the next bytes, from the signature on; bytes after the headers are ignored."""
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
        """Consume a segment of the unread bytes; False if it is incomplete or invalid."""
        if len(self._unread) < _SEGMENT.size:
            return False
        start, marker, length = _SEGMENT.unpack_from(self._unread)
        self._segments_left -= 1
        is_invalid = start != _MARKER_START or self._segments_left < 0
        if is_invalid or len(self.kept) > MAX_KEPT_BYTES:
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
