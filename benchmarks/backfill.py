# ruff: noqa: INP001 - a script
"""How much extraction and transfer of a backfill overlap if both are slow.

    python benchmarks/backfill.py > benchmarks/results/backfill.json

A simulated Wallhaven answers one page a second, and its image host limits each connection so that
all images take about as long as all pages. Real commands work on embedded servers: `extract` alone,
`transfer` alone with the backlog of that extract, and `backfill` of the same list into an empty
database and bucket. The wall time of `backfill` is compared with the longer of the two others.

The API's limit has a short window on purpose. If a window of a minute admitted 45 requests at once,
the last 45 pages would come at its beginning and their images after it: no order of work overlaps
those, and the longer the list, the less they count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import asyncpg
from PIL import Image

from collector.local import LocalServers, open_local_servers
from collector.simulator import (
    Journal,
    Limit,
    Profile,
    Simulator,
    SimulatorOptions,
    open_simulator,
)

ITEMS_PER_PAGE = 24
# One page per window; an early request is refused and not counted.
LIMIT = Limit(requests=1, window_seconds=1.0, headers=False)
IN_FLIGHT = 8
# Noise of this width and height becomes a JPEG of about 100 kB.
IMAGE_PIXELS = 400
# Above the rate of this benchmark: only the simulator's limit counts.
REQUESTS_PER_MINUTE = 6000


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--pages", type=int, default=64)
    parser.add_argument("--transfer-seconds", type=float, default=57.0)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    rounds = [
        asyncio.run(_measure(options.pages, options.transfer_seconds))
        for _ in range(options.rounds)
    ]
    figures = {
        "command": "python benchmarks/backfill.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}",
        "pages": options.pages,
        "images": options.pages * ITEMS_PER_PAGE,
        "api_requests_per_second": LIMIT.requests / LIMIT.window_seconds,
        "in_flight": IN_FLIGHT,
        "rounds": rounds,
    }
    json.dump(figures, sys.stdout, indent=2)
    sys.stdout.write("\n")


async def _measure(pages: int, transfer_seconds: float) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="backfill-")))
        # A server that runs as another user must be able to enter.
        await anyio.Path(folder).chmod(0o711)
        servers = await stack.enter_async_context(open_local_servers(folder / "home"))
        image_bytes = _draw(folder / "images")
        total_bytes = pages * ITEMS_PER_PAGE * image_bytes
        simulator = await stack.enter_async_context(
            open_simulator(
                SimulatorOptions(
                    wallpapers=pages * ITEMS_PER_PAGE,
                    images=folder / "images",
                    image_bytes_per_second=round(total_bytes / transfer_seconds / IN_FLIGHT),
                    profile=Profile(limit=LIMIT),
                )
            )
        )
        alone = await _Place.make(servers, simulator)
        extracted = await alone.collect("extract", "--max-pages", str(pages), "--run-id", "1")
        await alone.collect("load", "--run-id", "1")
        carried = await alone.collect("transfer", "--limit", "0", "--run-id", "1")
        filled = await (await _Place.make(servers, simulator)).collect("backfill")
        stored = carried.answer["images_uploaded"], filled.answer["images_uploaded"]
        assert set(stored) == {pages * ITEMS_PER_PAGE}, stored
        return {
            "image_host_bytes_per_second": round(total_bytes / transfer_seconds),
            "extract_seconds": round(extracted.seconds, 1),
            "transfer_seconds": round(carried.seconds, 1),
            "backfill_seconds": round(filled.seconds, 1),
            "ratio": round(filled.seconds / max(extracted.seconds, carried.seconds), 3),
            "backfill_api_requests": filled.answer["api_requests"],
            "backfill_verdict": filled.answer["report"]["certificate"]["verdict"],
            "backfill_timeline_seconds": filled.timeline(simulator.journal),
        }


def _draw(folder: Path) -> int:
    """Draw the file that all images are copies of; return its size in bytes."""
    folder.mkdir()
    Image.effect_noise((IMAGE_PIXELS, IMAGE_PIXELS), 90).save(folder / "noise.jpg")
    return (folder / "noise.jpg").stat().st_size


@dataclass(frozen=True)
class _Place:
    """The environment of commands that use an empty database and a new bucket."""

    environment: Mapping[str, str]

    @classmethod
    async def make(cls, servers: LocalServers, simulator: Simulator) -> _Place:
        assert servers.postgres is not None
        name = f"place_{uuid4().hex}"
        connection = await asyncpg.connect(servers.postgres.dsn)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        settings = {
            "COLLECTOR_HOME": str(servers.home),
            "COLLECTOR_IN_FLIGHT": str(IN_FLIGHT),
            "DATABASE_URL": urlsplit(servers.postgres.dsn)._replace(path=f"/{name}").geturl(),
            "BUCKET_NAME": name.replace("_", "-"),
            "WALLHAVEN_API_URL": simulator.api_url,
            "WALLHAVEN_IMAGE_HOSTS": simulator.image_host,
            "WALLHAVEN_REQUESTS_PER_MINUTE": str(REQUESTS_PER_MINUTE),
        }
        place = cls({**os.environ, **settings})
        await place.collect("migrate")
        return place

    async def collect(self, *words: str) -> _Ended:
        """Run a command. Raises CalledProcessError if it fails."""
        began = time.monotonic()
        command = [sys.executable, "-m", "collector", *words, "--json"]
        ended = await anyio.run_process(command, env=self.environment, stderr=sys.stderr)
        return _Ended(began, time.monotonic() - began, json.loads(ended.stdout))


@dataclass(frozen=True)
class _Ended:
    """A finished command: its start (monotonic seconds), its duration, its answer."""

    began: float
    seconds: float
    answer: dict[str, Any]

    def timeline(self, journal: Journal) -> dict[str, float]:
        """Return when its first and last pages and images came, in seconds from its start."""
        ends = {
            kind: [
                visit.at + visit.seconds - self.began
                for visit in journal.of(kind)
                if visit.at >= self.began and visit.status == 200
            ]
            for kind in ("search", "image")
        }
        return {
            "first_page": round(min(ends["search"]), 1),
            "first_image": round(min(ends["image"]), 1),
            "last_page": round(max(ends["search"]), 1),
            "last_image": round(max(ends["image"]), 1),
        }


if __name__ == "__main__":
    main()
