"""Thumbs: small JPEG files, whatever the format of the original."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageOps

from collector.simulator.stock import Split

# Folder on the image host and size in pixels, as the real site's: two crops, and one that
# keeps the ratio within a square.
CROPS = {"small": (300, 200), "lg": (432, 243)}
_ORIGINAL_RATIO = (300, 300)
_QUALITY = 80


def thumb(split: Split, folder: str) -> bytes:
    """Return the thumb of a picture; decodes the original, so call it in a worker thread.

    Raises OSError if the original cannot be decoded.
    """
    size = CROPS.get(folder)
    with Image.open(BytesIO(split.head + split.tail)) as original:
        original.draft("RGB", size or _ORIGINAL_RATIO)
        picture = original.convert("RGB")
    if size is None:
        picture.thumbnail(_ORIGINAL_RATIO)
    else:
        picture = ImageOps.fit(picture, size)
    file = BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
