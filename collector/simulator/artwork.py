"""The images that the simulator draws: a landscape in grey, coloured by a palette.

It is drawn in one byte per pixel and coloured through a 256-entry ramp, which keeps a
4K image at about a tenth of a second of CPU and its file small. It follows from
artwork and resolution alone, so a second start draws the same images.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageColor, ImageOps

from collector.simulator.draws import generator_of
from collector.simulator.padding import JPEG

# Drawn at twice the size and reduced: the cheapest smooth edge that Pillow offers.
_SUPERSAMPLING = 2
# Above the largest base file seen for any artwork, per pixel and fixed (a test draws them all):
# file sizes are promised in metadata before the image is drawn.
_JPEG_BOUND_BYTES_PER_PIXEL = 0.06
_PNG_BOUND_BYTES_PER_PIXEL = 0.05
_BOUND_FIXED_BYTES = 8_192
_JPEG_QUALITY = 80
_TERRACES = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """Width and height in pixels, and the MIME type of the file."""

    width: int
    height: int
    file_type: str


@dataclass(frozen=True, slots=True)
class Artwork:
    """A landscape in five colours, dark to light, out of those that Wallhaven's listings use."""

    name: str
    colors: tuple[str, str, str, str, str]


def draw(artwork: Artwork, shape: Shape) -> bytes:
    """Return a complete JPEG or PNG file of exactly `shape`, at most `bound_bytes(shape)` long.

    Takes up to about 0.2 s of CPU at 3840x2160: call it in a worker thread.
    """
    rng = generator_of(f"{artwork.name}/{shape.width}x{shape.height}")
    size = (shape.width * _SUPERSAMPLING, shape.height * _SUPERSAMPLING)
    image = _terraces(rng, *size).reduce(_SUPERSAMPLING)
    image.putpalette(_ramp(artwork.colors))
    file = BytesIO()
    if shape.file_type == JPEG:
        image.convert("RGB").save(file, "JPEG", quality=_JPEG_QUALITY)
    else:
        image.save(file, "PNG", compress_level=6)
    return file.getvalue()


def bound_bytes(shape: Shape) -> int:
    """Return what no drawn file of this shape exceeds, known without drawing it."""
    rate = _JPEG_BOUND_BYTES_PER_PIXEL if shape.file_type == JPEG else _PNG_BOUND_BYTES_PER_PIXEL
    return _BOUND_FIXED_BYTES + int(shape.width * shape.height * rate)


def _ramp(colors: tuple[str, ...]) -> bytes:
    """Return a palette of 256 colours that runs through the given ones."""
    stops = Image.new("RGB", (len(colors), 1))
    stops.putdata([ImageColor.getrgb(color) for color in colors])
    between = (0.5, 0, len(colors) - 0.5, 1)  # from the middle of the first to that of the last
    return stops.resize((256, 1), Image.Resampling.BILINEAR, between).tobytes()


def _terraces(rng: random.Random, width: int, height: int) -> Image.Image:
    """Draw the contour levels of a smooth random landscape, like cut paper."""
    columns, rows = (8, 5) if width >= height else (5, 8)
    relief = Image.new("L", (columns, rows))
    relief.putdata([rng.randrange(256) for _ in range(columns * rows)])
    smooth = ImageOps.autocontrast(relief).resize((width, height), Image.Resampling.BICUBIC)
    return smooth.point([tone * _TERRACES // 256 * 255 // (_TERRACES - 1) for tone in range(256)])


ARTWORKS = (
    Artwork("dusk", ("#424153", "#663399", "#993399", "#ea4c88", "#ffcc33")),
    Artwork("forest", ("#000000", "#336600", "#669900", "#77cc33", "#e7d8b1")),
    Artwork("sea", ("#333399", "#0066cc", "#0099cc", "#66cccc", "#ffffff")),
    Artwork("dune", ("#663300", "#996633", "#ff6600", "#ffcc33", "#e7d8b1")),
    Artwork("canyon", ("#660000", "#990000", "#cc6633", "#ff9900", "#e7d8b1")),
    Artwork("atoll", ("#424153", "#333399", "#0099cc", "#66cccc", "#abbcda")),
    Artwork("crystal", ("#000000", "#424153", "#663399", "#ea4c88", "#fdadc7")),
    Artwork("ember", ("#000000", "#660000", "#cc3333", "#ff6600", "#ffcc33")),
)
