"""Records of the metadata half: what a page of a search holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from collector.core.errors import Code


@dataclass(frozen=True, slots=True)
class Wallpaper:
    """One listed wallpaper; field names are the column names of `wallpapers`.

    `url` is the image, `page_url` the page about it. `extra` is JSON text with the API fields
    that have no column, None where there are none. Optional fields are None where the API
    gave null or nothing.
    """

    wallhaven_id: str
    url: str
    page_url: str | None
    short_url: str | None
    source: str | None
    category: str | None
    purity: str | None
    dimension_x: int | None
    dimension_y: int | None
    resolution: str | None
    ratio: str | None
    file_size: int | None
    file_type: str | None
    source_created_at: datetime | None
    colors: list[str] | None
    thumb_large: str | None
    thumb_original: str | None
    thumb_small: str | None
    extra: str | None
    views: int | None
    favorites: int | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """An item that cannot become a row. `raw` is bounded ASCII JSON of what was received."""

    wallhaven_id: str | None
    code: Code
    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a search, in the order of the API: every item a row or a rejection."""

    number: int
    items: tuple[Wallpaper | Rejected, ...]
    last_page: int
    total: int
    per_page: int

    @property
    def ids(self) -> list[str]:
        """Ids of the items that can become rows, duplicates included."""
        return [item.wallhaven_id for item in self.items if isinstance(item, Wallpaper)]
