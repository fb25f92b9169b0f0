"""Listings of exactly the documented shape, read in one step.

Nearly every answer is one: its items have the 18 documented fields and no other. Reading these
straight from the bytes takes a third of the time of the reading that can say what is wrong. What is
not clearly of this shape is left to that one, which decides; both agree on every item read here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, NamedTuple

from msgspec import Meta, MsgspecError, Raw, Struct
from msgspec.json import Decoder

from collector.core.wallpapers import Wallpaper
from collector.sources.wallhaven.fields import (
    ADDRESS_CHARACTERS,
    MAX_FILE_BYTES,
    MAX_INT4,
    MOST_COLORS,
    TEXT_CHARACTERS,
)

_Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{1,16}\Z")]
_Text = Annotated[str, Meta(max_length=TEXT_CHARACTERS)]
_Address = Annotated[str, Meta(max_length=ADDRESS_CHARACTERS, pattern=r"^https?://[^\s\x00]+\Z")]
_Pixels = Annotated[int, Meta(ge=1, le=MAX_INT4)]
_Count = Annotated[int, Meta(ge=0, le=MAX_INT4)]
_FileBytes = Annotated[int, Meta(ge=1, le=MAX_FILE_BYTES)]
_Time = Annotated[str, Meta(pattern=r"^[0-9]{4}(-[0-9]{2}){2} [0-9]{2}(:[0-9]{2}){2}\Z")]
_Colors = Annotated[list[_Text], Meta(max_length=MOST_COLORS)]


class _Thumbs(Struct, forbid_unknown_fields=True):
    large: _Text | None
    original: _Text | None
    small: _Text | None


class _Item(Struct, forbid_unknown_fields=True):
    id: _Id
    url: _Text | None
    short_url: _Text | None
    views: _Count | None
    favorites: _Count | None
    source: _Text | None
    purity: _Text | None
    category: _Text | None
    dimension_x: _Pixels | None
    dimension_y: _Pixels | None
    resolution: _Text | None
    ratio: _Text | None
    file_size: _FileBytes | None
    file_type: _Text | None
    created_at: _Time
    colors: _Colors | None
    path: _Address
    thumbs: _Thumbs


class _Listing(Struct, forbid_unknown_fields=True):
    data: list[_Item]
    meta: Raw


class UsualListing(NamedTuple):
    """The rows of a listing, and its `meta` as it came."""

    wallpapers: tuple[Wallpaper, ...]
    meta: bytes


_decoder = Decoder(_Listing)
_ITEM_KEYS = len(_Item.__struct_fields__) + len(_Thumbs.__struct_fields__)
_LISTING_KEYS = len(_Listing.__struct_fields__)
_WHITE_SPACE = b" \t\r\n"


def read_usual_listing(body: bytes) -> UsualListing | None:
    """Return what a listing of the documented shape holds, None for anything else."""
    try:
        listing = _decoder.decode(body)
        meta = bytes(listing.meta)
        if _has_nul(body) or _repeats_a_key(body, meta, len(listing.data)):
            return None
        return UsualListing(tuple(map(_wallpaper, listing.data)), meta)
    except (MsgspecError, ValueError, RecursionError):
        return None


def _has_nul(body: bytes) -> bool:
    # The one way to write it: strict JSON has no bare control characters.
    return rb"\u0000" in body


def _repeats_a_key(body: bytes, meta: bytes, items: int) -> bool:
    """Say whether there may be more keys than the shape has: every key ends in a quote and a colon.

    A text that holds both counts as one too many.
    """
    return _key_ends(body) != _LISTING_KEYS + items * _ITEM_KEYS + _key_ends(meta)


def _key_ends(text: bytes) -> int:
    return text.translate(None, _WHITE_SPACE).count(b'":')


def _wallpaper(item: _Item) -> Wallpaper:
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
        source_created_at=datetime.fromisoformat(f"{item.created_at}Z"),
        colors=item.colors,
        thumb_large=item.thumbs.large,
        thumb_original=item.thumbs.original,
        thumb_small=item.thumbs.small,
        extra=None,
        views=item.views,
        favorites=item.favorites,
    )
