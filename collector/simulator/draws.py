"""An item's random numbers and its id, computed from a seed on demand."""

from __future__ import annotations

import random
import string
import struct
from hashlib import blake2b
from typing import NamedTuple

_LAYOUT = struct.Struct("<10I24s")
_RANGE = 2**32

_ALPHABET = string.digits + string.ascii_lowercase
_ID_LENGTH = 6
_HALF: int = len(_ALPHABET) ** (_ID_LENGTH // 2)
_ROUNDS = 4

CAPACITY = _HALF**2  # the number of different ids


def generator_of(seed: int | str | None) -> random.Random:
    """Return a generator for noise, images and random orders. Equal seeds give equal numbers."""
    return random.Random(seed)  # noqa: S311 - nothing here is secret


class Draws(NamedTuple):
    """An item's random numbers: uniform in the open interval (0, 1), and bytes for tags."""

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


def draws_of(seed: int, index: int) -> Draws:
    """Return the draws of item `index`: the same on every machine."""
    digest = blake2b(b"%d/%d" % (seed, index), digest_size=_LAYOUT.size).digest()
    *numbers, tags = _LAYOUT.unpack(digest)
    return Draws._make([index, *((number + 0.5) / _RANGE for number in numbers), tags])


class Identifiers:
    """A seeded bijection between 0 <= index < CAPACITY and ids: a Feistel network of four rounds.

    Ids have no visible order, and finding an item by its id needs no table.
    """

    def __init__(self, seed: int) -> None:
        self._keys = [
            int.from_bytes(blake2b(b"%d/%d" % (seed, turn), digest_size=8).digest(), "big") | 1
            for turn in range(_ROUNDS)
        ]

    def id_of(self, index: int) -> str:
        high, low = divmod(index, _HALF)
        for key in self._keys:
            high, low = low, (high + _mix(low, key)) % _HALF
        number, letters = high * _HALF + low, ""
        for _ in range(_ID_LENGTH):
            number, digit = divmod(number, len(_ALPHABET))
            letters = _ALPHABET[digit] + letters
        return letters

    def index_of(self, wallhaven_id: str) -> int | None:
        """Return the index of an id, None if the text is not an id."""
        if len(wallhaven_id) != _ID_LENGTH or not set(wallhaven_id) <= set(_ALPHABET):
            return None
        high, low = divmod(int(wallhaven_id, len(_ALPHABET)), _HALF)
        for key in reversed(self._keys):
            high, low = (low - _mix(high, key)) % _HALF, high
        return high * _HALF + low


def _mix(half: int, key: int) -> int:
    """Return the middle of a 64-bit product: well-spread bits of both factors."""
    return (((half + 1) * key) & 0xFFFF_FFFF_FFFF_FFFF) >> 24
