"""The bodies of answers: the JSON of API v1, key by key, and HTML pages."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from collector.simulator.population import Tag, Uploader, Wallpaper

Json = dict[str, Any]

_SITE = "https://wallhaven.cc"
_SHORT_SITE = "https://whvn.cc"
_AVATARS = "https://wallhaven.cc/images/user/avatar"
_AVATAR_SIZES = (200, 128, 32, 20)
# 400: the page is out of range; 401: the key is invalid, or missing and needed; 404: the id is
# unknown, deleted or hidden.
_ERRORS = {
    400: "Bad Request",
    401: "Unauthorized",
    404: "Nothing here",
    405: "Method Not Allowed",
}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{heading}</h1></body>
</html>
"""


def answer(payload: object, status: int = 200) -> web.Response:
    """Return a JSON answer. Lone surrogates and NUL are escaped."""
    return web.Response(
        status=status, body=json.dumps(payload).encode(), content_type="application/json"
    )


def error(status: int, text: str = "") -> web.Response:
    """Return the API's JSON error, with the usual text of its status unless `text` is given."""
    return answer({"error": text or _ERRORS[status]}, status)


def missing_file() -> web.Response:
    """Return the image host's 404."""
    return html(404, "404 Not Found", "404 Not Found")


def html(
    status: int, title: str, heading: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        status=status,
        text=_PAGE.format(title=title, heading=heading),
        content_type="text/html",
        headers=headers,
    )


def listing_item(wallpaper: Wallpaper, host_url: str) -> Json:
    """Return the 18 keys of a listed item; addresses of images and thumbs begin with `host_url`."""
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
    """Return the `data` of `/w/{id}`: a listed item with uploader and tags."""
    item = listing_item(wallpaper, host_url)
    head = {key: item.pop(key) for key in ("id", "url", "short_url")}
    tags = [tag_item(tag) for tag in wallpaper.tags]
    return {**head, "uploader": _uploader(wallpaper.uploader), **item, "tags": tags}


def tag_item(tag: Tag) -> Json:
    """Return the `data` of `/tag/{id}`."""
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
    """Return the four keys of every listing's meta; `as_text` makes `per_page` a string."""
    return {
        "current_page": page,
        "last_page": max(1, math.ceil(total / page_size)),
        "per_page": str(page_size) if as_text else page_size,
        "total": total,
    }


def settings(page_size: int) -> Json:
    """Return the `data` of `/settings` for an account that changed nothing else."""
    return {
        "thumb_size": "orig",
        "per_page": str(page_size),
        "purity": ["sfw"],
        "categories": ["general", "anime", "people"],
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
        "avatar": {f"{size}px": f"{_AVATARS}/{size}/default-avatar.jpg" for size in _AVATAR_SIZES},
    }
