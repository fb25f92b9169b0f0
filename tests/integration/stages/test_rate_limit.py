"""The limit as the simulator's own log of request times sees it: never over it, nearly all used."""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import anyio
import pytest
from world import OpenWorld

from collector.catalog import Allowance, SharedBudget, open_database
from collector.core.errors import Outage
from collector.core.runs import RunStatus, StageName
from collector.http import open_http
from collector.simulator import (
    Limit,
    Profile,
    Simulator,
    SimulatorOptions,
    open_simulator,
)
from collector.simulator import (
    Outage as SiteOutage,
)
from collector.sources import ApiRequest
from collector.stages.api_client import ApiClient
from collector.stages.pacing import Pacer

REQUESTS = 20
WINDOW_SECONDS = 1.5
WINDOWS = 3
TASKS = 6


def limited(window: str, requests: int = REQUESTS) -> SimulatorOptions:
    limit = Limit(requests=requests, window_seconds=WINDOW_SECONDS, window=window)
    return SimulatorOptions(profile=Profile(limit=limit))


async def ask(dsn: str, simulator: Simulator, in_flight: int = TASKS) -> None:
    """Ask as one process does, with a pool and sockets of its own, as fast as it may."""
    allowance = Allowance(urlsplit(simulator.url).netloc, REQUESTS, WINDOW_SECONDS)
    async with (
        open_database(dsn) as database,
        open_http(image_hosts=frozenset(), user_agent="test", connections=TASKS) as http,
        anyio.create_task_group() as tasks,
    ):
        pacer = Pacer(SharedBudget(database, allowance), time.monotonic)
        api = ApiClient(http, pacer, epoch_clock=time.time, retry_base_seconds=0.1)

        async def keep_asking() -> None:
            while True:
                await api.get(ApiRequest(f"{simulator.api_url}/search", {}), json.loads)

        for _ in range(in_flight):
            tasks.start_soon(keep_asking)


async def arrivals(dsn: str, simulator: Simulator, processes: int) -> list[float]:
    """Let so many processes ask for some windows; return when their requests arrived."""
    with anyio.move_on_after(WINDOWS * WINDOW_SECONDS):
        async with anyio.create_task_group() as tasks:
            for _ in range(processes):
                tasks.start_soon(ask, dsn, simulator)
    assert simulator.journal.statuses["search", 429] == 0
    return [visit.at for visit in simulator.journal.of("search")]


@pytest.mark.case("SEC-16")
@pytest.mark.parametrize("window", ["fixed", "sliding"])
@pytest.mark.parametrize("processes", [1, 3])
async def test_processes_are_never_refused_and_use_the_limit_up(
    dsn: str, processes: int, window: str
) -> None:
    async with open_simulator(limited(window)) as simulator:
        arrived = await arrivals(dsn, simulator, processes)
    for start in arrived:
        assert sum(start <= at < start + WINDOW_SECONDS for at in arrived) <= REQUESTS
    # The last window may have begun too late for all of its requests.
    assert len(arrived) >= (WINDOWS - 1) * REQUESTS


async def test_where_others_use_the_limit_too_it_is_shared_with_them(dsn: str) -> None:
    async with open_simulator(limited("fixed")) as simulator, AsyncExitStack() as stack:
        http = await stack.enter_async_context(
            open_http(image_hosts=frozenset(), user_agent="somebody else", connections=1)
        )
        for _ in range(REQUESTS // 2):
            await http.get(f"{simulator.api_url}/search", {})
        began = simulator.journal.visits[0].at
        with anyio.move_on_after(WINDOW_SECONDS):
            # With more in flight, their own number is what we may be wrong by.
            await ask(dsn, simulator, in_flight=1)
        visits = simulator.journal.of("search")
    assert not [visit for visit in visits if visit.status == 429]
    assert len([it for it in visits if it.at < began + WINDOW_SECONDS]) == REQUESTS


@pytest.mark.case("SEC-16")
async def test_a_429_pauses_all_processes(dsn: str) -> None:
    # The server allows less than it is known to, and its first word of that is a 429.
    limit = Limit(requests=5, window_seconds=WINDOW_SECONDS, headers=False)
    async with open_simulator(SimulatorOptions(profile=Profile(limit=limit))) as simulator:
        with anyio.move_on_after(2 * WINDOW_SECONDS):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask, dsn, simulator)
        visits = simulator.journal.of("search")
    refused = [visit for visit in visits if visit.status == 429]
    assert refused
    noticed_at = refused[0].at + 0.3  # what was under way by then could not know
    paused_until = refused[0].at + 1.0  # the least pause
    assert not [visit for visit in visits if noticed_at < visit.at < paused_until]


async def test_an_outage_is_outlasted_and_told_in_the_audit(open_world: OpenWorld) -> None:
    profile = Profile(outages=(SiteOutage(status=521, from_request=2, requests=3),))
    options = SimulatorOptions(wallpapers=60, requests_per_minute=0, profile=profile)
    async with open_world(options, collector_retry_base_seconds=0.2) as world:
        await world.stage(StageName.EXTRACT)
        await world.stage(StageName.LOAD)
        audit = await world.stage(StageName.AUDIT)
        assert audit.status is RunStatus.SUCCEEDED
        assert audit.report["stages"]["extract"]["outage_seconds"] >= 0.1
        assert audit.api_requests == world.simulator.journal.requests["search"]
        assert audit.metadata_inserted == 60


async def test_a_run_that_gives_an_outage_up_is_red_and_says_where_it_stopped(
    open_world: OpenWorld,
) -> None:
    profile = Profile(outages=(SiteOutage(from_request=2, requests=10_000),))
    options = SimulatorOptions(wallpapers=60, requests_per_minute=0, profile=profile)
    async with open_world(options, collector_retry_base_seconds=0.02) as world:
        audit = await world.run()
        assert audit.status is RunStatus.FAILED
        seconds = audit.report["stages"]["extract"]["outage_seconds"]
        assert seconds >= 180 * 0.02
        assert audit.report["outage_minutes"] == pytest.approx(seconds / 60, abs=0.01)
        assert "extract: api: no usable answer for " in audit.notes
        assert "(HTTP 503); stopped at http://127.0.0.1" in audit.notes
        assert "page=" in audit.notes
        assert "the API was down for " in audit.notes
        assert audit.api_requests == world.simulator.journal.requests["search"]


async def test_an_api_that_cannot_be_reached_fails_soon(open_world: OpenWorld) -> None:
    options = SimulatorOptions(wallpapers=1, requests_per_minute=0)
    async with open_world(options, wallhaven_api_url="http://127.0.0.1:9/api/v1") as world:
        began = time.monotonic()
        with pytest.raises(Outage, match=r"cannot connect .*stopped at http://127.0.0.1:9/"):
            await world.stage(StageName.EXTRACT)
        assert time.monotonic() - began < 30
