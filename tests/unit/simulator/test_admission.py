"""What stops an API request: the rate limit with its headers, and outages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from aiohttp import ClientSession

from collector.simulator import (
    Limit,
    Outage,
    Profile,
    Simulator,
    SimulatorOptions,
    open_simulator,
)
from collector.simulator.admission import Grant, RateLimit

NOW = datetime(2026, 11, 20, 12, 0, 0, 300_000, tzinfo=UTC)


class _Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def _windows(clock: _Clock, limit: Limit) -> RateLimit:
    return RateLimit(limit, clock, lambda: NOW)


def test_a_window_begins_with_the_first_request_and_refuses_beyond_its_limit() -> None:
    clock = _Clock()
    windows = _windows(clock, Limit(requests=2))
    assert windows.ask("a") == Grant(True, 1, 60)
    clock.now += 30.5
    assert windows.ask("a") == Grant(True, 0, 30)
    assert windows.ask("a") == Grant(False, 0, 30)
    clock.now += 29.4
    assert windows.ask("a") == Grant(False, 0, 1)
    clock.now += 0.1
    assert windows.ask("a") == Grant(True, 1, 60)


def test_waiting_for_retry_after_is_enough() -> None:
    clock = _Clock()
    windows = _windows(clock, Limit(requests=1))
    windows.ask("a")
    clock.now += 0.001
    clock.now += windows.ask("a").retry_after_seconds
    assert windows.ask("a").allowed


def test_clients_have_windows_of_their_own() -> None:
    windows = _windows(_Clock(), Limit(requests=1))
    assert windows.ask("a").allowed
    assert windows.ask("b").allowed
    assert not windows.ask("a").allowed


def test_a_window_can_be_scaled() -> None:
    clock = _Clock()
    windows = _windows(clock, Limit(requests=1, window_seconds=1.5))
    assert windows.ask("a") == Grant(True, 0, 2)
    clock.now += 1.4
    assert not windows.ask("a").allowed
    clock.now += 0.1
    assert windows.ask("a").allowed


def test_a_sliding_window_frees_its_requests_one_by_one() -> None:
    clock = _Clock()
    windows = _windows(clock, Limit(requests=2, window_seconds=6, window="sliding"))
    assert windows.ask("a") == Grant(True, 1, 6)
    clock.now += 4
    assert windows.ask("a") == Grant(True, 0, 2)
    assert windows.ask("a") == Grant(False, 0, 2)
    assert windows.ask("b").allowed
    clock.now += 2
    assert windows.ask("a") == Grant(True, 0, 4)
    assert not windows.ask("a").allowed


def _options(**limit: object) -> SimulatorOptions:
    return SimulatorOptions(
        wallpapers=1,
        profile=Profile(limit=Limit(**limit)),  # type: ignore[arg-type]
    )


async def _ask(session: ClientSession, simulator: Simulator) -> tuple[int, Mapping[str, str]]:
    async with session.get(f"{simulator.api_url}/search") as response:
        kept = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "Retry-After", "X-RateLimit-Reset")
        return response.status, {n: response.headers[n] for n in kept if n in response.headers}


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({}, ("6", "1795176006")),
        ({"retry_after": "date"}, ("Fri, 20 Nov 2026 12:00:07 GMT", "1795176006")),
    ],
)
async def test_a_refusal_says_when_the_window_ends(
    session: ClientSession, limit: dict[str, object], expected: tuple[str, str]
) -> None:
    options = _options(requests=1, window_seconds=6, **limit)
    async with open_simulator(options, clock=lambda: 0.0, now=lambda: NOW) as simulator:
        assert (await _ask(session, simulator))[0] == 200
        status, headers = await _ask(session, simulator)
    assert status == 429
    assert (headers.get("Retry-After"), headers.get("X-RateLimit-Reset")) == expected
    assert headers["X-RateLimit-Remaining"] == "0"


async def test_the_limit_counts_down_with_each_answer_then_refuses_in_html(
    session: ClientSession,
) -> None:
    options = SimulatorOptions(wallpapers=30, requests_per_minute=5)
    async with open_simulator(options) as limited:
        paths = ("/search", "/w/000000", "/nonsense", "/search?page=0", "/tag/1")
        for used, path in enumerate(paths, start=1):
            async with session.get(limited.api_url + path) as response:
                assert response.headers["X-RateLimit-Limit"] == "5"
                assert response.headers["X-RateLimit-Remaining"] == str(5 - used)
                assert "Retry-After" not in response.headers
        async with session.get(limited.api_url + "/search") as response:
            assert (response.status, response.content_type) == (429, "text/html")
            assert "<title>Too many requests - wallhaven.cc</title>" in await response.text()


async def test_the_default_limit_is_the_documented_one(session: ClientSession) -> None:
    async with open_simulator() as limited:
        statuses = [(await _ask(session, limited))[0] for _ in range(46)]
    assert statuses == [200] * 45 + [429]


async def test_images_and_challenges_are_not_counted(session: ClientSession) -> None:
    options = SimulatorOptions(wallpapers=3, requests_per_minute=1)
    async with open_simulator(options) as limited:
        async with session.get(f"{limited.api_url}/search?q=like") as response:
            assert response.status == 403
        assert [(await _ask(session, limited))[0] for _ in range(2)] == [200, 429]
        async with session.get(limited.image_url(limited.catalogue[0])) as response:
            assert response.status == 200
            assert not [name for name in response.headers if "ratelimit" in name.lower()]


async def test_headers_can_be_left_out(session: ClientSession) -> None:
    async with open_simulator(_options(requests=1, headers=False)) as simulator:
        assert await _ask(session, simulator) == (200, {})
        status, headers = await _ask(session, simulator)
    assert (status, set(headers)) == (429, {"Retry-After"})


async def test_a_limit_of_zero_refuses_nothing_and_adds_no_headers(session: ClientSession) -> None:
    async with open_simulator(_options(requests=0)) as simulator:
        answers = [await _ask(session, simulator) for _ in range(50)]
    assert answers == [(200, {})] * 50


# --- Outages ---


def _outages(*outages: Outage, requests: int = 0) -> SimulatorOptions:
    profile = Profile(outages=outages, limit=Limit(requests=requests))
    return SimulatorOptions(wallpapers=1, profile=profile)


async def _statuses(session: ClientSession, simulator: Simulator, *paths: str) -> list[int]:
    statuses = []
    for path in paths:
        async with session.get(simulator.api_url + path) as response:
            statuses.append(response.status)
    return statuses


async def test_an_outage_affects_a_number_of_requests(session: ClientSession) -> None:
    options = _outages(Outage(status=522, from_request=2, requests=3))
    async with open_simulator(options) as simulator:
        paths = ("/search", "/tag/1", "/nonsense", "/search", "/search")
        assert await _statuses(session, simulator, *paths) == [200, 522, 522, 522, 200]


async def test_an_outage_may_repeat(session: ClientSession) -> None:
    options = _outages(Outage(from_request=2, requests=1, every_requests=3))
    async with open_simulator(options) as simulator:
        statuses = await _statuses(session, simulator, *["/tag/1"] * 8)
    assert statuses == [200, 503, 200, 200, 503, 200, 200, 503]


async def test_the_first_of_two_overlapping_outages_answers(session: ClientSession) -> None:
    options = _outages(Outage(status=500, requests=1), Outage(status=502, requests=2))
    async with open_simulator(options) as simulator:
        assert await _statuses(session, simulator, *["/tag/1"] * 3) == [500, 502, 200]


async def test_an_outage_uses_none_of_the_limit_and_does_not_affect_images(
    session: ClientSession,
) -> None:
    async with open_simulator(_outages(Outage(requests=2), requests=1)) as simulator:
        assert await _statuses(session, simulator, *["/tag/1"] * 4) == [503, 503, 200, 429]
    async with (
        open_simulator(_outages(Outage(requests=1_000))) as simulator,
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
async def test_each_answer_of_an_outage_is_html(
    session: ClientSession, outage: Outage, status: int, title: str
) -> None:
    async with (
        open_simulator(_outages(outage)) as simulator,
        session.get(f"{simulator.api_url}/search") as response,
    ):
        assert (response.status, response.content_type) == (status, "text/html")
        assert f"<title>{title}</title>" in await response.text()
        mitigated = response.headers.get("cf-mitigated")
        assert mitigated == ("challenge" if outage.answer == "challenge" else None)
