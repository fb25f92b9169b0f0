"""The pictures that the simulator draws: a scene in grey, coloured by a palette.

A scene is drawn in one byte per pixel and coloured through a 256-entry ramp, which keeps a
4K picture at about a tenth of a second of CPU and its file small. Composition follows from
artwork and resolution alone, so a second start draws the same pictures.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw

from collector.simulator.draws import generator_of
from collector.simulator.padding import JPEG

Scene = Callable[[random.Random, int, int], Image.Image]

# Drawn at twice the size and reduced: the cheapest smooth edge that Pillow offers.
_SUPERSAMPLING = 2
# Above the largest base file seen for any artwork, per pixel and fixed (a test draws them all):
# file sizes are promised in metadata before the picture is drawn.
_JPEG_BOUND_BYTES_PER_PIXEL = 0.06
_PNG_BOUND_BYTES_PER_PIXEL = 0.05
_BOUND_FIXED_BYTES = 8_192
_JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class Shape:
    """Width and height in pixels, and the MIME type of the file."""

    width: int
    height: int
    file_type: str


@dataclass(frozen=True, slots=True)
class Artwork:
    """A scene in five colours, dark to light, out of those that Wallhaven's listings use."""

    name: str
    scene: Scene
    colors: tuple[str, str, str, str, str]


def draw(artwork: Artwork, shape: Shape) -> bytes:
    """Return a complete JPEG or PNG file of exactly `shape`, at most `bound_bytes(shape)` long.

    Takes up to about 0.2 s of CPU at 3840x2160: call it in a worker thread.
    """
    rng = generator_of(f"{artwork.name}/{shape.width}x{shape.height}")
    size = (shape.width * _SUPERSAMPLING, shape.height * _SUPERSAMPLING)
    picture = artwork.scene(rng, *size).reduce(_SUPERSAMPLING)
    picture.putpalette(_ramp(artwork.colors))
    file = BytesIO()
    if shape.file_type == JPEG:
        picture.convert("RGB").save(file, "JPEG", quality=_JPEG_QUALITY)
    else:
        picture.save(file, "PNG", compress_level=6)
    return file.getvalue()


def bound_bytes(shape: Shape) -> int:
    """Return what no drawn file of this shape exceeds, known without drawing it."""
    rate = _JPEG_BOUND_BYTES_PER_PIXEL if shape.file_type == JPEG else _PNG_BOUND_BYTES_PER_PIXEL
    return _BOUND_FIXED_BYTES + int(shape.width * shape.height * rate)


def _ramp(colors: tuple[str, ...]) -> list[int]:
    stops = [tuple(bytes.fromhex(color[1:])) for color in colors]
    ramp: list[int] = []
    for tone in range(256):
        place = tone / 255 * (len(stops) - 1)
        below = min(int(place), len(stops) - 2)
        mix = place - below
        ramp += [
            round(low + (high - low) * mix)
            for low, high in zip(stops[below], stops[below + 1], strict=True)
        ]
    return ramp


def _sky(width: int, height: int, top: int, bottom: int) -> Image.Image:
    tones = [top + (bottom - top) * tone // 255 for tone in range(256)]
    column = Image.linear_gradient("L").point(tones).resize((1, height), Image.Resampling.BILINEAR)
    return column.resize((width, height), Image.Resampling.NEAREST)


def _disc(pen: ImageDraw.ImageDraw, center: tuple[float, float], radius: float, tone: int) -> None:
    x, y = center
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=tone)


