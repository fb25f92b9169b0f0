"""Base images: landscapes drawn on demand, or the files of a folder.

A landscape is drawn in one byte per pixel and coloured through a ramp of 256 entries: a 4K image
takes about a tenth of a second of CPU, and its file stays small. It depends on artwork and
resolution only, so a second start draws the same images.
"""

from __future__ import annotations

import logging
import math
import random
from bisect import bisect_right
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

from PIL import Image, ImageColor, ImageOps

from collector.simulator.draws import Draws, generator_of
from collector.simulator.padding import JPEG, LEAD_MIN_BYTES, PNG, WEBP, Split, can_pad, split_file

_log = logging.getLogger(__name__)

# How many of 1,000 items have each resolution. Together they give the shares measured on
# 2026-10-03: at least 1920x1080 77%, 16:9 40.6%, 16:10 13%, 1080p or 1200p 30%, 21:9 1.1%.
_RESOLUTIONS = {
    (1920, 1080): 240,
    (2560, 1440): 70,
    (3840, 2160): 90,
    (1600, 900): 6,
    (1920, 1200): 63,
    (2560, 1600): 50,
    (1280, 800): 17,
    (3440, 1440): 11,
    (3000, 2000): 80,
    (2048, 1536): 66,
    (2400, 1600): 60,
    (2160, 2160): 40,
    (1080, 1920): 100,
    (1440, 2560): 57,
    (1200, 1600): 50,
}
_RESOLUTION_STEPS = list(accumulate(_RESOLUTIONS.values()))
# type:png found 115,883 of 501,359 items on 2026-10-03.
_PNG_SHARE = 0.231

# Lognormal file sizes fitted to real API records: median in bytes and sigma.
_FILE_BYTES = {JPEG: (1_050_000, 1.05), PNG: (4_600_000, 0.55)}
_SMALLEST_FILE_BYTES = 30_000
_LARGEST_FILE_BYTES = 35_000_000
# A drawn size smaller than the image needs becomes the needed size plus this fraction of the drawn
# one, so that such files have different sizes.
_FOLD = 0.25
_NORMAL = NormalDist()

# By Pillow's names. MPO is a JPEG with further images after the first one.
_FORMATS = {"JPEG": JPEG, "MPO": JPEG, "PNG": PNG, "WEBP": WEBP}

# Images are drawn at twice the size and reduced: Pillow's cheapest smooth edge.
_SUPERSAMPLING = 2
# Above the largest base file of any artwork (a test draws them all): metadata states a file size
# before the image is drawn.
_JPEG_BOUND_BYTES_PER_PIXEL = 0.06
_PNG_BOUND_BYTES_PER_PIXEL = 0.05
_BOUND_FIXED_BYTES = 8_192
_JPEG_QUALITY = 80
_TERRACES = 8


@dataclass(frozen=True, slots=True)
class Shape:
    """Width and height in pixels, and the file's MIME type."""

    width: int
    height: int
    file_type: str


@dataclass(frozen=True, slots=True)
class Artwork:
    """A landscape in five of the colours that Wallhaven's listings use, dark to light."""

    name: str
    colors: tuple[str, str, str, str, str]


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


