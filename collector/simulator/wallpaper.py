"""One wallpaper: everything that a listing and `/w/{id}` say about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from collector.simulator.population import Tag, Uploader
from collector.simulator.stock import EXTENSIONS, Picture


@dataclass(frozen=True, slots=True)
class Wallpaper:
    """An item of the catalogue. `created_at` is UTC without a zone, `file_size` is in bytes."""

    index: int
    id: str
    views: int
    favorites: int
    source: str
    purity: str
    category: str
    dimension_x: int
    dimension_y: int
    file_size: int
    file_type: str
    created_at: datetime
    colors: tuple[str, ...]
    tags: tuple[Tag, ...]
    uploader: Uploader
    picture: Picture

    @property
    def resolution(self) -> str:
        """`WIDTHxHEIGHT`."""
        return f"{self.dimension_x}x{self.dimension_y}"

    @property
    def ratio(self) -> str:
        """Width by height with two decimals, trailing zeros dropped: `1.78`, `1.6`, `2`."""
        return f"{self.dimension_x / self.dimension_y:.2f}".rstrip("0").rstrip(".")

    @property
    def extension(self) -> str:
        """`jpg`, `png` or `webp`."""
        return EXTENSIONS[self.file_type]

    @property
    def image_path(self) -> str:
        """The path of the full picture on the image host."""
        return f"/full/{self.id[:2]}/wallhaven-{self.id}.{self.extension}"
