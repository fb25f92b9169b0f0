# ruff: noqa: INP001 - a script
"""How fast `collector verify` compares a bucket with its tables, and its peak memory.

    python benchmarks/verify.py [--objects 100000]

Fills an embedded bucket and database with small objects and their rows, then runs
`collector verify` and `verify --deep` as processes. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import asyncpg

from collector.catalog import open_database
from collector.catalog.migrations import migrate
from collector.core.images import ImageType
from collector.local import LocalServers, open_local_servers
from collector.store import S3Options, S3Store, open_s3

BUCKET = "verify"
WRITERS = 32
BODY = b"as small as an object may be, for listing and rows are what is measured"
SHA256 = hashlib.sha256(BODY)

ROWS = """
INSERT INTO draenei_content.wallpapers
    (wallhaven_id, url, s3_key, object_sha256, object_bytes, stored_at)
SELECT id, 'https://w.wallhaven.cc/' || id, 'wallpapers/' || id || '.jpg', $1, $2, now()
FROM (SELECT lpad(n::text, 7, '0') AS id FROM generate_series(0, $3 - 1) AS n) AS ids
"""


async def fill(store: S3Store, objects: int) -> None:
    """Write the objects, several at a time."""
    numbers = iter(range(objects))

    async def write() -> None:
        for number in numbers:
            await store.put(
                f"wallpapers/{number:07}.jpg",
                [BODY],
                size_bytes=len(BODY),
                sha256=SHA256.digest(),
                content_type=ImageType.JPEG,
                token="benchmark",  # noqa: S106
            )

    async with anyio.create_task_group() as tasks:
        for _ in range(WRITERS):
            tasks.start_soon(write)


async def prepare(servers: LocalServers, objects: int) -> dict[str, str]:
    """Fill bucket and tables; return the settings that lead a command to them."""
    assert servers.postgres is not None
    assert servers.s3 is not None
    s3 = servers.s3
    options = S3Options(
        BUCKET, s3.endpoint_url, s3.region, s3.access_key, s3.secret_key, connections=WRITERS
    )
    async with open_s3(options) as store:
        await store.create_bucket()
        await fill(store, objects)
    async with open_database(servers.postgres.dsn) as database, database.session() as session:
        await migrate(session)
    connection = await asyncpg.connect(servers.postgres.dsn)
    await connection.execute(ROWS, SHA256.hexdigest(), len(BODY), objects)
    await connection.execute("VACUUM ANALYZE draenei_content.wallpapers")
    await connection.close()
    return {
        "DATABASE_URL": servers.postgres.dsn,
        "BUCKET_NAME": BUCKET,
        "S3_ENDPOINT_URL": s3.endpoint_url,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_DEFAULT_REGION": s3.region,
    }


def measure(settings: dict[str, str], *words: str) -> dict[str, Any]:
    """Run a command; return its findings, its duration and its peak memory."""
    began = time.monotonic()
    # Not a process of asyncio, which would reap it, and its resource usage with it.
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "collector", "verify", "--json", *words],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    said = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    process.stdout.close()
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    assert process.returncode == 0, said
    per_mb = 1024 if sys.platform == "linux" else 1024 * 1024  # macOS counts bytes
    return {
        "objects": said["objects"],
        "matched": said["matched"],
        "seconds": round(seconds, 1),
        "objects_per_second": round(said["objects"] / seconds),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_rss_mb": round(usage.ru_maxrss / per_mb),
    }


async def main(objects: int) -> None:
    """Measure few and many objects, to show what grows."""
    results: dict[str, Any] = {
        "command": f"python benchmarks/verify.py --objects {objects}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, both servers on the same cores",
    }
    for name, count in (("few", objects // 100), ("many", objects)):
        with TemporaryDirectory() as home:
            async with open_local_servers(Path(home)) as servers:
                settings = await prepare(servers, count)
                results[name] = await asyncio.to_thread(measure, settings)
                if name == "many":
                    results["deep"] = await asyncio.to_thread(measure, settings, "--deep")
    sys.stdout.write(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=100_000)
    asyncio.run(main(parser.parse_args().objects))
