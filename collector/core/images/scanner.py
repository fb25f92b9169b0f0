"""Feeds a stream of chunks to the walk of whatever image it turns out to be."""

from __future__ import annotations

import re

from collector.core.images import jpeg, png, webp
from collector.core.images.facts import ImageFacts
from collector.core.images.walk import Findings, MalformedImageError, Read, Request, Walk

_SIGNATURE_BYTES = 3  # enough to tell the walks apart; each then reads the rest of its signature
_WALKS = {
    jpeg.SIGNATURE[:_SIGNATURE_BYTES]: jpeg.walk_jpeg,
    png.SIGNATURE[:_SIGNATURE_BYTES]: png.walk_png,
    webp.SIGNATURE[:_SIGNATURE_BYTES]: webp.walk_webp,
}

_VISIBLE = re.compile(rb"[^\s\xef\xbb\xbf]")  # behind white space and UTF-8's byte order mark
_TEXT_OPENINGS = frozenset({b"<", b"{", b"["})


class ImageScanner:
    """Says what the bytes of a body are while they stream by.

    Takes chunks of any size, cut anywhere, and neither joins nor keeps them: it holds no more than
    one header. No input raises, and the work is linear in its length. The facts depend on the
    bytes alone, never on how they were cut.
    """

    def __init__(self) -> None:
        self._found = Findings()
        self._walk = _walk_any(self._found)
        self._walking = True
        self._complete = False
        self._trailing_bytes = 0
        self._first_visible = b""
        self._held = b""
        self._skip = 0
        self._request: Request
        self._expect(next(self._walk))

    def feed(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes of the body; a memoryview must be contiguous, of single bytes."""
        if not self._first_visible and (visible := _VISIBLE.search(chunk)):
            self._first_visible = visible.group()
        position = 0
        while self._walking:
            answer, position = self._serve(chunk, position)
            if answer is None:
                return
            self._resume(answer)
        if self._complete:
            self._trailing_bytes += len(chunk) - position

    def facts(self) -> ImageFacts:
        """What the bytes fed so far are; may be asked at any time."""
        found = self._found
        return ImageFacts(
            type=found.type,
            width=found.width,
            height=found.height,
            complete=self._complete,
            trailing_bytes=self._trailing_bytes,
            looks_like_html=self._first_visible in _TEXT_OPENINGS,
        )

    def _serve(self, chunk: bytes | memoryview, position: int) -> tuple[bytes | None, int]:
        """The answer to the walk's request, None if it needs more, and where the rest begins."""
        if isinstance(self._request, Read):
            return self._read(self._request, chunk, position)
        return self._find(self._request, chunk, position)

    def _read(
        self, request: Read, chunk: bytes | memoryview, position: int
    ) -> tuple[bytes | None, int]:
        start = position + self._skip
        end = start + request.size - len(self._held)
        if end <= len(chunk):
            return self._held + bytes(chunk[start:end]), end
        self._skip = max(0, start - len(chunk))
        self._held += bytes(chunk[start:])
        return None, len(chunk)

    def _find(
        self, pattern: re.Pattern[bytes], chunk: bytes | memoryview, position: int
    ) -> tuple[bytes | None, int]:
        if self._held:  # the last byte of the chunk before may be the first of a match
            seam = self._held + bytes(chunk[position : position + 1])
            if pattern.match(seam):
                return seam, position + 1
        if match := pattern.search(chunk, position):
            return bytes(match.group()), match.end()
        if position < len(chunk):
            self._held = bytes(chunk[-1:])
        return None, len(chunk)

    def _resume(self, answer: bytes) -> None:
        try:
            self._expect(self._walk.send(answer))
        except StopIteration:
            self._walking, self._complete = False, True
        except MalformedImageError:
            self._walking = False

    def _expect(self, request: Request) -> None:
        self._request = request
        self._held = b""
        self._skip = request.skip if isinstance(request, Read) else 0


def _walk_any(found: Findings) -> Walk:
    walk = _WALKS.get((yield Read(_SIGNATURE_BYTES)))
    if walk is None:
        raise MalformedImageError
    yield from walk(found)