def _ridge(
    rng: random.Random, width: int, level: float, swing: float, waves: float
) -> list[tuple[float, float]]:
    """Return a soft line across the picture: a sum of four sines around `level`."""
    parts = [
        (
            swing * rng.uniform(0.4, 1.0) / (part + 1),
            rng.uniform(0.7, 1.3) * waves * (part + 1) * math.tau / width,
            rng.uniform(0, math.tau),
        )
        for part in range(4)
    ]
    step = max(width // 240, 1)
    return [
        (x, level + sum(size * math.sin(rate * x + shift) for size, rate, shift in parts))
        for x in range(0, width + step, step)
    ]


def hills(rng: random.Random, width: int, height: int) -> Image.Image:
    """A sun over hills that darken towards the viewer."""
    picture = _sky(width, height, 120, 225)
    pen = ImageDraw.Draw(picture)
    sun = (width * rng.uniform(0.25, 0.75), height * rng.uniform(0.28, 0.42))
    radius = min(width, height) * rng.uniform(0.09, 0.14)
    _disc(pen, sun, radius * 1.5, 224)
    _disc(pen, sun, radius, 255)
    for layer, tone in enumerate((140, 108, 78, 50, 24, 4)):
        level = height * (0.52 + 0.085 * layer)
        line = _ridge(rng, width, level, height * 0.05, 1.1 + 0.2 * layer)
        pen.polygon([*line, (width, height), (0, height)], fill=tone)
    return picture


def waves(rng: random.Random, width: int, height: int) -> Image.Image:
    """Broad ribbons from edge to edge, light above and dark below."""
    picture = _sky(width, height, 255, 215)
    pen = ImageDraw.Draw(picture)
    ribbons = 11
    for ribbon in range(ribbons):
        level = height * (0.16 + 0.8 * ribbon / ribbons)
        line = _ridge(rng, width, level, height * 0.09, 0.7)
        tone = 235 - 235 * ribbon // (ribbons - 1)
        pen.polygon([*line, (width, height), (0, height)], fill=tone)
    return picture


def terraces(rng: random.Random, width: int, height: int) -> Image.Image:
    """Paper-cut contour levels of a smooth random landscape."""
    columns, rows = (8, 5) if width >= height else (5, 8)
    relief = Image.new("L", (columns, rows))
    relief.putdata([rng.randrange(256) for _ in range(columns * rows)])
    smooth = relief.resize((width, height), Image.Resampling.BICUBIC)
    return smooth.point([tone // 22 * 22 for tone in range(256)])


def planet(rng: random.Random, width: int, height: int) -> Image.Image:
    """A banded planet with its moon in a starry night."""
    picture = _sky(width, height, 0, 70)
    pen = ImageDraw.Draw(picture)
    unit = min(width, height)
    for _ in range(160):
        star = (rng.random() * width, rng.random() * height)
        _disc(pen, star, unit * rng.choice((0.0008, 0.0012, 0.002)), rng.randint(140, 255))
    radius = unit * rng.uniform(0.26, 0.34)
    center = (width * rng.uniform(0.35, 0.65), height * rng.uniform(0.45, 0.6))
    picture.paste(*_globe(rng, center, radius))
    angle = rng.uniform(-2.6, -0.5)
    moon = (
        center[0] + 1.45 * radius * math.cos(angle),
        center[1] + 1.25 * radius * math.sin(angle),
    )
    _disc(pen, moon, radius * 0.13, 235)
    return picture


def _globe(
    rng: random.Random, center: tuple[float, float], radius: float
) -> tuple[Image.Image, tuple[int, int], Image.Image]:
    side = int(2 * radius)
    bands = Image.new("L", (side, side), 215)
    pen = ImageDraw.Draw(bands)
    for band, tone in enumerate((235, 190, 205, 160, 180, 130, 105)):
        line = _ridge(rng, side, side * (0.08 + 0.13 * band), side * 0.02, 0.8)
        pen.polygon([*line, (side, side), (0, side)], fill=tone)
    mask = Image.new("L", (side, side), 0)
    ImageDraw.Draw(mask).ellipse((0, 0, side - 1, side - 1), fill=255)
    return bands, (int(center[0] - radius), int(center[1] - radius)), mask


def orbs(rng: random.Random, width: int, height: int) -> Image.Image:
    """Discs that float from dark depths to light, the small ones on top."""
    picture = _sky(width, height, 40, 0)
    pen = ImageDraw.Draw(picture)
    unit = math.sqrt(width * height)
    count = 34
    for disc in range(count):
        depth = disc / count
        center = (rng.random() * width, rng.random() * height)
        radius = unit * (0.02 + 0.2 * (1 - depth) ** 2) * rng.uniform(0.7, 1.2)
        tone = int(45 + 170 * depth)
        _disc(pen, center, radius, tone)
        _disc(pen, center, radius * 0.72, min(tone + 30, 255))
    return picture


ARTWORKS = (
    Artwork("dusk", hills, ("#424153", "#663399", "#993399", "#ea4c88", "#ffcc33")),
    Artwork("forest", hills, ("#000000", "#336600", "#669900", "#77cc33", "#e7d8b1")),
    Artwork("sea", waves, ("#333399", "#0066cc", "#0099cc", "#66cccc", "#ffffff")),
    Artwork("dune", waves, ("#663300", "#996633", "#ff6600", "#ffcc33", "#e7d8b1")),
    Artwork("canyon", terraces, ("#660000", "#990000", "#cc6633", "#ff9900", "#e7d8b1")),
    Artwork("atoll", terraces, ("#424153", "#333399", "#0099cc", "#66cccc", "#abbcda")),
    Artwork("crystal", planet, ("#000000", "#424153", "#663399", "#ea4c88", "#fdadc7")),
    Artwork("ember", orbs, ("#000000", "#660000", "#cc3333", "#ff6600", "#ffcc33")),
)
