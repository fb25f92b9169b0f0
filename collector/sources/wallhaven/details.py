"""What the API says of one wallpaper, and of one tag."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from collector.core.errors import PayloadError
from collector.core.wallpapers import Rejected, Tag, Uploader, WallpaperDetails
from collector.sources.wallhaven.fields import Answer, Count, Name, Serial, Text, Time
from collector.sources.wallhaven.items import Item, wallpaper_of
from collector.sources.wallhaven.payload import (
    bounded_nesting,
    data_object,
    extra_json,
    rejected_part,
    rejected_wallpaper,
)


class _Avatar(Answer):
    px200: Text | None = Field(None, alias="200px")
    px128: Text | None = Field(None, alias="128px")
    px32: Text | None = Field(None, alias="32px")
    px20: Text | None = Field(None, alias="20px")


class _Uploader(Answer):
    username: Name
    group: Text | None = None
    avatar: _Avatar | None = None


class _Tag(Answer):
    id: Serial
    name: Name
    alias: Text | None = None
    category_id: Count | None = None
    category: Text | None = None
    purity: Text | None = None
    created_at: Time | None = None


class _Details(Item):
    uploader: _Uploader | None = None
    tags: list[Any] | None = None


def parse_details(body: bytes, wallhaven_id: str) -> WallpaperDetails | Rejected:
    """Read the answer of `/w/{id}`; a tag that cannot become a row is rejected alone.

    Raises PayloadError for an answer of another shape, or about another wallpaper.
    """
    data = data_object(body)
    with bounded_nesting():
        try:
            details = _Details.model_validate(data)
        except ValidationError as error:
            return rejected_wallpaper(data, error)
        if details.id != wallhaven_id:
            raise PayloadError(f"the answer is not about {wallhaven_id}")
        return _details(details)


def parse_tag(body: bytes, tag_id: int) -> Tag | Rejected:
    """Read the answer of `/tag/{id}`.

    Raises PayloadError for an answer of another shape, or about another tag.
    """
    data = data_object(body)
    with bounded_nesting():
        found = _tag(data)
    if isinstance(found, Tag) and found.tag_id != tag_id:
        raise PayloadError(f"the answer is not about tag {tag_id}")
    return found


def _details(details: _Details) -> WallpaperDetails:
    found = [_tag(tag, wallhaven_id=details.id) for tag in details.tags or []]
    tags = {tag.tag_id: tag for tag in found if isinstance(tag, Tag)}
    return WallpaperDetails(
        wallpaper=wallpaper_of(details),
        uploader=_uploader(details.uploader),
        tags=tuple(tags.values()),
        rejected_tags=tuple(tag for tag in found if isinstance(tag, Rejected)),
    )


def _uploader(found: _Uploader | None) -> Uploader | None:
    if found is None:
        return None
    avatar = found.avatar or _Avatar()
    known = set(_Avatar.model_fields)
    return Uploader(
        username=found.username,
        group=found.group,
        avatars=avatar.model_dump(include=known, by_alias=True, exclude_none=True),
        extra=extra_json(found.model_extra, avatar=avatar.model_extra),
    )


def _tag(tag: object, *, wallhaven_id: str | None = None) -> Tag | Rejected:
    try:
        found = _Tag.model_validate(tag)
    except ValidationError as error:
        return rejected_part(tag, error, wallhaven_id=wallhaven_id)
    created_at: Any = found.created_at
    return Tag(
        tag_id=found.id,
        name=found.name,
        alias=found.alias,
        category_id=found.category_id,
        category=found.category,
        purity=found.purity,
        source_created_at=created_at,
        extra=extra_json(found.model_extra),
    )
