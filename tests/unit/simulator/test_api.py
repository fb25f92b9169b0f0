"""The API over HTTP: shapes, silent behaviour and errors."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from aiohttp import ClientSession
from yarl import URL

from collector.simulator import Hooks, Simulator, SimulatorOptions, open_simulator

KEY = "k" * 32
KEYED = SimulatorOptions(
    wallpapers=300,
    requests_per_minute=0,
    api_keys=frozenset({KEY}),
    sketchy_share=0.2,
    nsfw_share=0.1,
)

ITEM_TYPES = {
    "id": str,
    "url": str,
    "short_url": str,
    "views": int,
    "favorites": int,
    "source": str,
    "purity": str,
    "category": str,
    "dimension_x": int,
    "dimension_y": int,
    "resolution": str,
    "ratio": str,
    "file_size": int,
    "file_type": str,
    "created_at": str,
    "colors": list,
    "path": str,
    "thumbs": dict,
}


async def _search(
    simulator: Simulator,
    session: ClientSession,
    headers: dict[str, str] | None = None,
    **parameters: str,
) -> dict[str, Any]:
    url = f"{simulator.api_url}/search"
    async with session.get(url, params=parameters, headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        answer: dict[str, Any] = await response.json()
        return answer


async def _status(simulator: Simulator, session: ClientSession, query: str) -> tuple[int, str]:
    url = URL(f"{simulator.api_url}/search?{query}", encoded=True)
    async with session.get(url) as response:
        return response.status, await response.text()


async def test_an_item_has_the_eighteen_keys_in_their_types(
    simulator: Simulator, session: ClientSession
) -> None:
    for item in (await _search(simulator, session, q="draenei"))["data"]:
        assert {key: type(value) for key, value in item.items()} == ITEM_TYPES
        assert re.fullmatch("[a-z0-9]{6}", item["id"])
        assert item["url"] == f"https://wallhaven.cc/w/{item['id']}"
        assert item["short_url"] == f"https://whvn.cc/{item['id']}"
        assert item["resolution"] == f"{item['dimension_x']}x{item['dimension_y']}"
        assert float(item["ratio"]) == round(item["dimension_x"] / item["dimension_y"], 2)
        assert not re.search(r"\.\d*0$|\.$", item["ratio"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", item["created_at"])
        assert len(item["colors"]) == 5
        assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in item["colors"])
        extension = {"image/jpeg": "jpg", "image/png": "png"}[item["file_type"]]
        shard = item["id"][:2]
        path = f"{simulator.url}/full/{shard}/wallhaven-{item['id']}.{extension}"
        assert item["path"] == path
        assert item["thumbs"] == {
            "large": f"{simulator.url}/lg/{shard}/{item['id']}.jpg",
            "original": f"{simulator.url}/orig/{shard}/{item['id']}.jpg",
            "small": f"{simulator.url}/small/{shard}/{item['id']}.jpg",
        }


async def test_sources_are_often_empty_and_never_null(
    simulator: Simulator, session: ClientSession
) -> None:
    sources = [item["source"] for item in (await _search(simulator, session))["data"]]
    assert "" in sources
    assert any(sources)


async def test_pages_cover_everything_once(simulator: Simulator, session: ClientSession) -> None:
    pages = [await _search(simulator, session, page=str(page)) for page in (1, 2, 3)]
    assert [len(page["data"]) for page in pages] == [24, 24, 12]
    ids = [item["id"] for page in pages for item in page["data"]]
    assert ids == [item.id for item in simulator.catalogue]
    assert pages[0]["meta"] == {
        "current_page": 1,
        "last_page": 3,
        "per_page": 24,
        "total": 60,
        "query": None,
        "seed": None,
    }


async def test_a_page_after_the_last_is_empty(simulator: Simulator, session: ClientSession) -> None:
    answer = await _search(simulator, session, page="4")
    assert answer["data"] == []
    assert answer["meta"]["current_page"] == 4
    assert (answer["meta"]["last_page"], answer["meta"]["total"]) == (3, 60)
    assert (await _search(simulator, session, page="100000"))["data"] == []


async def test_page_numbers_out_of_range(simulator: Simulator, session: ClientSession) -> None:
    assert (await _search(simulator, session, page="abc"))["meta"]["current_page"] == 1
    status, text = await _status(simulator, session, "page=0")
    assert status == 500
    assert "It broke" in text
    status, text = await _status(simulator, session, "page=100001")
    assert (status, json.loads(text)) == (400, {"error": "Bad Request"})


async def test_nothing_found_is_still_one_page(
    simulator: Simulator, session: ClientSession
) -> None:
    answer = await _search(simulator, session, purity="001")
    assert answer["data"] == []
    assert (answer["meta"]["total"], answer["meta"]["last_page"]) == (0, 1)


async def test_an_unknown_sorting_shows_nothing_of_the_full_total(
    simulator: Simulator, session: ClientSession
) -> None:
    answer = await _search(simulator, session, sorting="nonsense")
    assert answer["data"] == []
    assert (answer["meta"]["total"], answer["meta"]["last_page"]) == (60, 3)


@pytest.mark.parametrize(
    ("q", "echo"),
    [
        ("draenei", "draenei"),
        ("+nature -anime", "+nature -anime"),
        ("@Archon", ""),
        ("type:png", ""),
        ("id:37", {"id": 37, "tag": "nature"}),
        ("id:987654321", "id:987654321"),
    ],
)
async def test_the_query_is_echoed_as_text_or_object(
    simulator: Simulator, session: ClientSession, q: str, echo: object
) -> None:
    assert (await _search(simulator, session, q=q))["meta"]["query"] == echo


async def test_a_query_that_begins_with_like_is_challenged(
    simulator: Simulator, session: ClientSession
) -> None:
    wallpaper = simulator.catalogue[0]
    for query in (f"q=like:{wallpaper.id}", "Q=LIKE", "q=likeness&page=1"):
        url = URL(f"{simulator.api_url}/search?{query}", encoded=True)
        async with session.get(url) as response:
            assert response.status == 403
            assert response.content_type == "text/html"
            assert response.headers["cf-mitigated"] == "challenge"
            assert response.headers["Server"] == "cloudflare"
    for query in (f"page=1&q=like:{wallpaper.id}", f"q=%20like:{wallpaper.id}"):
        status, text = await _status(simulator, session, query)
        assert status == 200
        assert wallpaper.id in [item["id"] for item in json.loads(text)["data"]]


async def test_random_orders_change_with_each_answer(
    simulator: Simulator, session: ClientSession
) -> None:
    first = await _search(simulator, session, sorting="random", seed="abc123")
    second = await _search(simulator, session, sorting="random", seed="abc123")
    assert re.fullmatch("[a-zA-Z0-9]{6}", first["meta"]["seed"])
    assert first["meta"]["seed"] not in ("abc123", second["meta"]["seed"])
    assert first["data"] != second["data"]


@pytest.mark.parametrize("simulator", [KEYED], indirect=True)
async def test_a_key_shows_nsfw_and_makes_per_page_a_string(
    simulator: Simulator, session: ClientSession
) -> None:
    anonymous = await _search(simulator, session, purity="111")
    keyed = await _search(simulator, session, {"X-API-Key": KEY}, purity="111")
    assert await _search(simulator, session, purity="111", apikey=KEY) == keyed
    assert anonymous["meta"]["per_page"] == 24
    assert keyed["meta"]["per_page"] == "24"
    purities = [item.purity for item in simulator.catalogue]
    assert keyed["meta"]["total"] == 300
    assert anonymous["meta"]["total"] == 300 - purities.count("nsfw") < 300


@pytest.mark.parametrize("simulator", [KEYED], indirect=True)
async def test_a_bad_key_is_refused_and_an_empty_one_is_none(
    simulator: Simulator, session: ClientSession
) -> None:
    status, text = await _status(simulator, session, "apikey=wrong")
    assert (status, json.loads(text)) == (401, {"error": "Unauthorized"})
    status, _ = await _status(simulator, session, "apikey=&q=draenei")
    assert status == 200


@pytest.mark.parametrize(
    "simulator", [SimulatorOptions(requests_per_minute=0, page_size=64)], indirect=True
)
async def test_the_page_size_can_be_set(simulator: Simulator, session: ClientSession) -> None:
    answer = await _search(simulator, session)
    assert len(answer["data"]) == answer["meta"]["per_page"] == 64
    assert answer["meta"]["last_page"] == 4


async def test_hooks_may_serve_broken_things(session: ClientSession) -> None:
    def break_listing(items: list[dict[str, Any]]) -> list[object]:
        items[0]["source"] = "NUL \0 and lone surrogate \ud800"
        del items[1]["id"]
        return [*items, None, "text"]

    def break_page(number: int, page: dict[str, Any]) -> dict[str, Any]:
        return {**page, "extra": number}

    hooks = Hooks(listing=break_listing, page=break_page)
    async with open_simulator(SimulatorOptions(wallpapers=3), hooks) as simulator:
        answer = await _search(simulator, session)
    assert answer["data"][0]["source"] == "NUL \0 and lone surrogate \ud800"
    assert "id" not in answer["data"][1]
    assert answer["data"][3:] == [None, "text"]
    assert answer["extra"] == 1


@pytest.mark.parametrize(
    "simulator", [SimulatorOptions(wallpapers=100_000, requests_per_minute=0)], indirect=True
)
async def test_any_page_of_a_hundred_thousand_items_comes_at_once(
    simulator: Simulator, session: ClientSession
) -> None:
    await _search(simulator, session, q="draenei")
    started = time.process_time()
    answer = await _search(simulator, session, q="draenei", page="4167")
    assert time.process_time() - started < 0.5
    assert answer["meta"]["total"] == 100_000
    assert len(answer["data"]) == 16


ACCOUNT = SimulatorOptions(
    wallpapers=120, requests_per_minute=0, api_keys=frozenset({KEY}), nsfw_share=0.2
)
with_account = pytest.mark.parametrize("simulator", [ACCOUNT], indirect=True)


async def _get(
    simulator: Simulator, session: ClientSession, path: str, key: str | None = None
) -> tuple[int, dict[str, Any]]:
    headers = {"X-API-Key": key} if key else None
    async with session.get(simulator.api_url + path, headers=headers) as response:
        return response.status, await response.json()


@with_account
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


@with_account
async def test_a_wallpaper_agrees_with_its_listing(
    simulator: Simulator, session: ClientSession
) -> None:
    _, listing = await _get(simulator, session, "/search?q=draenei")
    item = listing["data"][0]
    _, answer = await _get(simulator, session, f"/w/{item['id']}")
    assert {key: answer["data"][key] for key in item} == item


@with_account
@pytest.mark.parametrize("wallhaven_id", ["000000", "94x38z", "nonsense", "%00"])
async def test_unknown_wallpapers_are_not_here(
    simulator: Simulator, session: ClientSession, wallhaven_id: str
) -> None:
    answer = await _get(simulator, session, f"/w/{wallhaven_id}")
    assert answer == (404, {"error": "Nothing here"})


@with_account
async def test_nsfw_wallpapers_need_a_key(simulator: Simulator, session: ClientSession) -> None:
    hidden = next(item for item in simulator.catalogue if item.purity == "nsfw")
    refused = (401, {"error": "Unauthorized"})
    assert await _get(simulator, session, f"/w/{hidden.id}") == refused
    assert await _get(simulator, session, f"/w/{hidden.id}", "wrong") == refused
    status, answer = await _get(simulator, session, f"/w/{hidden.id}", KEY)
    assert (status, answer["data"]["purity"]) == (200, "nsfw")


@with_account
async def test_tags(simulator: Simulator, session: ClientSession) -> None:
    status, answer = await _get(simulator, session, "/tag/1")
    assert status == 200
    assert answer["data"]["name"] == "anime"
    assert answer["data"]["alias"] == "Japanese cartoon, 動漫"
    for unknown in ("0", "abc", "9" * 5_000):
        nothing = (404, {"error": "Nothing here"})
        assert await _get(simulator, session, f"/tag/{unknown}") == nothing


@with_account
async def test_settings(simulator: Simulator, session: ClientSession) -> None:
    assert await _get(simulator, session, "/settings") == (401, {"error": "Unauthorized"})
    bad_key = await _get(simulator, session, "/settings", "wrong")
    assert bad_key == (404, {"error": "Nothing here"})
    status, answer = await _get(simulator, session, "/settings", KEY)
    assert status == 200
    assert answer["data"]["per_page"] == "24"
    assert answer["data"]["ai_art_filter"] == 1


@with_account
async def test_own_collections_need_a_key(simulator: Simulator, session: ClientSession) -> None:
    assert await _get(simulator, session, "/collections") == (404, {"error": "Nothing here"})
    bad_key = await _get(simulator, session, "/collections", "wrong")
    assert bad_key == (401, {"error": "Unauthorized"})
    _, answer = await _get(simulator, session, "/collections", KEY)
    assert answer["data"] == [
        {"id": 15, "label": "Default", "views": 38, "public": 1, "count": 40},
        {"id": 16, "label": "Later", "views": 0, "public": 0, "count": 18},
    ]


@with_account
async def test_users_show_their_public_collections(
    simulator: Simulator, session: ClientSession
) -> None:
    _, answer = await _get(simulator, session, "/collections/Archon")
    assert [item["id"] for item in answer["data"]] == [15]
    assert await _get(simulator, session, "/collections/farseer") == (200, {"data": []})
    bad_key = await _get(simulator, session, "/collections/Archon", "wrong")
    assert bad_key == (401, {"error": "Unauthorized"})


@with_account
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


@with_account
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


@with_account
@pytest.mark.parametrize("path", ["/w/abc123/similar", "/user", "/user/archon", "/nonsense"])
async def test_unknown_routes(simulator: Simulator, session: ClientSession, path: str) -> None:
    assert await _get(simulator, session, path) == (404, {"error": "Not Found"})


@with_account
async def test_other_methods_are_refused(simulator: Simulator, session: ClientSession) -> None:
    async with session.post(f"{simulator.api_url}/search") as response:
        assert response.status == 405
        assert response.content_type == "application/json"
