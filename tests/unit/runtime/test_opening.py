"""What the settings name: a search or a collection, and a home for the embedded servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collector.cli.progress import SilentProgress
from collector.core.errors import Outage
from collector.runtime.opening import Need, open_runtime, source_of
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


async def test_a_home_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    home = tmp_path / "file" / "home"
    home.parent.touch()
    with pytest.raises(Outage) as caught:
        async with open_runtime(
            Settings(_env_file=None, database_url=None, collector_home=home),
            Need.DATABASE,
            SilentProgress(),
        ):
            pass
    assert caught.value.problem == (
        f"COLLECTOR_HOME {home} cannot be used: Not a directory; nothing was stored."
        " Set it to a folder that you can write"
    )
