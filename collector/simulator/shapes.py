"""The JSON shapes of API v1: what each answer looks like, key by key."""

from __future__ import annotations

import math
from typing import Any

from collector.simulator.population import Tag, Uploader
from collector.simulator.query import Query, find_tag
from collector.simulator.wallpaper import Wallpaper

_SITE = "https://wallhaven.cc"
_SHORT_SITE = "https://whvn.cc"
_STATIC = "https://wallhaven.cc/images/user"
_AVATAR_SIZES = (200, 128, 32, 20)

Json = dict[str, Any]


def listing_item(wallpaper: Wallpaper, host_url: str) -> Json:
    """Return the 18 keys of an item in a listing; images and thumbs live at `host_url`."""
    return {
        "id": wallpaper.id,
        "url": f"{_SITE}/w/{wallpaper.id}",
        "short_url": f"{_SHORT_SITE}/{wallpaper.id}",
        "views": wallpaper.views,
        "favorites": wallpaper.favorites,
        "source": wallpaper.source,
        "purity": wallpaper.purity,
        "category": wallpaper.category,
        "dimension_x": wallpaper.dimension_x,
        "dimension_y": wallpaper.dimension_y,
        "resolution": wallpaper.resolution,
        "ratio": wallpaper.ratio,
        "file_size": wallpaper.file_size,
        "file_type": wallpaper.file_type,
        "created_at": str(wallpaper.created_at),
        "colors": list(wallpaper.colors),
        "path": host_url + wallpaper.image_path,
        "thumbs": {
            name: f"{host_url}/{folder}/{wallpaper.id[:2]}/{wallpaper.id}.jpg"
            for name, folder in (("large", "lg"), ("original", "orig"), ("small", "small"))
        },
    }


def details(wallpaper: Wallpaper, host_url: str) -> Json:
    """Return what `/w/{id}` says: a listing item with uploader and tags."""
    item = listing_item(wallpaper, host_url)
    head = {key: item.pop(key) for key in ("id", "url", "short_url")}
    tags = [tag_item(tag) for tag in wallpaper.tags]
    return {**head, "uploader": _uploader(wallpaper.uploader), **item, "tags": tags}


def tag_item(tag: Tag) -> Json:
    """Return what `/tag/{id}` says."""
    return {
        "id": tag.id,
        "name": tag.name,
        "alias": tag.alias,
        "category_id": tag.category_id,
        "category": tag.category,
        "purity": tag.purity,
        "created_at": tag.created_at,
    }


def page_meta(page: int, page_size: int, total: int, *, as_text: bool) -> Json:
    """Return the four keys that all listings have; `as_text`: `per_page` is a string."""
    return {
        "current_page": page,
        "last_page": max(1, math.ceil(total / page_size)),
        "per_page": str(page_size) if as_text else page_size,
        "total": total,
    }


def query_echo(query: Query) -> str | Json | None:
    """Return `meta.query`: null, the text, or an object for the id of a tag that exists."""
    tag = find_tag(query.tag_id)
    return query.echo if tag is None else tag_echo(tag)


def tag_echo(tag: Tag) -> Json:
    """Return `meta.query` where it is an object."""
    return {"id": tag.id, "tag": tag.name}


def settings(page_size: int, purities: list[str], categories: list[str]) -> Json:
    """Return what `/settings` says of an account that changed nothing else."""
    return {
        "thumb_size": "orig",
        "per_page": str(page_size),
        "purity": purities,
        "categories": categories,
        "resolutions": [],
        "aspect_ratios": [],
        "toplist_range": "1M",
        "tag_blacklist": [""],
        "user_blacklist": [""],
        "ai_art_filter": 1,
    }


def _uploader(uploader: Uploader) -> Json:
    return {
        "username": uploader.username,
        "group": uploader.group,
        "avatar": {
            f"{size}px": f"{_STATIC}/avatar/{size}/default-avatar.jpg" for size in _AVATAR_SIZES
        },
    }
