"""The rate limit of a profile, over HTTP: windows, who has one, and what headers say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from aiohttp import ClientSession

from collector.simulator import Account, Limit, Profile, Simulator, SimulatorOptions, open_simulator

NOW = datetime(2026, 11, 20, 12, 0, 0, 300_000, tzinfo=UTC)


def _options(**limit: object) -> SimulatorOptions:
    return SimulatorOptions(
        wallpapers=1,
        profile=Profile(limit=Limit(**limit), account=Account(keys=("*",))),  # type: ignore[arg-type]
    )


async def _ask(
    session: ClientSession, simulator: Simulator, key: str = ""
) -> tuple[int, Mapping[str, str]]:
    headers = {"X-API-Key": key} if key else None
    async with session.get(f"{simulator.api_url}/search", headers=headers) as response:
        kept = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "Retry-After", "X-RateLimit-Reset")
        return response.status, {n: response.headers[n] for n in kept if n in response.headers}


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ({}, ("6", "1795176006")),
        ({"retry_after": "date"}, ("Fri, 20 Nov 2026 12:00:07 GMT", "1795176006")),
        ({"retry_after": "nonsense"}, ("soon", "1795176006")),
        ({"retry_after": "absurd"}, ("999999999", "1795176006")),
        ({"retry_after": "none"}, (None, "1795176006")),
        ({"reset": "nonsense"}, ("6", "soon")),
        ({"reset": "absurd"}, ("6", "2795175999")),
        ({"reset": "none"}, ("6", None)),
    ],
)
async def test_a_refusal_says_when_to_come_back_or_something_else(
    session: ClientSession, limit: dict[str, object], expected: tuple[str | None, str | None]
) -> None:
    options = _options(requests=1, window_seconds=6, **limit)
    async with open_simulator(options, clock=lambda: 0.0, now=lambda: NOW) as simulator:
        assert (await _ask(session, simulator))[0] == 200
        status, headers = await _ask(session, simulator)
    assert status == 429
    assert (headers.get("Retry-After"), headers.get("X-RateLimit-Reset")) == expected
    assert headers["X-RateLimit-Remaining"] == "0"


async def test_headers_can_be_left_out(session: ClientSession) -> None:
    async with open_simulator(_options(requests=1, headers=False)) as simulator:
        assert await _ask(session, simulator) == (200, {})
        status, headers = await _ask(session, simulator)
    assert (status, set(headers)) == (429, {"Retry-After"})


@pytest.mark.parametrize("window", ["fixed", "sliding"])
async def test_windows_take_as_long_as_the_profile_says(
    session: ClientSession, window: str
) -> None:
    now = [0.0]
    statuses = []
    options = _options(requests=2, window_seconds=6, window=window)
    async with open_simulator(options, clock=lambda: now[0]) as simulator:
        for now[0] in (0, 5, 5.5, 6, 6.5, 11.5):
            statuses.append((await _ask(session, simulator))[0])
    late = {"fixed": [200, 200, 429], "sliding": [200, 429, 200]}[window]
    assert statuses == [200, 200, 429, *late]


async def test_each_key_can_have_a_window(session: ClientSession) -> None:
    async with open_simulator(_options(requests=1, client="key")) as simulator:
        callers = ("", "", "a", "a", "b")
        statuses = [(await _ask(session, simulator, key))[0] for key in callers]
    assert statuses == [200, 429, 200, 429, 200]


async def test_each_address_has_one_otherwise(session: ClientSession) -> None:
    async with open_simulator(_options(requests=1)) as simulator:
        statuses = [(await _ask(session, simulator, key))[0] for key in ("", "a", "b")]
    assert statuses == [200, 429, 429]


async def test_no_limit_in_a_profile_is_no_limit_and_no_headers(session: ClientSession) -> None:
    async with open_simulator(_options(requests=0)) as simulator:
        answers = [await _ask(session, simulator) for _ in range(50)]
    assert answers == [(200, {})] * 50
