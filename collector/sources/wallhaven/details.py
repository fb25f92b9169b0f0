"""One wallpaper with its uploader and tags: the request, and how to parse the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct, to_builtins

from collector.core.errors import PayloadError
from collector.core.wallpapers import Rejected, Tag, Uploader, WallpaperDetails
from collector.sources import ApiRequest
from collector.sources.wallhaven.pages import Item, wallpaper_of
from collector.sources.wallhaven.payload import (
    Count,
    InvalidPart,
    Name,
    Serial,
    Text,
    Time,
    data_object,
    extra_json,
    read_part,
    rejected_tag,
    rejected_wallpaper,
    utc_time,
)
from collector.sources.wallhaven.requests import WallhavenApi

_AVATAR_SIZES = {f"px{pixels}": f"{pixels}px" for pixels in (200, 128, 32, 20)}


@dataclass(frozen=True, slots=True)
class WallhavenDetails:
    """Requests and answers about one wallpaper. The key is a header, never in an address."""

    api_url: str
    api_key: str | None = field(default=None, repr=False)

    @property
    def is_guest(self) -> bool:
        return not self.api_key

    def details_request(self, wallhaven_id: str) -> ApiRequest:
        return WallhavenApi(self.api_url, self.api_key).details_request(wallhaven_id)

    def parse_details(self, body: bytes, wallhaven_id: str) -> WallpaperDetails | Rejected:
        """Parse the answer. Raises PayloadError for another shape or another wallpaper."""
        return parse_details(body, wallhaven_id)


class _Avatar(Struct, rename=_AVATAR_SIZES, omit_defaults=True):
    px200: Text | None = None
    px128: Text | None = None
    px32: Text | None = None
    px20: Text | None = None


class _Uploader(Struct):
    username: Name
    group: Text | None = None
    avatar: _Avatar | None = None


class _Tag(Struct):
    id: Serial
    name: Name
    alias: Text | None = None
    category_id: Count | None = None
    category: Text | None = None
    purity: Text | None = None
    created_at: Time | None = None


class _Details(Item):
    uploader: _Uploader | None = None


def parse_details(body: bytes, wallhaven_id: str) -> WallpaperDetails | Rejected:
    """Parse the answer of `/w/{id}`. A bad tag is rejected alone.

    Raises PayloadError for an answer of another shape, or about another wallpaper.
    """
    data = data_object(body)
    try:
        found = _details(data)
    except InvalidPart as error:
        return rejected_wallpaper(data, error)
    if found.wallpaper.wallhaven_id != wallhaven_id:
        raise PayloadError(f"the answer is not about {wallhaven_id}")
    return found


def _details(data: dict[str, Any]) -> WallpaperDetails:
    details, unknown = read_part(_Details, data)
    uploader_extra = extra_json(unknown.pop("uploader", {}))
    # Not part of the record: each tag becomes its own row or rejection.
    listed = unknown.pop("tags", None)
    if not isinstance(listed, list | None):
        raise InvalidPart("tags: not a list")
    found = [_tag(tag, details.id) for tag in listed or ()]
    tags = {tag.tag_id: tag for tag in found if isinstance(tag, Tag)}
    return WallpaperDetails(
        wallpaper=wallpaper_of(details, extra_json(unknown)),
        uploader=_uploader(details.uploader, uploader_extra),
        tags=tuple(tags.values()),
        rejected_tags=tuple(tag for tag in found if isinstance(tag, Rejected)),
    )


def _uploader(found: _Uploader | None, extra: str | None) -> Uploader | None:
    if found is None:
        return None
    avatars = to_builtins(found.avatar) if found.avatar else {}
    return Uploader(found.username, found.group, avatars, extra)


def _tag(given: object, wallhaven_id: str) -> Tag | Rejected:
    try:
        found, unknown = read_part(_Tag, given)
        created_at = utc_time(found.created_at) if found.created_at else None
    except InvalidPart as error:
        return rejected_tag(given, error, wallhaven_id)
    return Tag(
        tag_id=found.id,
        name=found.name,
        alias=found.alias,
        category_id=found.category_id,
        category=found.category,
        purity=found.purity,
        source_created_at=created_at,
        extra=extra_json(unknown),
    )
