"""Judge a body against its row, before anything of it may become visible."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from collector.core.errors import Code, Fault, ItemError
from collector.core.images import ImageScanner, ImageType
from collector.core.pacing import retry_date_seconds
from collector.core.parts import Chunk

_OK = 200
# Said by a cache that is confused: no condition was set.
_NOT_MODIFIED = 304
# Answers that say "not this one", with their code. Everything else below is the host's trouble.
_REFUSALS = {
    401: Code.FORBIDDEN,
    403: Code.FORBIDDEN,
    404: Code.NOT_FOUND,
    410: Code.GONE,
    451: Code.GONE,
}
# No header that means it needs more; int() refuses thousands of digits, float() makes inf of them.
_MOST_DIGITS = 18
# 403 may be an edge that refuses for a while, 404 one that lags; 410 and 451 are final.
_TRANSIENT_REFUSALS = frozenset({401, 403, 404})


class Judge:
    """Look at one answer and its body as it passes; `verdict()` says whether it may be stored.

    Every check raises ItemError with its code as soon as the answer is known. The sha256 is of
    all bytes fed.
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
        self._scanner = ImageScanner()
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    def check_head(self, status: int, headers: Mapping[str, str]) -> None:
        """Judge status and header fields, before the body is read."""
        _check_status(status, headers)
        if headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
            raise _transient(Code.SOURCE_ERROR, "the body is encoded though identity was asked for")
        if headers.get("Content-Type", "").lower().startswith("text/html"):
            raise _transient(Code.HTML_RESPONSE, "Content-Type text/html")
        self._announced = _whole_number(headers, "Content-Length")
        self._check_size(self._announced or 0)

    def feed(self, chunk: Chunk) -> None:
        """Take the next bytes; raises as soon as there are too many of them."""
        self.size_bytes += len(chunk)
        self._check_size(self.size_bytes)
        self._sha256.update(chunk)
        self._scanner.feed(chunk)

    def verdict(self) -> bytes:
        """Return the sha256 (32 bytes) of a body that is exactly what its row says."""
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
            raise ItemError(
                Code.TOO_LARGE,
                f"more than {self._max_bytes} bytes (COLLECTOR_MAX_IMAGE_BYTES)",
                fault=Fault.PERMANENT,
            )
        if self._file_size is not None and size_bytes > self._file_size:
            raise _transient(
                Code.SIZE_MISMATCH, f"at least {size_bytes} bytes, the row says {self._file_size}"
            )

    def _check_image(self) -> None:
        facts = self._scanner.facts()
        if facts.type is None:
            if facts.looks_like_html:
                raise _transient(Code.HTML_RESPONSE, "the body is text, not an image")
            raise _transient(Code.MAGIC_MISMATCH, "the bytes are no JPEG, PNG or WebP")
        if facts.type is not self._expected:
            raise ItemError(
                Code.TYPE_MISMATCH,
                f"the bytes are {facts.type.value}, the row says {self._expected.value}",
                fault=Fault.PERMANENT,
            )
        if not facts.complete:
            raise _transient(Code.TRUNCATED, f"no end marker in {self.size_bytes} bytes")
        self._check_dimensions(facts.width, facts.height)

    def _check_dimensions(self, width: int | None, height: int | None) -> None:
        for found, expected in zip((width, height), self._dimensions, strict=True):
            if found is not None and expected is not None and found != expected:
                raise _transient(
                    Code.DIMENSION_MISMATCH,
                    f"{width}x{height} pixels, the row says "
                    f"{self._dimensions[0]}x{self._dimensions[1]}",
                )


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
    return int(text[:_MOST_DIGITS]) if text.isascii() and text.isdigit() else None


def _transient(code: Code, reason: str) -> ItemError:
    return ItemError(code, reason, fault=Fault.TRANSIENT)
