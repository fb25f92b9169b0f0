"""Addresses of the site's pages, as a browser shows them, read as what to mirror.

A search page has the API's parameter names in its address
(https://wallhaven.cc/help/api, read 2026-11-23). The paths are those of public links to the site
(looked up 2026-12-01).
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

from collector.sources.wallhaven.query import Query, QueryError
from collector.sources.wallhaven.requests import CollectionName

_HOSTS = frozenset({"wallhaven.cc", "www.wallhaven.cc"})
# Lists with an address of their own: each is a search with this sorting.
_LISTS = {"search": "date_added", "latest": "date_added", "toplist": "toplist", "random": "random"}
# The API's parameters by the setting that holds each.
_SETTINGS = {
    "q": "query",
    "categories": "categories",
    "purity": "purity",
    "sorting": "sorting",
    "order": "order",
    "topRange": "top_range",
    "atleast": "atleast",
    "resolutions": "resolutions",
    "ratios": "ratios",
    "colors": "colors",
    "ai_art_filter": "ai_art_filter",
}
# They say which part of the list a browser shows, not which list.
_IGNORED = frozenset({"page", "seed"})
_EXAMPLES = "https://wallhaven.cc/search?q=nature, /user/NAME, /tag/37 or /user/NAME/favorites/15"
_HINT = f"give one such as {_EXAMPLES}; for words to search for, use --query"
_USER = re.compile(r"user/([^/]+)(?:/uploads)?")
_COLLECTION = re.compile(r"user/([^/]+)/favorites/([^/]+)")
_TAG = re.compile(r"tag/([^/]+)")


def parse_link(address: str) -> dict[str, str]:
    """Return the WALLHAVEN_ settings that an address stands for, lower case, without the prefix.

    The address decides alone: every filter that it does not name has its default. Raises QueryError
    for an address that is no list of Wallhaven, or that has a filter the API does not know. Values
    are checked by Query, not here.
    """
    path, parameters = _split(address)
    if found := _COLLECTION.fullmatch(path):
        name = CollectionName.parse(f"{unquote(found[1])}/{found[2]}")
        return _settings(parameters, collection=str(name))
    if found := _USER.fullmatch(path):
        return _settings(parameters, q=f"@{unquote(found[1])}")
    if found := _TAG.fullmatch(path):
        return _settings(parameters, q=f"id:{found[1]}")
    if path in _LISTS:
        return _settings({"sorting": _LISTS[path], **parameters})
    raise _wrong("is no list that can be mirrored")


def _split(address: str) -> tuple[str, dict[str, str]]:
    """Return the path without slashes around it, and the parameters of an address of the site."""
    with_scheme = address if "://" in address else f"https://{address}"
    try:
        parts = urlsplit(with_scheme)
        parameters = dict(parse_qsl(parts.query, keep_blank_values=True, max_num_fields=50))
        is_ours = parts.scheme in ("http", "https") and parts.netloc.lower() in _HOSTS
    except ValueError:
        raise _wrong("cannot be read") from None
    if not is_ours:
        raise _wrong("is no address of wallhaven.cc")
    return parts.path.strip("/"), parameters


def _settings(parameters: dict[str, str], *, collection: str = "", q: str = "") -> dict[str, str]:
    given = {name: value for name, value in parameters.items() if name not in _IGNORED}
    if q:
        given["q"] = q
    if unknown := given.keys() - _SETTINGS.keys():
        raise _wrong(f"has the parameter {min(unknown)!r}, which the API does not know")
    given["q"] = given.get("q", "").strip() or "*"
    defaults = Query()
    named = {
        setting: given.get(name) or getattr(defaults, setting, "")
        for name, setting in _SETTINGS.items()
    }
    return {**named, "collection": collection}


def _wrong(problem: str) -> QueryError:
    return QueryError("WALLHAVEN_ADDRESS", f"{problem}; {_HINT}")
