"""Random numbers that depend on (seed, index) alone, so that any item can be computed on demand."""

from __future__ import annotations

import random
import struct
from hashlib import blake2b
from typing import NamedTuple

_LAYOUT = struct.Struct("<10I24s")
_RANGE = 2**32


class Draws(NamedTuple):
    """What an item drew: uniform numbers in the open interval (0, 1), and bytes for tags."""

    item: int
    file_type: float
    resolution: float
    file_size: float
    artwork: float
    category: float
    purity: float
    views: float
    favorites: float
    uploader: float
    age: float
    tags: bytes


def generator_of(seed: int | str | None) -> random.Random:
    """Return a generator for noise, pictures and random orders: equal seeds, equal numbers."""
    return random.Random(seed)  # noqa: S311 - nothing secret is made with it


def draws_of(seed: int, index: int) -> Draws:
    """Return the draws of item `index`; equal arguments give equal draws on every machine."""
    digest = blake2b(b"%d/%d" % (seed, index), digest_size=_LAYOUT.size).digest()
    *numbers, tags = _LAYOUT.unpack(digest)
    return Draws._make([index, *((number + 0.5) / _RANGE for number in numbers), tags])
