"""Where images come from: drawn on demand, or the files of a folder."""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

from PIL import Image

from collector.simulator.artwork import ARTWORKS, Shape, bound_bytes, draw
from collector.simulator.draws import Draws
from collector.simulator.padding import JPEG, LEAD_MIN_BYTES, PNG, WEBP, Split, can_pad, split_file

_log = logging.getLogger(__name__)

# Resolution and how many of 1,000 items have it. Together they give the shares measured on
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
# A size below what its image needs is folded into this fraction of itself above that need,
# so that such files do not all have one size.
_FOLD = 0.25
_NORMAL = NormalDist()

# Pillow's names. MPO is a JPEG with further images after the first one.
_FORMATS = {"JPEG": JPEG, "MPO": JPEG, "PNG": PNG, "WEBP": WEBP}


class BaseImage(NamedTuple):
    """Which base image an item has: the number of its shape and of its artwork."""

    shape: int
    artwork: int


class DrawnStock:
    """Images drawn on first use and kept: at most 240 base files, about 23 MB in all."""

    def __init__(self) -> None:
        self.shapes = [Shape(*size, kind) for size in _RESOLUTIONS for kind in (JPEG, PNG)]
        self.drawn: dict[BaseImage, Split] = {}

    def shape_number(self, draws: Draws) -> int:
        """Return the number of a shape drawn by the population's shares."""
        step = bisect_right(_RESOLUTION_STEPS, draws.resolution * _RESOLUTION_STEPS[-1])
        return 2 * step + (draws.file_type < _PNG_SHARE)

    def file_bytes(self, draws: Draws) -> int:
        """Return a lognormal size, never below what the drawn image needs, without drawing it."""
        shape = self.shapes[self.shape_number(draws)]
        median, sigma = _FILE_BYTES[shape.file_type]
        size = median * math.exp(sigma * _NORMAL.inv_cdf(draws.file_size))
        need = max(bound_bytes(shape) + LEAD_MIN_BYTES, _SMALLEST_FILE_BYTES)
        if size < need:
            size = need + size * _FOLD
        return int(min(size, _LARGEST_FILE_BYTES))

    def load(self, image: BaseImage) -> Split:
        """Return the base file, drawing it the first time: call it in a worker thread."""
        if image not in self.drawn:
            shape = self.shapes[image.shape]
            content = draw(ARTWORKS[image.artwork], shape)
            self.drawn[image] = split_file(content, shape.file_type)
        return self.drawn[image]


class EmptyFolderError(ValueError):
    """No file of `folder` is a readable JPEG, PNG or WebP image."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder}: no readable JPEG, PNG or WebP image in this folder")
        self.folder = folder


class FolderStock:
    """The JPEG, PNG and WebP files of a folder in name order, each with a shape of its own.

    With more items than files, the files repeat, and JPEG and PNG are padded with their item's
    id so that no two items have equal bytes; repeated WebP files stay as they are.
    Reads the header of every file once; call it in a worker thread. Raises EmptyFolderError.
    """

    def __init__(self, folder: Path, wallpapers: int) -> None:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        shapes = {path: shape for path in paths if (shape := _inspect(path)) is not None}
        if not shapes:
            raise EmptyFolderError(folder)
        self._paths, self.shapes = list(shapes), list(shapes.values())
        self._sizes = [path.stat().st_size for path in self._paths]
        self._repeats = wallpapers > len(self._paths)
        # Always empty: files are read each time, so that memory stays bounded.
        self.drawn: dict[BaseImage, Split] = {}

    def shape_number(self, draws: Draws) -> int:
        return draws.item % len(self._paths)

    def file_bytes(self, draws: Draws) -> int:
        """Return the file's size in bytes, with the padding it will get."""
        number = self.shape_number(draws)
        padded = self._repeats and can_pad(self.shapes[number].file_type)
        return self._sizes[number] + (LEAD_MIN_BYTES if padded else 0)

    def load(self, image: BaseImage) -> Split:
        """Read the file: call it in a worker thread."""
        return split_file(self._paths[image.shape].read_bytes(), self.shapes[image.shape].file_type)


def _inspect(path: Path) -> Shape | None:
    """Return what the file's header says, None if it is no image that can be served."""
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            return Shape(*image.size, _FORMATS[image.format or ""])
    except (OSError, KeyError, Image.DecompressionBombError) as error:
        _log.warning("skipped %s: not a JPEG, PNG or WebP image: %s", path, error)
        return None


Stock = DrawnStock | FolderStock
