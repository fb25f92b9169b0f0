"""HTTP answers that are not pictures: JSON envelopes, JSON errors and the site's HTML pages."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from collector.simulator.parameters import Query, find_tag
from collector.simulator.population import Tag, Uploader, Wallpaper

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body><h1>{heading}</h1></body>
</html>
"""


def answer(payload: object, status: int = 200) -> web.Response:
    """Return a JSON answer. Lone surrogates and NUL in it are escaped, never refused."""
    return web.Response(
        status=status, body=json.dumps(payload).encode(), content_type="application/json"
    )


def error(status: int, text: str) -> web.Response:
    """Return the API's JSON error."""
    return answer({"error": text}, status)


def unauthorized() -> web.Response:
    """Return the answer to a key that is not valid, or missing where one is needed."""
    return error(401, "Unauthorized")


def nothing_here() -> web.Response:
    """Return the answer to an id that is unknown, deleted or hidden."""
    return error(404, "Nothing here")


def not_found() -> web.Response:
    """Return the answer to a route that does not exist."""
    return error(404, "Not Found")


def too_many_requests(headers: Mapping[str, str]) -> web.Response:
    """Return the 429, which is HTML on the real site too."""
    return _html(429, "Too many requests - wallhaven.cc", "Too many requests", headers)


def it_broke() -> web.Response:
    """Return the 500 of a page number below 1."""
    return _html(500, "It broke - wallhaven.cc", "It broke")


def challenge(status: int = 403) -> web.Response:
    """Return the firewall's challenge, which no client of an API can pass."""
    headers = {"cf-mitigated": "challenge"}
    return _html(status, "Just a moment...", "Checking your browser", headers)


def outage(status: int) -> web.Response:
    """Return the page of a site that cannot be reached behind Cloudflare."""
    return _html(status, f"wallhaven.cc | {status}", f"Error {status}")


def html_in_place_of_json() -> web.Response:
    """Return a page of the site where the API's JSON is expected, with the status of success."""
    return _html(200, "Awesome Wallpapers - wallhaven.cc", "Maintenance")


def bad_request() -> web.Response:
    """Return the answer to a page that is out of range."""
    return error(400, "Bad Request")


def missing_file() -> web.Response:
    """Return the image host's 404."""
    return _html(404, "404 Not Found", "404 Not Found")


def _html(
    status: int, title: str, heading: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        status=status,
        text=_PAGE.format(title=title, heading=heading),
        content_type="text/html",
        headers=headers,
    )


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
