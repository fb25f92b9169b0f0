"""Outages of a profile, over HTTP."""

from __future__ import annotations

import pytest
from aiohttp import ClientSession

from collector.simulator import Limit, Outage, Profile, Simulator, SimulatorOptions, open_simulator


def _options(*outages: Outage, requests: int = 0) -> SimulatorOptions:
    profile = Profile(outages=outages, limit=Limit(requests=requests))
    return SimulatorOptions(wallpapers=1, profile=profile)


async def _statuses(session: ClientSession, simulator: Simulator, *paths: str) -> list[int]:
    statuses = []
    for path in paths:
        async with session.get(simulator.api_url + path) as response:
            statuses.append(response.status)
    return statuses


async def test_an_outage_takes_so_many_requests(session: ClientSession) -> None:
    options = _options(Outage(status=522, from_request=2, requests=3))
    async with open_simulator(options) as simulator:
        paths = ("/search", "/tag/1", "/nonsense", "/search", "/search")
        assert await _statuses(session, simulator, *paths) == [200, 522, 522, 522, 200]


async def test_it_may_come_again(session: ClientSession) -> None:
    options = _options(Outage(from_request=2, requests=1, every_requests=3))
    async with open_simulator(options) as simulator:
        statuses = await _statuses(session, simulator, *["/tag/1"] * 8)
    assert statuses == [200, 503, 200, 200, 503, 200, 200, 503]


async def test_an_outage_takes_so_many_seconds_from_the_first_request(
    session: ClientSession,
) -> None:
    now = [0.0]
    statuses = []
    options = _options(Outage(from_second=2, seconds=3))
    async with open_simulator(options, clock=lambda: now[0]) as simulator:
        for now[0] in (100, 101.9, 102, 104.9, 105):
            statuses += await _statuses(session, simulator, "/tag/1")
    assert statuses == [200, 200, 503, 503, 200]


async def test_it_may_take_down_a_few_endpoints(session: ClientSession) -> None:
    options = _options(Outage(requests=9, endpoints=("wallpaper", "settings")))
    async with open_simulator(options) as simulator:
        paths = ("/search", "/w/000000", "/settings", "/collections/Archon")
        assert await _statuses(session, simulator, *paths) == [200, 503, 503, 200]


async def test_the_first_of_two_counts(session: ClientSession) -> None:
    options = _options(Outage(status=500, requests=1), Outage(status=502, requests=2))
    async with open_simulator(options) as simulator:
        assert await _statuses(session, simulator, *["/tag/1"] * 3) == [500, 502, 200]


async def test_it_spends_nothing_of_the_limit_and_leaves_images_alone(
    session: ClientSession,
) -> None:
    async with open_simulator(_options(Outage(requests=2), requests=1)) as simulator:
        assert await _statuses(session, simulator, *["/tag/1"] * 4) == [503, 503, 200, 429]
    async with (
        open_simulator(_options(Outage(seconds=1_000))) as simulator,
        session.get(simulator.image_url(simulator.catalogue[0])) as response,
    ):
        assert response.status == 200


@pytest.mark.parametrize(
    ("outage", "status", "title"),
    [
        (Outage(requests=1), 503, "wallhaven.cc | 503"),
        (Outage(requests=1, status=526), 526, "wallhaven.cc | 526"),
        (Outage("challenge", requests=1), 403, "Just a moment..."),
        (Outage("challenge", requests=1, status=503), 503, "Just a moment..."),
        (Outage("html", requests=1), 200, "Awesome Wallpapers - wallhaven.cc"),
    ],
)
async def test_every_answer_is_html(
    session: ClientSession, outage: Outage, status: int, title: str
) -> None:
    async with (
        open_simulator(_options(outage)) as simulator,
        session.get(f"{simulator.api_url}/search") as response,
    ):
        assert (response.status, response.content_type) == (status, "text/html")
        assert f"<title>{title}</title>" in await response.text()
        mitigated = response.headers.get("cf-mitigated")
        assert mitigated == ("challenge" if outage.answer == "challenge" else None)
