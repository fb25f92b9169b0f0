"""What the tests of threats share: a hostile source, and what is known of its images.

The API and the image host are not trusted; database, bucket and operator are. Canaries are secrets
that must stand nowhere, and listeners that nobody may connect to.
"""

from __future__ import annotations

from typing import Any

import asyncpg
from faulty_world import FaultyWorld
from peers import http
from peers.exchange import Asked
from peers.http import HttpPeer

from collector.simulator import Hooks

Json = dict[str, Any]
API_KEY = "canary-of-the-api-key"
PERMISSIVE = {"collector_max_dead_percent": 100}


class Edits:
    """Changes of listed items, by their place in the list; a test fills them in once it may."""

    def __init__(self) -> None:
        self.of: dict[int, Json] = {}
        self._seen: dict[str, int] = {}

    @property
    def hooks(self) -> Hooks:
        """What makes a simulator list the changed items."""
        return Hooks(listing=self._listing)

    def all(self, count: int, **fields: Any) -> None:
        """Change the first `count` items alike."""
        self.of.update(dict.fromkeys(range(count), fields))

    def _listing(self, items: list[Json]) -> list[object]:
        return [item | self.of.get(self._place(item), {}) for item in items]

    def _place(self, item: Json) -> int:
        return self._seen.setdefault(item["id"], len(self._seen))


async def letters(world: FaultyWorld) -> dict[str | None, asyncpg.Record]:
    """Return the open dead letters, by the wallpaper's id."""
    found = await world.rows("SELECT * FROM draenei_content.dead_letters WHERE resolved_at IS NULL")
    return {letter["wallhaven_id"]: letter for letter in found}


def of_image(number: int, world: FaultyWorld) -> http.Match:
    """Match requests for the image of the wallpaper at a place of the list."""
    wanted = world.simulator.catalogue[number].image_path
    return lambda asked: asked.path == wanted


def everything(_: Asked) -> bool:
    return True


TEXTS = [
    *("url", "short_url", "source", "purity", "category", "resolution", "ratio"),
]


def hostile_item(text: str) -> Json:
    """Return the fields of an item that may hold any text, holding this one."""
    thumbs = dict.fromkeys(("large", "original", "small"), text)
    return {**dict.fromkeys(TEXTS, text), "colors": [text], "thumbs": thumbs, text: {text: [text]}}


def heard(peer: HttpPeer) -> str:
    """Return all that a peer was told."""
    return "".join(f"{it.target}{dict(it.headers)}{it.body!r}" for it in peer.asked)
