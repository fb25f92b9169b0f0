"""A served simulator and a client for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from collector.simulator import Simulator, SimulatorOptions, open_simulator


@pytest.fixture
async def simulator(request: pytest.FixtureRequest) -> AsyncIterator[Simulator]:
    """Sixty wallpapers without a rate limit, or the options given by indirect parametrize."""
    options = getattr(request, "param", SimulatorOptions(wallpapers=60, requests_per_minute=0))
    async with open_simulator(options) as opened:
        yield opened


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as opened:
        yield opened
