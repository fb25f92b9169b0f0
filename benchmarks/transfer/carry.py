"""A worker of the collector: transfers bodies and prints the cost. The other scripts run it.

    python carry.py < order.json

The stage is measured from its first claim to its last commit, without the process's imports and the
opening of connections.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from catalog import MemoryCatalog
from rig import BUCKET
from work import Body

from collector.catalog import ClaimPolicy, Runs, Transfers, open_database
from collector.cli.progress import SilentProgress
from collector.core.runs import Run, StageReport
from collector.http import client, open_http
from collector.interrupts import run_interruptible
from collector.stages.transfer import Chance, TransferOptions, transfer
from collector.store import S3Options, open_s3


@dataclass(frozen=True, slots=True)
class Order:
    """The bodies to transfer, and the two ends."""

    bodies: list[Body]
    origin_url: str
    sink_url: str
    in_flight: int = 16
    memory_bytes: int = 128 * 1024 * 1024
    # The database with the backlog; None: a backlog of these bodies, in memory.
    dsn: str | None = None
    run_id: str = "bench"
    is_fast: bool = True
    # How often to record the memory in use.
    watch_rss: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost: CPU seconds of this process, kernel included, and its peak memory."""

    images: int
    began_at: float
    ended_at: float
    cpu_seconds: float
    peak_rss_bytes: int
    report: dict[str, Any]
    rss_bytes: list[int]

    @classmethod
    def since(
        cls, began_at: float, cpu_seconds: float, report: StageReport, rss_bytes: list[int]
    ) -> Cost:
        """Return the cost from these start values until now."""
        stored = report.counts["images_uploaded"] + report.counts["images_adopted"]
        return cls(
            stored,
            began_at,
            time.time(),
            _cpu_seconds() - cpu_seconds,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            report.as_json(),
            rss_bytes,
        )


async def carry(order: Order) -> Cost:
    """Run the stage."""
    # The benchmark's TLS origin is on a port that no setting allows.
    client.require_allowed = lambda *_: None  # type: ignore[assignment]
    connections = order.in_flight + 16
    options = S3Options(
        BUCKET, order.sink_url, "us-east-1", "key", "secret", connections=connections
    )
    async with (
        open_http(
            image_hosts=frozenset(),
            user_agent="benchmark",
            connections=connections,
            is_fast=order.is_fast,
        ) as web,
        open_s3(options) as store,
        _backlog(order) as (audit_id, catalog),
    ):
        watch = _Watch(len(order.bodies) // order.watch_rss if order.watch_rss else 0)
        gc.freeze()  # as open_runtime() does
        began_at, cpu_seconds = time.time(), _cpu_seconds()
        report = await transfer(
            audit_id,
            catalog=catalog,
            http=web,
            store=store,
            options=TransferOptions(
                in_flight=order.in_flight,
                limit=0,
                memory_bytes=order.memory_bytes,
                max_image_bytes=2**30,
                lease_seconds=120.0,
                max_attempts=1,
                retry_base_seconds=1.0,
                max_dead_percent=100.0,
            ),
            chance=Chance(time.monotonic, random.random),
            progress=watch,
        )
        return Cost.since(began_at, cpu_seconds, report, watch.rss_bytes)


@asynccontextmanager
async def _backlog(order: Order) -> AsyncIterator[tuple[int, Transfers]]:
    if order.dsn is None:
        yield 1, MemoryCatalog(order.bodies, order.origin_url)
        return
    async with open_database(order.dsn) as database:
        audit_id = await Runs(database).open_run(Run("bench", order.run_id))
        yield audit_id, Transfers(database, ClaimPolicy(lease_seconds=120, max_attempts=1))


class _Watch(SilentProgress):
    """Records the memory in use after each `images` images; 0: never."""

    def __init__(self, images: int) -> None:
        self._images = images
        self._done = 0
        self.rss_bytes: list[int] = []

    def advance(self, task: str, items: int, size_bytes: int = 0) -> None:
        self._done += items
        if self._images and self._done % self._images == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.rss_bytes.append(pages * resource.getpagesize())


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Read the order and print the cost."""
    given = json.load(sys.stdin)
    given["bodies"] = [Body(**body) for body in given["bodies"]]
    json.dump(asdict(run_interruptible(lambda: carry(Order(**given)))), sys.stdout)


if __name__ == "__main__":
    main()
