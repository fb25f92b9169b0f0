"""Validate a body against its row, before any of it becomes visible.

A body of exactly the row's `file_size` is not cut short, so its first and last bytes are enough. If
the row gives no size, the image is also read to its end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from collector.core.errors import Code, Fault, ItemError
from collector.core.image_reader import ImageReader
from collector.core.images import ImageHead, ImageType, is_whole
from collector.core.pacing import retry_date_seconds
from collector.core.parts import Chunk

_OK = 200
# A confused cache: the request had no condition.
_NOT_MODIFIED = 304
# Answers about this one image, with their code. All others are failures of the host.
_REFUSALS = {
    401: Code.FORBIDDEN,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    410: Code.GONE,
    451: Code.GONE,
}
# No serious header has more; int() refuses thousands of digits, and float() turns them into inf.
_MAX_DIGITS = 18
# A CDN node may refuse for a while (403) or lag (404); 410 and 451 are final.
_TRANSIENT_REFUSALS = frozenset({401, 403, 404})

# Any usable connection is faster than this.
MIN_BYTES_PER_SECOND = 4_000
# Good connections stall for a few seconds, but not for this long.
THROUGHPUT_WINDOW_SECONDS = 20.0


class Throughput:
    """Measures how fast a body arrives, window by window; only time spent waiting for it counts.

    A source that drips is too slow to wait for, but never silent long enough for a timeout.
    """

    def __init__(self) -> None:
        self._bytes = 0
        self._seconds = 0.0

    def note(self, size_bytes: int, waited_seconds: float) -> None:
        """Count bytes that arrived after a wait.

        Raises ItemError(source_error, transient) if a whole window brought too few.
        """
        self._bytes += size_bytes
        self._seconds += waited_seconds
        if self._seconds < THROUGHPUT_WINDOW_SECONDS:
            return
        per_second = self._bytes / self._seconds
        if per_second < MIN_BYTES_PER_SECOND:
            problem = f"{per_second:.0f} bytes a second for {self._seconds:.0f} s"
            raise _transient(Code.SOURCE_ERROR, problem)
        self._bytes, self._seconds = 0, 0.0


class Validator:
    """Checks one answer and its body as it arrives; `validate()` says whether it may be stored.

    Each check raises ItemError with its code as early as it can. Without a `file_size`, all chunks
    are kept until `validate()`, bounded by `max_bytes`.
    """

    def __init__(
        self,
        expected: ImageType,
        *,
        file_size: int | None,
        dimensions: tuple[int | None, int | None],
        max_bytes: int,
    ) -> None:
        self._expected = expected
        self._file_size = file_size
        self._dimensions = dimensions
        self._max_bytes = max_bytes
        self._announced: int | None = None
        self._reader = ImageReader()
        self._sha256 = hashlib.sha256()
        self._chunks: list[Chunk] = []
        self.size_bytes = 0

    def check_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Check status and header fields, before the body is read."""
        _check_status(status, headers)
        if headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise _transient(Code.SOURCE_ERROR, "the body is encoded, identity was requested")
        if headers.get("Content-Type", "").lower().startswith("text/html"):
            raise _transient(Code.HTML_RESPONSE, "Content-Type text/html")
        self._announced = _whole_number(headers, "Content-Length")
        self._check_size(self._announced or 0)

    def feed(self, chunk: Chunk) -> None:
        """Take the next bytes; raises as soon as there are too many."""
        self.size_bytes += len(chunk)
        self._check_size(self.size_bytes)
        self._sha256.update(chunk)
        self._reader.feed(chunk)
        if self._file_size is None:
            self._chunks.append(chunk)

    @property
    def is_slow(self) -> bool:
        """Whether `validate()` may take a second and belongs in a thread."""
        return self._file_size is None

    def validate(self) -> bytes:
        """Return the sha256 (32 bytes) of a body that matches its row; raises otherwise."""
        if self.size_bytes == 0:
            raise _transient(Code.EMPTY, "the body has no bytes")
        self._check_image()
        if self._announced is not None and self.size_bytes != self._announced:
            raise _transient(
                Code.LENGTH_MISMATCH, f"{self.size_bytes} of {self._announced} announced bytes"
            )
        if self._file_size is not None and self.size_bytes != self._file_size:
            raise _transient(
                Code.SIZE_MISMATCH, f"{self.size_bytes} bytes, the row says {self._file_size}"
            )
        return self._sha256.digest()

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > self._max_bytes:
            limit = "COLLECTOR_MAX_IMAGE_BYTES"
            if self._file_size is None:
                limit += ", or the bound for an image whose row gives no size"
            raise ItemError(
                Code.TOO_LARGE,
                f"more than {self._max_bytes} bytes ({limit})",
                fault=Fault.PERMANENT,
            )
        if self._file_size is not None and size_bytes > self._file_size:
            raise _transient(
                Code.SIZE_MISMATCH, f"at least {size_bytes} bytes, the row says {self._file_size}"
            )

    def _check_image(self) -> None:
        head = self._reader.head()
        self._check_type(head)
        if head.size is None:
            raise _transient(Code.TRUNCATED, f"no valid header in {self.size_bytes} bytes")
        if not self._reader.has_end(head):
            raise _transient(Code.TRUNCATED, f"no end marker in {self.size_bytes} bytes")
        self._check_dimensions(*head.size)
        if self._file_size is None and not is_whole(self._expected, b"".join(self._chunks)):
            raise _transient(Code.TRUNCATED, "the image could not be read to its end")

    def _check_type(self, head: ImageHead) -> None:
        if head.looks_like_text:
            raise _transient(Code.HTML_RESPONSE, "the body is text, not an image")
        if head.type is None:
            raise _transient(Code.MAGIC_MISMATCH, "the bytes are not a JPEG, PNG or WebP")
        if head.type is not self._expected:
            raise ItemError(
                Code.TYPE_MISMATCH,
                f"the bytes are {head.type.value}, the row says {self._expected.value}",
                fault=Fault.PERMANENT,
            )

    def _check_dimensions(self, width: int, height: int) -> None:
        row_width, row_height = self._dimensions
        if row_width in (None, width) and row_height in (None, height):
            return
        problem = f"{width}x{height} pixels, the row says {row_width}x{row_height}"
        raise _transient(Code.DIMENSION_MISMATCH, problem)


def _check_status(status: int, headers: Mapping[str, str]) -> None:
    if status == _OK:
        return
    if status in _REFUSALS:
        fault = Fault.TRANSIENT if status in _TRANSIENT_REFUSALS else Fault.PERMANENT
        raise ItemError(_REFUSALS[status], f"HTTP {status}", fault=fault)
    if 300 <= status < 400 and status != _NOT_MODIFIED:
        raise ItemError(Code.REDIRECT_REFUSED, f"HTTP {status}", fault=Fault.PERMANENT)
    retry_after = _whole_number(headers, "Retry-After")
    raise ItemError(
        Code.SOURCE_ERROR,
        f"HTTP {status}",
        fault=Fault.TRANSIENT,
        retry_after_seconds=(
            retry_date_seconds(headers) if retry_after is None else float(retry_after)
        ),
    )


def _whole_number(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(name, "")
    return int(text[:_MAX_DIGITS]) if text.isascii() and text.isdigit() else None


def _transient(code: Code, reason: str) -> ItemError:
    return ItemError(code, reason, fault=Fault.TRANSIENT)
