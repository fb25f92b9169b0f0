"""Pages of a search or a collection, and their items.

Nearly every page has the documented shape: its items have the 18 documented fields and no others.
Such a page is decoded straight from the bytes, in half the time. Any other page is parsed as strict
JSON, item by item, which finds out what is wrong. Both use the same `Item`.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import MsgspecError, Raw, Struct, ValidationError, convert
from msgspec.json import Decoder

from collector.core.errors import PayloadError
from collector.core.wallpapers import Page, Rejected, Wallpaper, field_names
from collector.sources.wallhaven.payload import (
    Address,
    Colors,
    Count,
    FileBytes,
    InvalidPart,
    Pixels,
    Serial,
    Text,
    Time,
    WallhavenId,
    extra_json,
    listing,
    problem_of,
    read_part,
    rejected_wallpaper,
    strict_json,
    utc_time,
)
from collector.sources.wallhaven.query import SEED

# Our limit, longer than any query that the site echoes.
_ECHO_CHARACTERS = 1_000
# No page number has more digits; a longer one is still wrong when cut to this many.
_MAX_DIGITS = 20
_WHITE_SPACE = b" \t\r\n"


class _Thumbs(Struct, forbid_unknown_fields=True):
    large: Text | None
    original: Text | None
    small: Text | None


class Item(Struct, forbid_unknown_fields=True):
    """The 18 documented fields of a listed item. Only `id` and `path` must not be null.

    No field has a default, which `_may_repeat_a_key` relies on; `read_part` puts null for a missing
    field.
    """

    id: WallhavenId
    path: Address
    url: Text | None
    short_url: Text | None
    source: Text | None
    category: Text | None
    purity: Text | None
    dimension_x: Pixels | None
    dimension_y: Pixels | None
    resolution: Text | None
    ratio: Text | None
    file_size: FileBytes | None
    file_type: Text | None
    created_at: Time | None
    colors: Colors | None
    thumbs: _Thumbs | None
    views: Count | None
    favorites: Count | None


class _Listing(Struct, forbid_unknown_fields=True):
    data: list[Item]
    meta: Raw


class _Meta(Struct):
    last_page: Count
    total: Count
    per_page: Serial = 24
    # An unknown shape of these is ignored, never refused.
    current_page: Any = None
    query: Any = None
    seed: Any = None


_NUMBERS = frozenset({"last_page", "total", "per_page"})
_decoder = Decoder(_Listing)
_LISTING_KEYS = len(_Listing.__struct_fields__)
_ITEM_KEYS = len(Item.__struct_fields__)
_THUMBS_KEYS = len(_Thumbs.__struct_fields__)
_NO_THUMBS = _Thumbs(None, None, None)


def parse_page(body: bytes, number: int) -> Page:
    """Parse the answer for page `number` of a listing. Every item becomes a row or a rejection.

    Raises PayloadError for an answer of another shape.
    """
    return parse_documented_page(body, number) or parse_any_page(body, number)


def parse_documented_page(body: bytes, number: int) -> Page | None:
    """Parse a page of the documented shape. Returns None for any other."""
    try:
        found = _decoder.decode(body)
        meta = bytes(found.meta)
        # Strict JSON has no bare control characters: NUL is always escaped.
        if rb"\u0000" in body or _may_repeat_a_key(body, found.data, meta):
            return None
        wallpapers = tuple(map(wallpaper_of, found.data))
    except (MsgspecError, ValueError, RecursionError):
        return None
    return _page(number, wallpapers, strict_json(meta))


def parse_any_page(body: bytes, number: int) -> Page:
    """Do the same as `parse_page`, item by item."""
    found, meta = listing(body)
    return _page(number, tuple(map(_row_or_rejection, found)), meta)


def _may_repeat_a_key(body: bytes, items: list[Item], meta: bytes) -> bool:
    """Return whether the body has more keys than its shape: each key ends in a quote and a colon.

    A text with a quote and a colon also counts. The decoder refuses a page with a missing field, so
    a missing key cannot hide a repeated one.
    """
    thumbs = sum(item.thumbs is not None for item in items)
    keys = _LISTING_KEYS + len(items) * _ITEM_KEYS + thumbs * _THUMBS_KEYS
    return _key_ends(body) != keys + _key_ends(meta)


def _key_ends(text: bytes) -> int:
    return text.translate(None, _WHITE_SPACE).count(b'":')


def _row_or_rejection(given: object) -> Wallpaper | Rejected:
    try:
        item, unknown = read_part(Item, given)
        return wallpaper_of(item, extra_json(unknown))
    except InvalidPart as error:
        return rejected_wallpaper(given, error)


def wallpaper_of(item: Item, extra: str | None = None) -> Wallpaper:
    """Return the row of an item. Raises InvalidPart if its date does not exist."""
    thumbs = item.thumbs or _NO_THUMBS
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
        source_created_at=utc_time(item.created_at) if item.created_at else None,
        colors=item.colors,
        thumb_large=thumbs.large,
        thumb_original=thumbs.original,
        thumb_small=thumbs.small,
        extra=extra,
        views=item.views,
        favorites=item.favorites,
    )


def _page(number: int, items: tuple[Wallpaper | Rejected, ...], given_meta: object) -> Page:
    meta = _meta(given_meta)
    return Page(
        number,
        items,
        last_page=meta.last_page,
        total=meta.total,
        per_page=meta.per_page,
        current_page=_page_number(meta.current_page),
        echo=_echo(meta.query),
        seed=_seed(meta.seed),
        unknown_meta=_unknown_meta(given_meta),
    )


def _meta(given: object) -> _Meta:
    # `per_page` is a number or a string (observed 2026-09).
    if isinstance(given, dict):
        given = {**given, **{name: _number(given[name]) for name in _NUMBERS & given.keys()}}
    try:
        return convert(given, _Meta)
    except ValidationError as error:
        raise PayloadError(f"meta: {problem_of(error)}") from None
    except UnicodeEncodeError:
        raise PayloadError("meta: a name or a value is not valid text") from None


def _unknown_meta(given: Any) -> tuple[str, ...]:
    known = _Meta.__struct_fields__
    return field_names(extra_json({name: given[name] for name in given if name not in known}))


def _number(value: object) -> object:
    """Convert a text of digits to a number; return anything else unchanged."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:_MAX_DIGITS])
    return value


def _page_number(value: object) -> int | None:
    found = _number(value)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _echo(query: object) -> str | None:
    # null: the search had no q. An object names the tag of an `id:` search.
    if query is None:
        return None
    if isinstance(query, dict) and isinstance(query.get("id"), int):
        return f"id:{query['id']}"
    return query[:_ECHO_CHARACTERS] if isinstance(query, str) else ""


def _seed(value: object) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(SEED, value) else None
