# ruff: noqa: INP001 - a script
"""How much of the rate limit several processes use together, and whether they are ever refused.

    python benchmarks/rate_limit.py > benchmarks/results/rate_limit.json

1 and then 4 processes send requests as fast as they may, for 60 windows, to a simulator with the
API's fixed window, scaled to 45 requests in 6 s. They share only an embedded PostgreSQL. The counts
come from the simulator's journal. The available slots are those of 60 consecutive windows from the
first request on; `seconds_per_window` is the real distance between bursts of 45 requests.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import urlsplit

import anyio

from collector.catalog import Allowance, SharedBudget, open_database
from collector.catalog.migrations import migrate
from collector.http import open_http
from collector.local import open_local_servers
from collector.simulator import Journal, Limit, Profile, SimulatorOptions, Visit, open_simulator
from collector.sources import ApiRequest
from collector.stages.api_client import ApiClient
from collector.stages.pacing import Pacer

REQUESTS = 45
WINDOW_SECONDS = 6.0
# The pages in flight of an extract.
TASKS = 8
DATABASE = "RATE_LIMIT_DATABASE"


def main() -> None:
    """Print the figures as one JSON object, or run as one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--ask", metavar="API_URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        asyncio.run(_ask(options.ask, os.environ[DATABASE]))
        return
    figures = {
        "command": "python benchmarks/rate_limit.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}",
        "requests_per_window": REQUESTS,
        "window_seconds": WINDOW_SECONDS,
        "runs": [asyncio.run(_measure(each, options.windows)) for each in options.processes],
    }
    json.dump(figures, sys.stdout, indent=2)
    sys.stdout.write("\n")


async def _measure(processes: int, windows: int) -> dict[str, Any]:
    limit = Limit(requests=REQUESTS, window_seconds=WINDOW_SECONDS)
    options = SimulatorOptions(profile=Profile(limit=limit))
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="rate-limit-"))
        # A server that runs as another user must be able to enter.
        await anyio.Path(folder).chmod(0o711)
        servers = await stack.enter_async_context(open_local_servers(Path(folder), s3=False))
        assert servers.postgres is not None
        async with open_database(servers.postgres.dsn) as database, database.session() as session:
            await migrate(session)
        simulator = await stack.enter_async_context(open_simulator(options))
        began = time.monotonic()
        askers = [_start(simulator.api_url, servers.postgres.dsn) for _ in range(processes)]
        try:
            while time.monotonic() < _end(simulator.journal, began, windows):
                await anyio.sleep(WINDOW_SECONDS / 10)
        finally:
            for asker in askers:
                asker.kill()
                asker.wait()
        return {"processes": processes, **_figures(simulator.journal, windows)}


def _start(api_url: str, dsn: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "--ask", api_url]
    return subprocess.Popen(command, env={**os.environ, DATABASE: dsn})  # noqa: S603 - this script


def _end(journal: Journal, began: float, windows: int) -> float:
    first = journal.visits[0].at if journal.visits else began
    return first + windows * WINDOW_SECONDS


def _figures(journal: Journal, windows: int) -> dict[str, Any]:
    first, slots = journal.visits[0].at, windows * REQUESTS
    visits = [it for it in journal.visits if it.at < first + windows * WINDOW_SECONDS]
    used = sum(visit.status == 200 for visit in visits)
    return {
        "windows": windows,
        "slots": slots,
        "used": used,
        "share_used": round(used / slots, 4),
        "seconds_per_window": round(_pace(visits), 3),
        "refused": sum(visit.status == 429 for visit in visits),
    }


def _pace(visits: list[Visit]) -> float:
    """Return the mean seconds from a request to the one 45 requests later."""
    pairs = zip(visits, visits[REQUESTS:], strict=False)
    return fmean(later.at - earlier.at for earlier, later in pairs)


async def _ask(api_url: str, dsn: str) -> None:
    """Request pages as fast as the budget allows, until the process is killed."""
    request = ApiRequest(f"{api_url}/search?page=1", {})
    allowance = Allowance(urlsplit(api_url).netloc, REQUESTS, window_seconds=WINDOW_SECONDS)
    async with (
        open_database(dsn) as database,
        open_http(image_hosts=frozenset(), user_agent="benchmark", connections=TASKS) as http,
        anyio.create_task_group() as tasks,
    ):
        pacer = Pacer(SharedBudget(database, allowance), time.monotonic)
        client = ApiClient(http, pacer, epoch_clock=time.time, retry_base_seconds=5.0)

        async def ask() -> None:
            while True:
                await client.get(request, json.loads)

        for _ in range(TASKS):
            tasks.start_soon(ask)


if __name__ == "__main__":
    main()
