"""Image types that may be stored, their headers, and a check that an image is complete.

Pillow reads the headers of JPEG and PNG. For a WebP it would need the whole body and room for the
pixels, so its first thirty bytes are parsed here. Only `is_whole` decodes anything.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Pillow takes 30 ms to import, and few commands read an image.
    from PIL.JpegImagePlugin import JpegImageFile

# Nearly every image has its headers in its first 64 KiB (without its metadata, every JPEG does),
# and its end marker in its last 64 KiB.
SHORT_LOOK_BYTES = 64 * 1024
# Four reads for each segment of a JPEG; real files have some hundred segments.
MAX_HEADER_READS = 5_000
# Three for each chunk of a PNG; 32 MiB have 8,200 chunks if the encoder writes 4 KiB at a time.
MAX_CHUNK_READS = 30_000
# 8K is 33 million pixels; libjpeg keeps six bytes of each while it decodes a progressive JPEG:
# 200 MB.
MAX_DECODED_PIXELS = 2**25


class ImageType(StrEnum):
    """An image type that may be stored; the value is its media type."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"

    @property
    def extension(self) -> str:
        """The extension of an object key, without the dot."""
        return _EXTENSIONS[self]


_EXTENSIONS = {ImageType.JPEG: "jpg", ImageType.PNG: "png", ImageType.WEBP: "webp"}
_TYPES = {extension: type_ for type_, extension in _EXTENSIONS.items()} | {"jpeg": ImageType.JPEG}


def image_type_of_file_type(file_type: str) -> ImageType | None:
    """Return the type for a media type such as `image/JPEG`; None if it is not stored."""
    try:
        return ImageType(file_type.strip().lower())
    except ValueError:
        return None


def image_type_of_extension(text: str) -> ImageType | None:
    """Return the type for a file extension such as `jpg` or `.JPEG`; None if it is not stored."""
    return _TYPES.get(text.removeprefix(".").lower())


_SIGNATURES = {
    ImageType.JPEG: re.compile(rb"\xff\xd8\xff"),
    ImageType.PNG: re.compile(rb"\x89PNG\r\n\x1a\n"),
    ImageType.WEBP: re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}
# The end-of-image marker; the IEND chunk, which has no body. A WebP has none: it begins with its
# length.
END_MARKERS = {
    ImageType.JPEG: b"\xff\xd9",
    ImageType.PNG: b"\0\0\0\0IEND\xae\x42\x60\x82",
    ImageType.WEBP: b"",
}
# White space, UTF-8's byte order mark, and the first character of HTML, XML or JSON.
_BLANKS = b" \t\n\r\v\f\xef\xbb\xbf"
_TEXT_OPENINGS = (b"<", b"{", b"[")


@dataclass(frozen=True, slots=True)
class ImageHead:
    """What the first bytes of a body say about it.

    type: None if the signature is not of a type that is stored.
    size: width and height in pixels; None without a valid header.
    min_bytes: the image is longer than this; a WebP may be just as long.
    looks_like_text: it begins like HTML, XML or JSON; never together with a type.
    """

    type: ImageType | None = None
    size: tuple[int, int] | None = None
    min_bytes: int = 0
    looks_like_text: bool = False


def read_head(data: bytes) -> ImageHead:
    """Read the headers from the first SHORT_LOOK_BYTES of a body, or fewer; never raises."""
    for image_type, signature in _SIGNATURES.items():
        if signature.match(data):
            try:
                size, min_bytes = _HEADER_READERS[image_type](data)
            except Exception:  # noqa: BLE001 - no body may end a run, whatever Pillow raises
                return ImageHead(image_type)
            return ImageHead(image_type, size, min_bytes)
    visible = data.lstrip(_BLANKS)
    is_blank = not visible and len(data) == SHORT_LOOK_BYTES
    return ImageHead(looks_like_text=is_blank or visible.startswith(_TEXT_OPENINGS))


_Header = tuple[tuple[int, int], int]


class _File(io.BytesIO):
    """Raises OSError after too many reads, so that a million empty segments cost nothing."""

    _reads_left = MAX_CHUNK_READS

    def read(self, size: int | None = -1) -> bytes:
        self._reads_left -= 1
        if self._reads_left < 0:
            raise OSError("too many segments")
        return super().read(size)


class _FileWithoutMetadata(_File):
    """Hides the metadata of a JPEG from Pillow.

    Pillow parses EXIF, colour profiles and the like on its way, and may warn about them. These
    begin with the letter of a name, which no header does; here they read as zeros.
    """

    _reads_left = MAX_HEADER_READS

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        return bytes(len(data)) if len(data) > 2 and data[:1].isalpha() else data


def _open_jpeg(data: bytes) -> tuple[JpegImageFile, int]:
    """Read the headers; return the image and the position of its first scan."""
    from PIL.JpegImagePlugin import JpegImageFile  # noqa: PLC0415 - see TYPE_CHECKING

    # Image.open would look for more images in the file, and warn about many pixels.
    image = JpegImageFile(file := _FileWithoutMetadata(data))
    if not image.tile:
        raise EOFError("no scan")
    return image, file.tell()


def _read_jpeg(data: bytes) -> _Header:
    image, scan_at = _open_jpeg(data)
    return image.size, scan_at


_PNG_SIGNATURE_BYTES = 8
# Includes IHDR, which is the first chunk.
_PNG_HEADER_BYTES = 33
# Pillow reads up to the first chunk of pixels.
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
    """Return whether an image is complete; never raises, and takes up to a second.

    A JPEG is decoded, at an eighth of its size; one of more than MAX_DECODED_PIXELS counts as
    incomplete. The checksums of a PNG are compared. A WebP begins with its length, which
    `ImageReader.has_end` compares. Bytes after the image's end are not read.
    """
    try:
        if image_type is ImageType.JPEG:
            return _decode_jpeg(body)
        return image_type is ImageType.WEBP or _check_png(body)
    except Exception:  # noqa: BLE001 - no body may end a run, whatever Pillow raises
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
