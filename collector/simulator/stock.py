"""What a stock of pictures is: numbered shapes, and base files split where padding may go in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from collector.simulator.draws import Draws

JPEG = "image/jpeg"
PNG = "image/png"
WEBP = "image/webp"
EXTENSIONS = {JPEG: "jpg", PNG: "png", WEBP: "webp"}


@dataclass(frozen=True, slots=True)
class Shape:
    """Width and height in pixels, and the MIME type of the file."""

    width: int
    height: int
    file_type: str


class Split(NamedTuple):
    """A picture file in two halves; segments put between them leave it a valid file."""

    head: bytes
    tail: bytes


class Picture(NamedTuple):
    """Which base picture an item has: the number of its shape and of its artwork."""

    shape: int
    artwork: int


class Stock(Protocol):
    """Where pictures come from: drawn, or a folder of real files."""

    @property
    def shapes(self) -> Sequence[Shape]:
        """All shapes that occur; an item refers to one by its number."""

    @property
    def at_hand(self) -> Mapping[Picture, Split]:
        """The base files that cost no work."""

    def shape_number(self, draws: Draws) -> int:
        """Return the number of an item's shape."""

    def file_bytes(self, draws: Draws) -> int:
        """Return the size of an item's file in bytes, without touching its picture."""

    def load(self, picture: Picture) -> Split:
        """Return the base file; reads or draws it, so call it in a worker thread."""
