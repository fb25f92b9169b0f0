"""Images: the types that may be stored, and what a body's first and last bytes tell of it.

Pillow reads the headers of JPEG and PNG. Of a WebP it would want the whole body and room for the
pixels, so its first thirty bytes are read here. Only `is_whole` decodes anything.
"""

from __future__ import annotations

import io
import re
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from collector.core.jpeg import JpegSegments
from collector.core.parts import PART_BYTES, Chunk

if TYPE_CHECKING:
    # Pillow takes 30 ms to import, and few commands read an image.
    from PIL.JpegImagePlugin import JpegImageFile

# The first bytes of a body: nearly every image has its headers there, and all headers of a JPEG
# without its metadata are shorter. The last ones: nearly every image has its end marker there.
SHORT_LOOK_BYTES = 64 * 1024
# The most that is kept of the end, for bytes that follow an image: one part, which is in memory
# anyway while it fills.
LONG_LOOK_BYTES = PART_BYTES
# Four for each segment of a JPEG, of which real files have some hundred.
MAX_HEADER_READS = 5_000
# Three for each chunk of a PNG, of which 32 MiB have 8,200 if their encoder writes 4 KiB at a time.
MAX_CHUNK_READS = 30_000
# 8K is 33 million pixels. libjpeg keeps six bytes of each while it decodes a progressive JPEG:
# 200 MB.
MAX_DECODED_PIXELS = 2**25


class ImageType(StrEnum):
    """An image type that may be stored; the value is its media type."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"

    @property
    def extension(self) -> str:
        """The end of an object key, without the dot."""
        return _EXTENSIONS[self]


_EXTENSIONS = {ImageType.JPEG: "jpg", ImageType.PNG: "png", ImageType.WEBP: "webp"}
_TYPES = {extension: type_ for type_, extension in _EXTENSIONS.items()} | {"jpeg": ImageType.JPEG}


def image_type_of_file_type(file_type: str) -> ImageType | None:
    """The type of a media type such as `image/jpeg`, in any case; None if we store no such."""
    try:
        return ImageType(file_type.strip().lower())
    except ValueError:
        return None


def image_type_of_extension(text: str) -> ImageType | None:
    """The type of a file name's end such as `jpg` or `.JPEG`; None if we store no such."""
    return _TYPES.get(text.removeprefix(".").lower())


_SIGNATURES = {
    ImageType.JPEG: re.compile(rb"\xff\xd8\xff"),
    ImageType.PNG: re.compile(rb"\x89PNG\r\n\x1a\n"),
    ImageType.WEBP: re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}
# End of image; the whole IEND chunk, which has no body. A WebP has none: it begins with its length.
_END_MARKERS = {
    ImageType.JPEG: b"\xff\xd9",
    ImageType.PNG: b"\0\0\0\0IEND\xae\x42\x60\x82",
    ImageType.WEBP: b"",
}
# White space and UTF-8's byte order mark, and what opens HTML, XML or JSON after them.
_BLANKS = b" \t\n\r\v\f\xef\xbb\xbf"
_TEXT_OPENINGS = (b"<", b"{", b"[")


@dataclass(frozen=True, slots=True)
class ImageHead:
    """What the first bytes of a body tell.

    type: None if the signature is of no type that is stored.
    size: width and height in pixels; None if no valid header tells them.
    min_bytes: the image is longer than this; of a WebP, it is at least as long.
    looks_like_text: it opens like HTML, XML or JSON; never with a type.
    """

    type: ImageType | None = None
    size: tuple[int, int] | None = None
    min_bytes: int = 0
    looks_like_text: bool = False


class ImageReader:
    """Keeps the first and the last bytes of a body as it passes, and reads them.

    Takes chunks of any size, cut anywhere. It copies few, and keeps those of the first
    SHORT_LOOK_BYTES and of the last LONG_LOOK_BYTES at most. No input raises. What it tells depends
    on the bytes alone, never on how they were cut.
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
        """What the first bytes tell; may be asked at any time."""
        if self._segments is not None:
            size = read_head(bytes(self._segments.kept)).size
            return ImageHead(ImageType.JPEG, size, self._segments.read_bytes)
        return self._head or read_head(b"".join(self._first))

    def has_end(self, head: ImageHead) -> bool:
        """Whether the image's own end is there; other bytes may follow it.

        The end marker of a JPEG or PNG must be within the last LONG_LOOK_BYTES.
        """
        rest_bytes = self._size_bytes - head.min_bytes
        if head.type is None or rest_bytes < 0:
            return False
        marker = _END_MARKERS[head.type]
        looks = (min(look, rest_bytes) for look in (SHORT_LOOK_BYTES, LONG_LOOK_BYTES))
        # The marker is nearly always the last thing.
        return any(_last_of(self._last, look).rfind(marker) >= 0 for look in looks)

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


def read_head(data: bytes) -> ImageHead:
    """Read the headers of a body that begins so; never raises."""
    for image_type, signature in _SIGNATURES.items():
        if signature.match(data):
            try:
                size, min_bytes = _HEADER_READERS[image_type](data)
            except Exception:  # noqa: BLE001 - no body may end a run, whatever Pillow makes of it
                return ImageHead(image_type)
            return ImageHead(image_type, size, min_bytes)
    visible = data.lstrip(_BLANKS)
    is_blank = not visible and len(data) == SHORT_LOOK_BYTES
    return ImageHead(looks_like_text=is_blank or visible.startswith(_TEXT_OPENINGS))


_Header = tuple[tuple[int, int], int]


class _File(io.BytesIO):
    """Answers so many reads and no more: a million empty segments cost nothing."""

    _reads_left = MAX_CHUNK_READS

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes; raises OSError after too many reads."""
        self._reads_left -= 1
        if self._reads_left < 0:
            raise OSError("too many segments")
        return super().read(size)


