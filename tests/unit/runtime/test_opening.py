"""Which site and what of it the settings name."""

from __future__ import annotations

from typing import Any

import pytest

from collector.runtime.opening import source_of
from collector.settings import Settings

KEY = "SECRETkey0123456789abcdefghijklm"
FILTERS = "categories=111&purity=110&sorting=date_added&order=desc&resolutions=&ratios="


def settings(**changes: Any) -> Settings:
    api = {"wallhaven_api_url": "https://api.example/v1", "wallhaven_api_key": KEY}
    return Settings(**api, wallhaven_purity="110", **changes)


@pytest.mark.parametrize(
    ("changes", "question"),
    [
        ({"wallhaven_query": "elf"}, f"search?page=2&{FILTERS}&ai_art_filter=0&q=elf"),
        ({"wallhaven_query": "@me"}, f"search?page=2&{FILTERS}&ai_art_filter=0&q=%40me"),
        ({"wallhaven_query": "id:5"}, f"search?page=2&{FILTERS}&ai_art_filter=0&q=id%3A5"),
        ({"wallhaven_query": "*"}, f"search?page=2&{FILTERS}&ai_art_filter=0"),
        ({"wallhaven_collection": "me/15"}, "collections/me/15?page=2&purity=110"),
    ],
    ids=["search", "uploads", "tag", "everything", "collection"],
)
def test_what_is_mirrored(changes: dict[str, str], question: str) -> None:
    request = source_of(settings(**changes)).page_request(2)
    assert request.url == f"https://api.example/v1/{question}"
    assert request.headers["X-API-Key"] == KEY
