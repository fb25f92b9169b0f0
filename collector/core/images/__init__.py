"""Images as they stream by: what they are, how large, and whether they are whole.

`ImageScanner` is fed the chunks of a body and says in the end what the body was. Each format has
one file with its walk: a generator that asks for bytes and never sees a chunk. The scanner alone
knows of chunks, so that no walk can depend on where one ends.
"""

from __future__ import annotations

from collector.core.images.facts import (
    ImageFacts,
    ImageType,
    image_type_of_extension,
    image_type_of_file_type,
)
from collector.core.images.scanner import ImageScanner

__all__ = [
    "ImageFacts",
    "ImageScanner",
    "ImageType",
    "image_type_of_extension",
    "image_type_of_file_type",
]