class _FileWithoutMetadata(_File):
    """Shows Pillow the headers of a JPEG alone.

    Pillow parses EXIF, colour profiles and the like as it passes them, and may warn of what it
    finds. Each begins with the letter of a name, which no header does, and reads as zeros here.
    """

    _reads_left = MAX_HEADER_READS

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, or as many zeros."""
        data = super().read(size)
        return bytes(len(data)) if len(data) > 2 and data[:1].isalpha() else data


def _open_jpeg(data: bytes) -> tuple[JpegImageFile, int]:
    """Read the headers; return where the first scan begins, too."""
    from PIL.JpegImagePlugin import JpegImageFile  # noqa: PLC0415 - see TYPE_CHECKING

    # Not Image.open: that would look for more images in it, and warn of many pixels.
    image = JpegImageFile(file := _FileWithoutMetadata(data))
    if not image.tile:
        raise EOFError("no scan")
    return image, file.tell()


def _read_jpeg(data: bytes) -> _Header:
    image, scan_at = _open_jpeg(data)
    return image.size, scan_at


_PNG_SIGNATURE_BYTES = 8
# With IHDR, which is the first chunk.
_PNG_HEADER_BYTES = 33
# Pillow reads on to where the pixels begin.
_PNG_PIXELS = b"\0\0\0\0IDAT"


def _read_png(data: bytes) -> _Header:
    from PIL.PngImagePlugin import PngImageFile  # noqa: PLC0415 - see TYPE_CHECKING

    image = PngImageFile(io.BytesIO(data[:_PNG_HEADER_BYTES] + _PNG_PIXELS))
    return image.size, _PNG_HEADER_BYTES


# Sources: RFC 9649, https://www.rfc-editor.org/rfc/rfc9649 (November 2024), for the container and
# the lossless header; RFC 6386 section 9.1, https://www.rfc-editor.org/rfc/rfc6386 (November 2011),
# for the lossy one.
_RIFF = struct.Struct("<4xI4x4sI")  # length after its first 8 bytes; first chunk's type and length
_LOSSY = struct.Struct("<B2x3sHH")  # frame tag, start code, width and height with their scales
_LOSSLESS = struct.Struct("<BI")  # signature; width, height, alpha and version in 32 bits
_14_BITS = 0x3FFF


def _read_webp(data: bytes) -> _Header:
    riff_bytes, kind, chunk_bytes = _RIFF.unpack_from(data)
    size = _WEBP_SIZES[kind](data, _RIFF.size)
    if not all(size) or _RIFF.size + chunk_bytes > 8 + riff_bytes:
        raise ValueError("bad header")
    return size, 8 + riff_bytes


def _lossy_size(data: bytes, at: int) -> tuple[int, int]:
    tag, start, width, height = _LOSSY.unpack_from(data, at)
    if tag & 1 or start != b"\x9d\x01\x2a":  # 1: no key frame
        raise ValueError("bad frame")
    return width & _14_BITS, height & _14_BITS


def _lossless_size(data: bytes, at: int) -> tuple[int, int]:
    signature, bits = _LOSSLESS.unpack_from(data, at)
    if signature != 0x2F or bits >> 29:  # the version must be 0
        raise ValueError("bad frame")
    return (bits & _14_BITS) + 1, (bits >> 14 & _14_BITS) + 1


def _canvas_size(data: bytes, at: int) -> tuple[int, int]:
    size = data[at + 4 : at + 10]  # after flags and 3 reserved bytes: 3 of width, 3 of height
    if len(size) < 6:
        raise EOFError("no canvas")
    return int.from_bytes(size[:3], "little") + 1, int.from_bytes(size[3:], "little") + 1


_WEBP_SIZES = {b"VP8 ": _lossy_size, b"VP8L": _lossless_size, b"VP8X": _canvas_size}
_HEADER_READERS: dict[ImageType, Callable[[bytes], _Header]] = {
    ImageType.JPEG: _read_jpeg,
    ImageType.PNG: _read_png,
    ImageType.WEBP: _read_webp,
}


def is_whole(image_type: ImageType, body: bytes) -> bool:
    """Read a body up to the image's own end, and say whether it is all there; never raises.

    A JPEG is decoded, at an eighth of its size, and the checksums of a PNG are compared. A WebP
    begins with its length, which `has_end` compares. What follows the end is not looked at. It
    takes up to a second: call it in a thread. A JPEG of more than MAX_DECODED_PIXELS counts as
    not whole.
    """
    try:
        if image_type is ImageType.JPEG:
            return _decode_jpeg(body)
        return image_type is ImageType.WEBP or _check_png(body)
    except Exception:  # noqa: BLE001 - no body may end a run, whatever Pillow makes of it
        return False


def _decode_jpeg(body: bytes) -> bool:
    image, _ = _open_jpeg(body)
    if image.width * image.height > MAX_DECODED_PIXELS:
        return False
    image.fp = io.BytesIO(body)
    image.draft("L", (1, 1))
    image.load()
    return True


def _check_png(body: bytes) -> bool:
    from PIL.PngImagePlugin import ChunkStream  # noqa: PLC0415 - see TYPE_CHECKING

    file = _File(body)
    file.seek(_PNG_SIGNATURE_BYTES)
    return b"IDAT" in ChunkStream(file).verify()
