"""The stock of drawn pictures: the resolutions, formats and sizes of the real population."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from statistics import NormalDist

from collector.simulator import anatomy
from collector.simulator.artwork import ARTWORKS, bound_bytes, draw
from collector.simulator.draws import Draws
from collector.simulator.padding import LEAD_MIN_BYTES
from collector.simulator.stock import JPEG, PNG, Picture, Shape, Split

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
# A size below what its picture needs is folded into this fraction of itself above that need,
# so that such files do not all have one size.
_FOLD = 0.25

_NORMAL = NormalDist()


class DrawnStock:
    """Pictures drawn on first use and kept: at most 240 base files, about 17 MB in all."""

    def __init__(self) -> None:
        self.shapes = [
            Shape(width, height, file_type)
            for width, height in _RESOLUTIONS
            for file_type in (JPEG, PNG)
        ]
        self.at_hand: dict[Picture, Split] = {}

    def shape_number(self, draws: Draws) -> int:
        """Return the number of a shape drawn by the population's shares."""
        step = bisect_right(_RESOLUTION_STEPS, draws.resolution * _RESOLUTION_STEPS[-1])
        return 2 * step + (draws.file_type < _PNG_SHARE)

    def file_bytes(self, draws: Draws) -> int:
        """Return a lognormal size, never below what the drawn picture needs."""
        shape = self.shapes[self.shape_number(draws)]
        median, sigma = _FILE_BYTES[shape.file_type]
        size = median * math.exp(sigma * _NORMAL.inv_cdf(draws.file_size))
        need = max(bound_bytes(shape) + LEAD_MIN_BYTES, _SMALLEST_FILE_BYTES)
        if size < need:
            size = need + size * _FOLD
        return int(min(size, _LARGEST_FILE_BYTES))

    def load(self, picture: Picture) -> Split:
        """Return the base file, drawing it the first time."""
        split = self.at_hand.get(picture)
        if split is None:
            shape = self.shapes[picture.shape]
            split = anatomy.split(draw(ARTWORKS[picture.artwork], shape), shape.file_type)
            self.at_hand[picture] = split
        return split
