"""The requests to Wallhaven's API v1. The key is sent as a header, never in an address.

Endpoints: https://wallhaven.cc/help/api (read 2026-11-23). A raw query string that begins with
`q=like` is refused by the site's firewall (observed 2026-09), so `q` never comes first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import quote, urlencode

from collector import __version__
from collector.core.keys import is_wallhaven_id
from collector.sources import ApiRequest
from collector.sources.wallhaven.query import Query, QueryError

# Honest: the site can tell the collector from a browser.
USER_AGENT = f"draenei-collector/{__version__}"
# No dot segments and no separators: the name becomes one segment of a path.
_USERNAME = re.compile(r"(?!\.{1,2}$)[^\s/\\?#%\x00-\x1f\x7f\ud800-\udfff]{1,100}")
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")


class CollectionName(NamedTuple):
    """A collection: its owner's name and its number."""

    username: str
    collection_id: int

    @classmethod
    def parse(cls, text: str) -> CollectionName:
        """Parse `USER/ID`. Raises QueryError."""
        username, _, number = text.partition("/")
        if not _USERNAME.fullmatch(username) or not _NUMBER.fullmatch(number):
            raise QueryError("collection", "must be USER/ID, such as someone/15")
        return cls(username, int(number))

    def __str__(self) -> str:
        return f"{self.username}/{self.collection_id}"


@dataclass(frozen=True, slots=True)
class WallhavenApi:
    """The API at an address, with or without a key. Wrong arguments raise QueryError."""

    api_url: str
    api_key: str | None = field(default=None, repr=False)

    def search_request(self, query: Query, page: int) -> ApiRequest:
        """Return the request for a page of a search, from 1."""
        self._check_purity(query.purity)
        return self._request("search", {"page": _number("page", page), **query.parameters()})

    def collection_request(self, name: CollectionName, purity: str, page: int) -> ApiRequest:
        """Return the request for a page of a collection, from 1. Private ones need the key."""
        self._check_purity(Query(purity=purity).purity)
        path = f"collections/{_user(name.username)}/{_number('collection', name.collection_id)}"
        return self._request(path, {"page": _number("page", page), "purity": purity})

    def details_request(self, wallhaven_id: str) -> ApiRequest:
        """Return the request for one wallpaper with its uploader and tags."""
        if not is_wallhaven_id(wallhaven_id):
            raise QueryError("id", "must be 1 to 16 letters and digits, such as 2169oy")
        return self._request(f"w/{wallhaven_id}")

    def _check_purity(self, purity: str) -> None:
        # The API would leave nsfw items out silently.
        if purity[2] == "1" and not self.api_key:
            raise QueryError("purity", "nsfw, the third digit, needs an API key; without: 110")

    def _request(self, path: str, parameters: Mapping[str, str] | None = None) -> ApiRequest:
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        key = {"X-API-Key": self.api_key} if self.api_key else {}
        question = f"?{encode(parameters)}" if parameters else ""
        return ApiRequest(f"{self.api_url}/{path}{question}", headers | key)


def encode(parameters: Mapping[str, str]) -> str:
    """Return a query string with every special character escaped."""
    return urlencode(parameters, quote_via=quote)


def _number(parameter: str, number: int) -> str:
    # The API answers page 0 with a 500.
    if number < 1:
        raise QueryError(parameter, "must be a whole number from 1 on, such as 1")
    return str(number)


def _user(username: str) -> str:
    if not _USERNAME.fullmatch(username):
        raise QueryError("user", "must be a user's name, such as someone")
    return quote(username, safe="")
