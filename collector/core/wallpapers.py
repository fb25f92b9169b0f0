"""Records of the metadata: what the site's answers contain."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from collector.core.errors import Code
from collector.core.paging import lacks_items

# Logs and reports name unknown fields: these bounds are enough to recognise a changed API.
_MAX_NAMES = 20
_NAME_CHARACTERS = 60


class Wallpaper(NamedTuple):
    """One listed wallpaper; fields are named as the columns of `wallpapers`.

    `url` is the image, `page_url` the page about it. `extra` is JSON text with the API fields
    that have no column, None if there are none. Optional fields are None if the API gave null
    or nothing.
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

    @property
    def counters(self) -> tuple[int | None, int | None]:
        """The fields that change daily."""
        return self.views, self.favorites


@dataclass(frozen=True, slots=True)
class Rejected:
    """An item that cannot become a row; `raw` is what was received, as bounded ASCII JSON."""

    wallhaven_id: str | None
    code: Code
    reason: str
    raw: str

    @property
    def item(self) -> str:
        """The item's name among the dead letters: its id, else a digest of what was received."""
        return self.wallhaven_id or f"sha256:{sha256(self.raw.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a search, in the order of the API: every item a row or a rejection.

    `number` is the page that was requested, `current_page` the one that the site says it is.
    `echo` is the query as the site repeats it: empty if it repeats none, None if it says that there
    was none. `seed` belongs to a random order.
    """

    number: int
    items: tuple[Wallpaper | Rejected, ...]
    last_page: int
    total: int
    per_page: int
    current_page: int | None = None
    echo: str | None = None
    seed: str | None = None
    unknown_meta: tuple[str, ...] = ()

    @property
    def wallpapers(self) -> list[Wallpaper]:
        """The items that can become rows, duplicates included."""
        return [item for item in self.items if isinstance(item, Wallpaper)]

    @property
    def ids(self) -> list[str]:
        return [item.wallhaven_id for item in self.wallpapers]

    @property
    def rejected(self) -> list[Rejected]:
        return [item for item in self.items if isinstance(item, Rejected)]

    @property
    def is_short(self) -> bool:
        """Whether the page has fewer items than it should (see `lacks_items`)."""
        found = len(self.items)
        return lacks_items(self.number, found, self.last_page, self.total, self.per_page)

    @property
    def unknown_fields(self) -> Mapping[str, int]:
        """How often each field without a column occurs; those of the page start with `meta.`."""
        found = Counter(f"meta.{name}" for name in self.unknown_meta)
        for item in self.wallpapers:
            found.update(field_names(item.extra))
        return found


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What in an answer does not match the question; `parameter` is the API's name.

    `wallhaven_ids` are the items that do not match, empty if the answer as a whole does not.
    """

    parameter: str
    problem: str
    wallhaven_ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.parameter}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Uploader:
    """The user who uploaded a wallpaper; `avatars` are addresses by size, such as `200px`."""

    username: str
    group: str | None
    avatars: Mapping[str, str]
    extra: str | None


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag; `alias` lists other names, separated by commas."""

    tag_id: int
    name: str
    alias: str | None
    category_id: int | None
    category: str | None
    purity: str | None
    source_created_at: datetime | None
    extra: str | None


@dataclass(frozen=True, slots=True)
class WallpaperDetails:
    """What a site says about one wallpaper: the listed fields and counters, uploader and tags.

    Each tag occurs once. Tags that cannot become rows are in `rejected_tags`, with the wallpaper's
    id.
    """

    wallpaper: Wallpaper
    uploader: Uploader | None
    tags: tuple[Tag, ...]
    rejected_tags: tuple[Rejected, ...] = ()

    @property
    def unknown_fields(self) -> Mapping[str, int]:
        """How often each field without a column occurs, as `name`, `uploader.name`, `tags.name`."""
        found = Counter(field_names(self.wallpaper.extra))
        if self.uploader:
            found.update(f"uploader.{name}" for name in field_names(self.uploader.extra))
        for tag in self.tags:
            found.update(f"tags.{name}" for name in field_names(tag.extra))
        return found


def field_names(extra: str | None) -> tuple[str, ...]:
    """Return the field names in an `extra`, bounded in number and length."""
    names = list(json.loads(extra)) if extra else []
    return tuple(name[:_NAME_CHARACTERS] for name in names[:_MAX_NAMES])
