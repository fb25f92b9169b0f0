"""The image types that may be stored, and the facts that a scan establishes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a body is, as far as it has been seen.

    type: None while the signature is unknown or is that of no type we store.
    width, height: pixels; None until the header with them was read, and where it leaves them open.
    complete: the format's own end was reached by a walk that found no rule broken on the way.
    trailing_bytes: bytes after that end; 0 while there is none.
    looks_like_html: the first visible character opens HTML, XML or JSON text; never with a type.
    """

    type: ImageType | None
    width: int | None
    height: int | None
    complete: bool
    trailing_bytes: int
    looks_like_html: bool


def image_type_of_file_type(file_type: str) -> ImageType | None:
    """The type of a media type such as `image/jpeg`, in any case; None if we store no such."""
    try:
        return ImageType(file_type.strip().lower())
    except ValueError:
        return None


def image_type_of_extension(text: str) -> ImageType | None:
    """The type of a file name's end such as `jpg` or `.JPEG`; None if we store no such."""
    return _TYPES.get(text.removeprefix(".").lower())
