"""The API beside `/search`: single items, tags, settings, collections, limits and errors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import ClientSession

from collector.simulator import Simulator, SimulatorOptions, open_simulator

KEY = "k" * 32
OPTIONS = SimulatorOptions(
    wallpapers=120, requests_per_minute=0, api_keys=frozenset({KEY}), nsfw_share=0.2
)
pytestmark = pytest.mark.parametrize("simulator", [OPTIONS], indirect=True)


async def _get(
    simulator: Simulator, session: ClientSession, path: str, key: str | None = None
) -> tuple[int, dict[str, Any]]:
    headers = {"X-API-Key": key} if key else None
    async with session.get(simulator.api_url + path, headers=headers) as response:
        return response.status, await response.json()


async def test_a_wallpaper_has_uploader_and_tags(
    simulator: Simulator, session: ClientSession
) -> None:
    wallpaper = next(item for item in simulator.catalogue if item.purity == "sfw")
    status, answer = await _get(simulator, session, f"/w/{wallpaper.id}")
    data = answer["data"]
    assert status == 200
    assert len(data) == 20
    assert data["id"] == wallpaper.id
    assert data["file_size"] == wallpaper.file_size
    assert data["path"] == simulator.image_url(wallpaper)
    assert data["uploader"]["username"] == wallpaper.uploader.username
    assert set(data["uploader"]) == {"username", "group", "avatar"}
    assert set(data["uploader"]["avatar"]) == {"200px", "128px", "32px", "20px"}
    assert [tag["name"] for tag in data["tags"]] == [tag.name for tag in wallpaper.tags]
    assert {key: type(value) for key, value in data["tags"][0].items()} == {
        "id": int,
        "name": str,
        "alias": str,
        "category_id": int,
        "category": str,
        "purity": str,
        "created_at": str,
    }


async def test_a_wallpaper_agrees_with_its_listing(
    simulator: Simulator, session: ClientSession
) -> None:
    _, listing = await _get(simulator, session, "/search?q=draenei")
    item = listing["data"][0]
    _, answer = await _get(simulator, session, f"/w/{item['id']}")
    assert {key: answer["data"][key] for key in item} == item


@pytest.mark.parametrize("wallhaven_id", ["000000", "94x38z", "nonsense", "%00"])
async def test_unknown_wallpapers_are_not_here(
    simulator: Simulator, session: ClientSession, wallhaven_id: str
) -> None:
    answer = await _get(simulator, session, f"/w/{wallhaven_id}")
    assert answer == (404, {"error": "Nothing here"})


async def test_nsfw_wallpapers_need_a_key(simulator: Simulator, session: ClientSession) -> None:
    hidden = next(item for item in simulator.catalogue if item.purity == "nsfw")
    refused = (401, {"error": "Unauthorized"})
    assert await _get(simulator, session, f"/w/{hidden.id}") == refused
    assert await _get(simulator, session, f"/w/{hidden.id}", "wrong") == refused
    status, answer = await _get(simulator, session, f"/w/{hidden.id}", KEY)
    assert (status, answer["data"]["purity"]) == (200, "nsfw")


async def test_tags(simulator: Simulator, session: ClientSession) -> None:
    status, answer = await _get(simulator, session, "/tag/1")
    assert status == 200
    assert answer["data"]["name"] == "anime"
    assert answer["data"]["alias"] == "Japanese cartoon, 動漫"
    for unknown in ("0", "abc", "9" * 5_000):
        nothing = (404, {"error": "Nothing here"})
        assert await _get(simulator, session, f"/tag/{unknown}") == nothing


async def test_settings(simulator: Simulator, session: ClientSession) -> None:
    assert await _get(simulator, session, "/settings") == (401, {"error": "Unauthorized"})
    bad_key = await _get(simulator, session, "/settings", "wrong")
    assert bad_key == (404, {"error": "Nothing here"})
    status, answer = await _get(simulator, session, "/settings", KEY)
    assert status == 200
    assert answer["data"]["per_page"] == "24"
    assert answer["data"]["ai_art_filter"] == 1


async def test_own_collections_need_a_key(simulator: Simulator, session: ClientSession) -> None:
    assert await _get(simulator, session, "/collections") == (404, {"error": "Nothing here"})
    bad_key = await _get(simulator, session, "/collections", "wrong")
    assert bad_key == (401, {"error": "Unauthorized"})
    _, answer = await _get(simulator, session, "/collections", KEY)
    assert answer["data"] == [
        {"id": 15, "label": "Default", "views": 38, "public": 1, "count": 40},
        {"id": 16, "label": "Later", "views": 0, "public": 0, "count": 18},
    ]


async def test_users_show_their_public_collections(
    simulator: Simulator, session: ClientSession
) -> None:
    _, answer = await _get(simulator, session, "/collections/Archon")
    assert [item["id"] for item in answer["data"]] == [15]
    assert await _get(simulator, session, "/collections/farseer") == (200, {"data": []})
    bad_key = await _get(simulator, session, "/collections/Archon", "wrong")
    assert bad_key == (401, {"error": "Unauthorized"})


async def test_a_collection_has_items_and_four_keys_of_meta(
    simulator: Simulator, session: ClientSession
) -> None:
    status, answer = await _get(simulator, session, "/collections/Archon/15?page=2")
    expected = [item.id for item in simulator.catalogue[::3] if item.purity == "sfw"]
    assert status == 200
    assert [item["id"] for item in answer["data"]] == expected[24:]
    assert answer["meta"] == {
        "current_page": 2,
        "last_page": 2,
        "per_page": 24,
        "total": len(expected),
    }
    _, answer = await _get(simulator, session, "/collections/Archon/15?purity=111", KEY)
    assert (answer["meta"]["total"], answer["meta"]["per_page"]) == (40, "24")


async def test_private_and_unknown_collections(
    simulator: Simulator, session: ClientSession
) -> None:
    nothing = (404, {"error": "Nothing here"})
    assert await _get(simulator, session, "/collections/Archon/16") == nothing
    assert await _get(simulator, session, "/collections/Archon/99") == nothing
    status, _ = await _get(simulator, session, "/collections/Archon/16", KEY)
    assert status == 200
    bad_key = await _get(simulator, session, "/collections/Archon/15", "wrong")
    assert bad_key == (401, {"error": "Unauthorized"})


@pytest.mark.parametrize("path", ["/w/abc123/similar", "/user", "/user/archon", "/nonsense"])
async def test_unknown_routes(simulator: Simulator, session: ClientSession, path: str) -> None:
    assert await _get(simulator, session, path) == (404, {"error": "Not Found"})


async def test_other_methods_are_refused(simulator: Simulator, session: ClientSession) -> None:
    async with session.post(f"{simulator.api_url}/search") as response:
        assert response.status == 405
        assert response.content_type == "application/json"


async def test_without_a_limit_there_are_no_headers_of_it(
    simulator: Simulator, session: ClientSession
) -> None:
    async with session.get(f"{simulator.api_url}/search") as response:
        assert not [name for name in response.headers if "ratelimit" in name.lower()]


class TestRateLimit:
    async def test_the_limit_counts_down_on_every_answer_then_refuses_in_html(
        self, simulator: Simulator, session: ClientSession
    ) -> None:
        now = [100.0]
        epoch = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
        options = SimulatorOptions(wallpapers=30, requests_per_minute=5)
        async with open_simulator(options, clock=lambda: now[0], now=lambda: epoch) as limited:
            paths = ("/search", "/w/000000", "/nonsense", "/search?page=0", "/tag/1")
            for used, path in enumerate(paths, start=1):
                async with session.get(limited.api_url + path) as response:
                    assert response.headers["X-RateLimit-Limit"] == "5"
                    assert response.headers["X-RateLimit-Remaining"] == str(5 - used)
                    assert "Retry-After" not in response.headers
            now[0] += 31.5
            async with session.get(limited.api_url + "/search") as response:
                assert response.status == 429
                assert response.content_type == "text/html"
                title = "<title>Too many requests - wallhaven.cc</title>"
                assert title in await response.text()
                assert response.headers["X-RateLimit-Remaining"] == "0"
                assert response.headers["Retry-After"] == "29"
                assert response.headers["X-RateLimit-Reset"] == str(int(epoch.timestamp()) + 29)
            now[0] += 29
            async with session.get(limited.api_url + "/search") as response:
                assert response.status == 200
                assert response.headers["X-RateLimit-Remaining"] == "4"

    async def test_the_default_limit_is_the_documented_one(
        self, simulator: Simulator, session: ClientSession
    ) -> None:
        async with open_simulator() as limited:
            statuses = []
            for _ in range(46):
                async with session.get(limited.api_url + "/tag/1") as response:
                    statuses.append(response.status)
        assert statuses == [200] * 45 + [429]

    async def test_pictures_and_challenges_are_not_counted(
        self, simulator: Simulator, session: ClientSession
    ) -> None:
        options = SimulatorOptions(wallpapers=3, requests_per_minute=1)
        async with open_simulator(options) as limited:
            async with session.get(f"{limited.api_url}/search?q=like") as response:
                assert response.status == 403
            async with session.get(f"{limited.api_url}/search") as response:
                assert response.status == 200
            async with session.get(f"{limited.api_url}/search") as response:
                assert response.status == 429
            async with session.get(limited.image_url(limited.catalogue[0])) as response:
                assert response.status == 200
                assert not [name for name in response.headers if "ratelimit" in name.lower()]
