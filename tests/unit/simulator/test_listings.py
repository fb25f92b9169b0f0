"""Faulty listings and the account of a profile, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import ClientSession

from collector.simulator import (
    Account,
    Listing,
    Profile,
    Simulator,
    SimulatorOptions,
    open_simulator,
)

KEY = {"X-API-Key": "k" * 32}


def _options(
    listing: Listing | None = None, account: Account | None = None, **changes: Any
) -> SimulatorOptions:
    profile = Profile(listing=listing or Listing(), account=account or Account())
    return SimulatorOptions(
        **{"wallpapers": 100, "requests_per_minute": 0, **changes}, profile=profile
    )


async def _get(
    session: ClientSession,
    simulator: Simulator,
    path: str | None = None,
    headers: dict[str, str] | None = None,
    **parameters: str,
) -> tuple[int, dict[str, Any]]:
    url = simulator.api_url + (path or "/search")
    async with session.get(url, params=parameters, headers=headers) as response:
        return response.status, await response.json()


async def _count(session: ClientSession, simulator: Simulator, page: int) -> int:
    status, answer = await _get(session, simulator, page=str(page))
    assert (status, answer["meta"]["total"], answer["meta"]["last_page"]) == (200, 100, 5)
    return len(answer["data"])


@pytest.mark.parametrize(("times", "expected"), [(1, [24, 24]), (2, [0, 24]), (0, [0, 0])], ids=str)
async def test_a_page_is_empty_this_often(
    session: ClientSession, times: int, expected: list[int]
) -> None:
    listing = Listing(empty_pages=(2,), faulty_times=times)
    async with open_simulator(_options(listing)) as simulator:
        counts = [await _count(session, simulator, page) for page in (1, 2, 2, 2, 3)]
    assert counts == [24, 0, *expected, 24]


async def test_a_short_page_has_its_first_items(session: ClientSession) -> None:
    listing = Listing(short_pages=(2, 3))
    async with open_simulator(_options(listing)) as simulator:
        _, short = await _get(session, simulator, page="2")
        _, whole = await _get(session, simulator, page="2")
        assert len(whole["data"]) == 24
        assert short["data"] == whole["data"][:2]
        assert await _count(session, simulator, 3) == 2


async def test_the_seed_decides_how_wrong_totals_are(session: ClientSession) -> None:
    totals = []
    for _ in range(2):
        async with open_simulator(_options(Listing(total_off_by=3))) as simulator:
            answers = [await _get(session, simulator) for _ in range(40)]
        totals.append([answer["meta"]["total"] for _, answer in answers])
        assert all(answer["meta"]["last_page"] == 5 for _, answer in answers)
    assert totals[0] == totals[1]
    assert {97, 103} <= set(totals[0]) <= set(range(97, 104))


async def test_last_page_agrees_with_a_wrong_total(session: ClientSession) -> None:
    async with open_simulator(_options(Listing(total_off_by=9), wallpapers=1)) as simulator:
        for _ in range(20):
            _, answer = await _get(session, simulator)
            total = answer["meta"]["total"]
            assert 0 <= total <= 10
            assert answer["meta"]["last_page"] == 1


@pytest.mark.parametrize(
    ("per_page", "expected"), [("by_key", (24, "24")), ("string", ("24", "24"))]
)
async def test_types_of_per_page(
    session: ClientSession, per_page: str, expected: tuple[object, object]
) -> None:
    options = _options(Listing(per_page=per_page), Account(keys=("*",)))
    async with open_simulator(options) as simulator:
        for path in ("/search", "/collections/Archon/15"):
            found = [
                (await _get(session, simulator, path, headers))[1]["meta"]["per_page"]
                for headers in (None, KEY)
            ]
            assert tuple(found) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("as_asked", [None, "nature", {"id": 1, "tag": "anime"}]),
        (
            "object",
            [
                {"id": 5113, "tag": "draenei"},
                {"id": 37, "tag": "nature"},
                {"id": 1, "tag": "anime"},
            ],
        ),
    ],
)
async def test_types_of_query(session: ClientSession, query: str, expected: list[object]) -> None:
    async with open_simulator(_options(Listing(query=query))) as simulator:
        found = [await _get(session, simulator)]
        found += [await _get(session, simulator, q=asked) for asked in ("nature", "id:1")]
    assert [answer["meta"]["query"] for _, answer in found] == expected


async def test_a_page_after_the_last_one_is_empty_or_refused(session: ClientSession) -> None:
    refused = (400, {"error": "Bad Request"})
    listing = Listing(beyond_last="bad_request")
    async with open_simulator(_options(listing)) as simulator:
        assert (await _get(session, simulator, page="5"))[0] == 200
        assert await _get(session, simulator, page="6") == refused
        assert await _get(session, simulator, "/collections/Archon/15", page="3") == refused
    async with open_simulator(_options()) as simulator:
        status, answer = await _get(session, simulator, page="6")
        assert (status, answer["data"]) == (200, [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("q", "night"),
        ("categories", "010"),
        ("purity", "100"),
        ("atleast", "3840x2160"),
        ("resolutions", "1920x1080"),
        ("ratios", "16x9"),
        ("colors", "ffffff"),
    ],
)
async def test_an_ignored_filter_narrows_nothing(
    session: ClientSession, name: str, value: str
) -> None:
    shares: dict[str, Any] = {"sketchy_share": 0.3, "nsfw_share": 0.2}
    totals = []
    for ignored in ((), (name,)):
        options = _options(Listing(ignored_filters=ignored), **shares)
        async with open_simulator(options) as simulator:
            asked: dict[str, Any] = {"purity": "110", name: value}
            _, answer = await _get(session, simulator, **asked)
            totals.append(answer["meta"]["total"])
    visible = sum(item.purity != "nsfw" for item in simulator.catalogue)
    assert totals[0] < totals[1] == visible


async def test_an_ignored_range_is_the_usual_one(session: ClientSession) -> None:
    options = _options(Listing(ignored_filters=("topRange",)))
    async with open_simulator(options) as simulator:
        _, week = await _get(session, simulator, sorting="toplist", topRange="1y")
        _, month = await _get(session, simulator, sorting="toplist")
    assert week["meta"]["total"] == month["meta"]["total"] < 20


@pytest.mark.parametrize("size", [24, 32, 64])
async def test_pages_of_a_key_have_their_own_size(session: ClientSession, size: int) -> None:
    account = Account(keys=("k" * 32,), page_size=size)
    async with open_simulator(_options(account=account)) as simulator:
        _, keyed = await _get(session, simulator, headers=KEY)
        assert len(keyed["data"]) == size
        assert keyed["meta"]["per_page"] == str(size)
        assert keyed["meta"]["last_page"] == -(-100 // size)
        assert await _count(session, simulator, 1) == 24
        _, settings = await _get(session, simulator, "/settings", KEY)
        assert settings["data"]["per_page"] == str(size)


async def test_only_a_listed_key_is_valid(session: ClientSession) -> None:
    async with open_simulator(_options(account=Account(keys=("a",)))) as simulator:
        assert (await _get(session, simulator, headers={"X-API-Key": "a"}))[0] == 200
        assert await _get(session, simulator, headers=KEY) == (401, {"error": "Unauthorized"})
