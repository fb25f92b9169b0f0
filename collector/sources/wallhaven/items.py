"""A wallpaper as listings have it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from collector.core.wallpapers import Rejected, Wallpaper
from collector.sources.wallhaven.fields import (
    Address,
    Answer,
    Colors,
    Count,
    FileBytes,
    Pixels,
    Text,
    Time,
    WallhavenId,
)
from collector.sources.wallhaven.payload import extra_json, rejected_wallpaper


class _Thumbs(Answer):
    large: Text | None = None
    original: Text | None = None
    small: Text | None = None


class Item(Answer):
    """The 18 fields of a listed item: only the id and the image's address are indispensable."""

    id: WallhavenId
    path: Address
    url: Text | None = None
    short_url: Text | None = None
    source: Text | None = None
    category: Text | None = None
    purity: Text | None = None
    dimension_x: Pixels | None = None
    dimension_y: Pixels | None = None
    resolution: Text | None = None
    ratio: Text | None = None
    file_size: FileBytes | None = None
    file_type: Text | None = None
    created_at: Time | None = None
    colors: Colors | None = None
    thumbs: _Thumbs | None = None
    views: Count | None = None
    favorites: Count | None = None


def parse_item(item: object) -> Wallpaper | Rejected:
    """Return the row of a listed item, or why there is none."""
    try:
        return wallpaper_of(Item.model_validate(item))
    except ValidationError as error:
        return rejected_wallpaper(item, error)


def wallpaper_of(item: Item) -> Wallpaper:
    """Return the row; fields without a column are kept in `extra`."""
    thumbs = item.thumbs or _Thumbs()
    created_at: Any = item.created_at
    return Wallpaper(
        wallhaven_id=item.id,
        url=item.path,
        page_url=item.url,
        short_url=item.short_url,
        source=item.source,
        category=item.category,
        purity=item.purity,
        dimension_x=item.dimension_x,
        dimension_y=item.dimension_y,
        resolution=item.resolution,
        ratio=item.ratio,
        file_size=item.file_size,
        file_type=item.file_type,
        source_created_at=created_at,
        colors=item.colors,
        thumb_large=thumbs.large,
        thumb_original=thumbs.original,
        thumb_small=thumbs.small,
        extra=extra_json(item.model_extra, thumbs=thumbs.model_extra),
        views=item.views,
        favorites=item.favorites,
    )
