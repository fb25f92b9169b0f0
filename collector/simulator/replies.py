"""HTTP answers that are not pictures: JSON envelopes, JSON errors and the site's HTML pages."""

from __future__ import annotations

import json
from collections.abc import Mapping

from aiohttp import web

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