def draw(artwork: Artwork, shape: Shape) -> bytes:
    """Return a JPEG or PNG file of exactly this shape, at most `bound_bytes(shape)` long.

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
    """Return an upper bound for the drawn files of this shape, without drawing one."""
    rate = _JPEG_BOUND_BYTES_PER_PIXEL if shape.file_type == JPEG else _PNG_BOUND_BYTES_PER_PIXEL
    return _BOUND_FIXED_BYTES + int(shape.width * shape.height * rate)


def _ramp(colors: tuple[str, ...]) -> bytes:
    """Return a palette that runs through the given colours in 256 steps."""
    stops = Image.new("RGB", (len(colors), 1))
    stops.putdata([ImageColor.getrgb(color) for color in colors])
    between = (
        0.5,
        0,
        len(colors) - 0.5,
        1,
    )  # from the middle of the first stop to the middle of the last
    return stops.resize((256, 1), Image.Resampling.BILINEAR, between).tobytes()


def _terraces(rng: random.Random, width: int, height: int) -> Image.Image:
    """Draw the contour levels of a smooth random landscape, like cut paper."""
    columns, rows = (8, 5) if width >= height else (5, 8)
    relief = Image.new("L", (columns, rows))
    relief.putdata([rng.randrange(256) for _ in range(columns * rows)])
    smooth = ImageOps.autocontrast(relief).resize((width, height), Image.Resampling.BICUBIC)
    return smooth.point([tone * _TERRACES // 256 * 255 // (_TERRACES - 1) for tone in range(256)])


class BaseImage(NamedTuple):
    """The base image of an item, by the numbers of its shape and artwork."""

    shape: int
    artwork: int


class DrawnStock:
    """Images that are drawn on first use and kept: at most 240 files, about 23 MB in all."""

    def __init__(self) -> None:
        self.shapes = [Shape(*size, kind) for size in _RESOLUTIONS for kind in (JPEG, PNG)]
        self.drawn: dict[BaseImage, Split] = {}

    def shape_number(self, draws: Draws) -> int:
        """Return the number of the item's shape, chosen by the measured shares."""
        step = bisect_right(_RESOLUTION_STEPS, draws.resolution * _RESOLUTION_STEPS[-1])
        return 2 * step + (draws.file_type < _PNG_SHARE)

    def file_bytes(self, draws: Draws) -> int:
        """Return a lognormal size that is large enough for the image, without drawing it."""
        shape = self.shapes[self.shape_number(draws)]
        median, sigma = _FILE_BYTES[shape.file_type]
        size = median * math.exp(sigma * _NORMAL.inv_cdf(draws.file_size))
        need = max(bound_bytes(shape) + LEAD_MIN_BYTES, _SMALLEST_FILE_BYTES)
        if size < need:
            size = need + size * _FOLD
        return int(min(size, _LARGEST_FILE_BYTES))

    def load(self, image: BaseImage) -> Split:
        """Return the base file, drawn on first use: call it in a worker thread."""
        if image not in self.drawn:
            shape = self.shapes[image.shape]
            content = draw(ARTWORKS[image.artwork], shape)
            self.drawn[image] = split_file(content, shape.file_type)
        return self.drawn[image]


class EmptyFolderError(ValueError):
    """`folder` has no readable JPEG, PNG or WebP image."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder}: no readable JPEG, PNG or WebP image in this folder")
        self.folder = folder


class FolderStock:
    """The JPEG, PNG and WebP files of a folder in name order, each with its own shape.

    If there are more items than files, the files repeat. JPEG and PNG are then padded with the
    item's id, so that no two items have equal bytes; WebP files stay as they are.
    The constructor reads the header of each file: call it in a worker thread. It raises
    EmptyFolderError.
    """

    def __init__(self, folder: Path, wallpapers: int) -> None:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        shapes = {path: shape for path in paths if (shape := _inspect(path)) is not None}
        if not shapes:
            raise EmptyFolderError(folder)
        self._paths, self.shapes = list(shapes), list(shapes.values())
        self._sizes = [path.stat().st_size for path in self._paths]
        self._repeats = wallpapers > len(self._paths)
        # Always empty: files are read each time, which bounds memory.
        self.drawn: dict[BaseImage, Split] = {}

    def shape_number(self, draws: Draws) -> int:
        return draws.item % len(self._paths)

    def file_bytes(self, draws: Draws) -> int:
        """Return the size of the file with its padding."""
        number = self.shape_number(draws)
        padded = self._repeats and can_pad(self.shapes[number].file_type)
        return self._sizes[number] + (LEAD_MIN_BYTES if padded else 0)

    def load(self, image: BaseImage) -> Split:
        """Read the file: call it in a worker thread."""
        return split_file(self._paths[image.shape].read_bytes(), self.shapes[image.shape].file_type)


def _inspect(path: Path) -> Shape | None:
    """Read a file's header. Returns None if the file cannot be served as an image."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return Shape(*image.size, _FORMATS[image.format or ""])
    except (OSError, KeyError, Image.DecompressionBombError) as error:
        _log.warning("skipped %s: not a JPEG, PNG or WebP image: %s", path, error)
        return None


Stock = DrawnStock | FolderStock
