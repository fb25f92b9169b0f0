"""The long part: many workers on one backlog in PostgreSQL, memory over a hundred thousand images,
and the cost of a claim among ten million.

make bench-full    replaces benchmarks/results/transfer_full.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio.to_thread
import asyncpg
from bench import SEED, job_of
from catalog import TOKEN
from contenders import Job, ended, start
from rig import open_rig
from scale import claims
from work import Body, bodies, write_all

from collector.catalog import open_database
from collector.catalog.migrations import migrate
from collector.interrupts import run_interruptible
from collector.local import open_local_servers

WORKERS = 4
# Small, so that there are many PUTs, each a conditional write.
TINY_BYTES = 10_000
SLOW_BYTES_PER_SECOND, SLOW_IMAGE_BYTES, SLOW_IN_FLIGHT = 200_000, 400_000, 4
DRIFT_STEPS = 10
_PUT = re.compile(r"^PUT (\d+) (\S+)$", re.MULTILINE)


@asynccontextmanager
async def database() -> AsyncIterator[str]:
    """Yield the address of an empty catalog."""
    with tempfile.TemporaryDirectory(prefix="collector-bench-") as name:
        Path(name).chmod(0o711)
        async with open_local_servers(Path(name) / "home", s3=False) as servers:
            assert servers.postgres is not None
            async with open_database(servers.postgres.dsn) as opened, opened.session() as session:
                await migrate(session)
            yield servers.postgres.dsn


async def fill(dsn: str, job: Job) -> None:
    """Insert the bodies as wallpapers; a transfer adds them to the backlog at its start."""
    connection = await asyncpg.connect(dsn)
    await connection.copy_records_to_table(
        "wallpapers",
        schema_name="draenei_content",
        columns=["wallhaven_id", "url", "file_type", "file_size"],
        records=[
            (it.wallhaven_id, f"{job.rig.origin_url}/{it.name}", it.file_type, it.size_bytes)
            for it in job.bodies
        ],
    )
    await connection.close()


@contextmanager
def watched(found: list[Body], *, bytes_per_second: int = 0) -> Iterator[Job]:
    """Serve bodies, all of them links to the first, and log all PUTs."""
    with tempfile.TemporaryDirectory(prefix="collector-bench-", dir="/dev/shm") as name:
        folder = Path(name)
        folder.chmod(0o711)
        write_all(found[:1], folder / "origin", SEED)
        for body in found[1:]:
            (folder / "origin" / body.name).symlink_to(found[0].name)
        with open_rig(folder, token=TOKEN, log_puts=True, bytes_per_second=bytes_per_second) as rig:
            yield Job(found, rig, folder)


async def share(found: list[Body], workers: int, *, in_flight: int, slow: bool) -> dict[str, Any]:
    """Let workers share one backlog; return how it went."""
    with watched(found, bytes_per_second=SLOW_BYTES_PER_SECOND if slow else 0) as job:
        async with database() as dsn:
            await fill(dsn, job)
            empty = Job([], job.rig, job.folder)
            running = [start(empty, dsn=dsn, in_flight=in_flight) for _ in range(workers)]
            costs = await anyio.to_thread.run_sync(ended, running)
            await asyncio.sleep(0.5)  # nginx writes its log every 0.1 s
            stored = await _value(dsn, "SELECT count(s3_key) FROM draenei_content.wallpapers")
        puts = Counter(key for _, key in _PUT.findall(job.rig.put_log.read_text()))
    return {
        "workers": workers,
        "images": len(found),
        "stored": stored,
        "puts": sum(puts.values()),
        "put_more_than_once": sum(count > 1 for count in puts.values()),
        "seconds": round(
            max(it["ended_at"] for it in costs) - min(it["began_at"] for it in costs), 1
        ),
        "stored_by_each": [it["images"] for it in costs],
        "cpu_milliseconds_each": round(
            sum(it["cpu_seconds"] for it in costs) / len(found) * 1e3, 2
        ),
    }


async def _value(dsn: str, statement: str) -> Any:
    connection = await asyncpg.connect(dsn)
    value = await connection.fetchval(statement)
    await connection.close()
    return value


def drift(images: int) -> dict[str, Any]:
    """Transfer many small images and watch the memory of the worker."""
    few = bodies([TINY_BYTES])
    found = [Body(f"d{number:07}", few[0].extension, TINY_BYTES) for number in range(images)]
    with job_of(few) as job:
        for body in found:
            (job.folder / "origin" / body.name).symlink_to(few[0].name)
        (cost,) = ended([start(Job(found, job.rig, job.folder), watch_rss=DRIFT_STEPS)])
    seen = cost["rss_bytes"]
    return {
        "images": cost["images"],
        "rss_mb_by_tenths": [round(it / 1e6, 1) for it in seen],
        "drift_percent_after_the_first_tenth": round(100 * (seen[-1] / seen[0] - 1), 2),
    }


async def claims_among(row_counts: list[int]) -> dict[str, Any]:
    """Claim from backlogs of several lengths, each in its own database."""
    found = []
    for rows in row_counts:
        async with database() as dsn:
            found.append(await claims(dsn, rows))
    cheapest = found[0]["buffers_per_claim"]
    return {
        "backlogs": found,
        "times_the_shortest": [round(it["buffers_per_claim"] / cheapest, 2) for it in found],
    }


async def measure(items: int, images: int, max_rows: int) -> dict[str, Any]:
    """Return all parts."""
    tiny = [Body(f"w{number:07}", "jpg", TINY_BYTES) for number in range(items)]
    slow = [Body(f"s{number:07}", "jpg", SLOW_IMAGE_BYTES) for number in range(160)]
    parts: dict[str, Any] = {}
    parts["one_backlog"] = await share(tiny, WORKERS, in_flight=16, slow=False)
    one = await share(slow, 1, in_flight=SLOW_IN_FLIGHT, slow=True)
    four = await share(slow, WORKERS, in_flight=SLOW_IN_FLIGHT, slow=True)
    parts["slow_source"] = {
        "bytes_per_second_and_connection": SLOW_BYTES_PER_SECOND,
        "one": one,
        "four": four,
        "times_faster": round(one["seconds"] / four["seconds"], 2),
    }
    parts["drift"] = await anyio.to_thread.run_sync(drift, images)
    parts["claims"] = await claims_among([10_000, 1_000_000, max_rows])
    return parts


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=10_000_000)
    options = parser.parse_args()
    parts = run_interruptible(lambda: measure(options.items, options.images, options.rows))
    summary = {
        "command": f"make bench-full ITEMS={options.items} DRIFT_IMAGES={options.images}"
        f" ROWS={options.rows}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, clients, database and both ends on the same cores",
        **parts,
    }
    json.dump(summary, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
