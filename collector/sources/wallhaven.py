"""Wallhaven API v1: requests described, answers parsed. Pure: nothing here awaits.

Facts: https://wallhaven.cc/help/api (read 2026-11-23) and observed answers: `per_page` is a
number or a string, `ratio` a string, `created_at` has no zone (taken as UTC), bad filters are
answered with 200 and unfiltered data, and a query string that begins with `q=like` is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Annotated, Any, NoReturn
from urllib.parse import quote, urlencode

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
)

from collector import __version__
from collector.core.errors import Code, PayloadError
from collector.core.keys import is_wallhaven_id
from collector.core.wallpapers import Page, Rejected, Wallpaper
from collector.sources import ApiRequest

# Honest: a site must be able to tell us from a browser.
USER_AGENT = f"draenei-collector/{__version__}"
# A rejected item is kept for a person to read: the first 4,000 characters tell enough.
_RAW_CHARACTERS = 4_000
# Longer than any text the API is known to send; keeps one hostile row from filling a disk.
_TEXT_CHARACTERS = 10_000
_MAX_INT4 = 2**31 - 1
# 1 TiB: no image is larger, and it stays far from the limits of BIGINT.
_MAX_FILE_BYTES = 2**40


@dataclass(frozen=True, slots=True)
class Query:
    """A search, every filter explicit so that account defaults never leak in."""

    q: str = ""
    categories: str = "111"
    purity: str = "100"
    sorting: str = "date_added"
    order: str = "desc"
    top_range: str = ""
    atleast: str = ""
    resolutions: str = ""
    ratios: str = ""
    colors: str = ""
    ai_art_filter: str = ""

    def parameters(self) -> dict[str, str]:
        """Return the API's parameters; `q` comes last, empty filters are left out."""
        named = {
            "categories": self.categories,
            "purity": self.purity,
            "sorting": self.sorting,
            "order": self.order,
            "topRange": self.top_range,
            "atleast": self.atleast,
            "resolutions": self.resolutions,
            "ratios": self.ratios,
            "colors": self.colors,
            "ai_art_filter": self.ai_art_filter,
            "q": self.q,
        }
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class WallhavenSearch:
    """The `Source` for one search. The key travels as a header, never in an address."""

    api_url: str
    query: Query
    api_key: str | None = field(default=None, repr=False)

    @property
    def search_key(self) -> str:
        """The site's search as a canonical query string, without key and page."""
        return f"wallhaven?{_encode(self.query.parameters())}"

    @property
    def is_newest_first(self) -> bool:
        """True where the search is sorted by date, the newest first."""
        return (self.query.sorting, self.query.order) == ("date_added", "desc")

    def page_request(self, page: int) -> ApiRequest:
        """Return the request for page `page` (from 1)."""
        parameters = {"page": str(page), **self.query.parameters()}
        return ApiRequest(f"{self.api_url}/search?{_encode(parameters)}", self._headers())

    def parse_page(self, body: bytes, page: int) -> Page:
        """Read one answer of `/search`; raises PayloadError for anything but its shape."""
        answer = _strict_json(body)
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            raise PayloadError("the answer is not an object with a list `data`")
        try:
            meta = _Meta.model_validate(answer.get("meta"))
        except ValidationError as error:
            raise PayloadError(f"meta: {_first_problem(error)}") from None
        try:
            items = tuple(_parse_item(item) for item in answer["data"])
        except RecursionError:
            raise PayloadError("an item is nested too deeply") from None
        return Page(page, items, meta.last_page, meta.total, meta.per_page)

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        return headers | ({"X-API-Key": self.api_key} if self.api_key else {})


def _encode(parameters: Mapping[str, str]) -> str:
    return urlencode(parameters, quote_via=quote)


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("has a NUL character, which Postgres cannot store")
    return text


def _utc(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:  # whose text would repeat what was received
        raise ValueError("is no time such as 2026-09-23 17:27:56") from None


def _valid_id(text: str) -> str:
    if not is_wallhaven_id(text):
        raise ValueError("is not 1 to 16 letters and digits")
    return text


def _digits(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


_Text = Annotated[str, Field(max_length=_TEXT_CHARACTERS), AfterValidator(_no_nul)]
_Address = Annotated[_Text, Field(pattern=r"^https?://[^\s]+$", max_length=2_000)]
_Pixels = Annotated[int, Field(ge=1, le=_MAX_INT4)]
_Count = Annotated[int, Field(ge=0, le=_MAX_INT4)]
_Number = Annotated[int, BeforeValidator(_digits), Field(ge=0, le=_MAX_INT4)]


class _Meta(BaseModel):
    model_config = ConfigDict(strict=True)

    last_page: _Number
    total: _Number
    per_page: Annotated[_Number, Field(ge=1)] = 24


class _Thumbs(BaseModel):
    model_config = ConfigDict(strict=True)

    large: _Text | None = None
    original: _Text | None = None
    small: _Text | None = None


class _Item(BaseModel):
    """One listed item as the API sends it; what has no field here lands in `model_extra`."""

    model_config = ConfigDict(strict=True, extra="allow")

    id: Annotated[str, AfterValidator(_valid_id)]
    path: _Address
    url: _Text | None = None
    short_url: _Text | None = None
    source: _Text | None = None
    category: _Text | None = None
    purity: _Text | None = None
    dimension_x: _Pixels | None = None
    dimension_y: _Pixels | None = None
    resolution: _Text | None = None
    ratio: _Text | None = None
    file_size: Annotated[int, Field(ge=1, le=_MAX_FILE_BYTES)] | None = None
    file_type: _Text | None = None
    created_at: Annotated[str, AfterValidator(_utc)] | None = None
    colors: Annotated[list[_Text], Field(max_length=100)] | None = None
    thumbs: _Thumbs | None = None
    views: _Count | None = None
    favorites: _Count | None = None


def _parse_item(item: object) -> Wallpaper | Rejected:
    try:
        return _wallpaper(_Item.model_validate(item))
    except ValidationError as error:
        return _rejected(item, error)


def _wallpaper(item: _Item) -> Wallpaper:
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
        extra=json.dumps(_storable(item.model_extra)) if item.model_extra else None,
        views=item.views,
        favorites=item.favorites,
    )


def _rejected(item: object, error: ValidationError) -> Rejected:
    fields = item if isinstance(item, dict) else {}
    found_id = fields.get("id")
    usable_id = found_id if isinstance(found_id, str) and is_wallhaven_id(found_id) else None
    bad_id = isinstance(found_id, str) and bool(found_id) and usable_id is None
    return Rejected(
        wallhaven_id=usable_id,
        code=Code.BAD_ID if bad_id else Code.INVALID_METADATA,
        reason=_first_problem(error),
        raw=json.dumps(item, ensure_ascii=True)[:_RAW_CHARACTERS],
    )


def _first_problem(error: ValidationError) -> str:
    # Never the input itself: it may be hostile and of any length; `raw` keeps it bounded.
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    name = ".".join(str(step) for step in problems[0]["loc"]) or "item"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{name}: {problems[0]['msg']}{more}"


def _storable(value: object) -> object:
    # jsonb holds neither NUL nor lone surrogates.
    if isinstance(value, str):
        text = value.replace("\x00", "\ufffd")
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_storable(member) for member in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(member) for key, member in value.items()}
    return value


def _strict_json(body: bytes) -> object:
    try:
        return json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse,
            parse_float=_finite,
            object_pairs_hook=_unique_keys,
        )
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"not strict JSON: {type(error).__name__}") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _refuse(text)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found
