"""What the journal records of real requests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientSession, web

from collector.simulator import (
    Hooks,
    Journal,
    Simulator,
    SimulatorOptions,
    Visit,
    Wallpaper,
    open_simulator,
)
from collector.simulator.journal import kind_of

ImageHook = Callable[[web.Request, Wallpaper], Awaitable[web.StreamResponse | None]]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/search", "search"),
        ("/api/v1/w/abc123", "wallpaper"),
        ("/api/v1/tag/1", "tag"),
        ("/api/v1/settings", "settings"),
        ("/api/v1/collections/a/1", "collections"),
        ("/api/v1/nonsense", "other"),
        ("/full/ab/wallhaven-abc123.jpg", "image"),
        ("/small/ab/abc123.jpg", "thumb"),
        ("/", "other"),
    ],
)
def test_kinds(path: str, kind: str) -> None:
    assert kind_of(path) == kind


async def test_a_visit_tells_all_about_its_request(session: ClientSession) -> None:
    now = [50.0]
    async with open_simulator(SimulatorOptions(wallpapers=30), clock=lambda: now[0]) as simulator:
        async with session.get(f"{simulator.api_url}/search?page=2&q=%2Bnature") as response:
            await response.read()
        now[0] = 51.0
        async with session.get(f"{simulator.api_url}/w/000000") as response:
            await response.read()
        search, missing = simulator.journal.visits
    query = {"page": "2", "q": "+nature"}
    assert search == Visit(50.0, "search", "/api/v1/search", query, status=200, seconds=0.0)
    assert (missing.at, missing.kind, missing.status) == (51.0, "wallpaper", 404)


async def test_counters_are_exact(simulator: Simulator, session: ClientSession) -> None:
    wallpaper = simulator.catalogue[0]
    for path in ("/api/v1/search", "/api/v1/search?page=0", wallpaper.image_path, "/full/x"):
        async with session.get(simulator.url + path) as response:
            await response.read()
    journal = simulator.journal
    assert journal.requests == {"search": 2, "image": 2}
    assert journal.statuses == {
        ("search", 200): 1,
        ("search", 500): 1,
        ("image", 200): 1,
        ("image", 404): 1,
    }
    assert [visit.status for visit in journal.of("image")] == [200, 404]
    assert not any(journal.in_flight.values())


async def test_peaks_count_what_is_in_flight_at_once(session: ClientSession) -> None:
    everyone_is_here = asyncio.Barrier(5)

    async def meet(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse | None:
        await everyone_is_here.wait()
        return web.Response(body=b"x")

    async with open_simulator(SimulatorOptions(wallpapers=5), Hooks(image=meet)) as simulator:

        async def fetch(wallpaper: Wallpaper) -> None:
            async with session.get(simulator.image_url(wallpaper)) as response:
                await response.read()

        async with asyncio.timeout(10):
            await asyncio.gather(*map(fetch, simulator.catalogue))
        assert simulator.journal.peak_in_flight["image"] == 5
        await fetch_search(simulator, session)
        assert simulator.journal.peak_in_flight == {"image": 5, "search": 1}


async def fetch_search(simulator: Simulator, session: ClientSession) -> dict[str, Any]:
    async with session.get(f"{simulator.api_url}/search") as response:
        answer: dict[str, Any] = await response.json()
        return answer


async def test_a_body_that_is_cut_off_has_no_status_of_success(session: ClientSession) -> None:
    options = SimulatorOptions(wallpapers=3, image_bytes_per_second=100_000)
    async with open_simulator(options) as simulator:
        response = await session.get(simulator.image_url(simulator.catalogue[0]))
        await response.content.readexactly(1_000)
        response.close()
    (visit,) = simulator.journal.visits
    assert visit.status in (0, 499)
    assert simulator.journal.in_flight["image"] == 0


async def test_memory_is_bounded_while_counters_go_on(
    simulator: Simulator, session: ClientSession
) -> None:
    journal = simulator.journal
    journal.visits = type(journal.visits)(maxlen=3)
    for _ in range(5):
        await fetch_search(simulator, session)
    assert len(journal.visits) == 3
    assert journal.requests["search"] == 5
    assert Journal(clock=lambda: 0.0).visits.maxlen == 10_000
