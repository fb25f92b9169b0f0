# ruff: noqa: INP001 - a script
"""How long `collector migrate` takes on a large database of the original, and what it blocks.

    python benchmarks/migrate.py [--rows 1000000]

Fills the synchronous original's schema on an embedded PostgreSQL and runs `collector migrate` as a
process while other clients read and write. It does so three times: with those clients only; during
a transaction that holds its snapshot for some seconds, as a backup does; and with nothing left to
do. The longest statement of a client is how long it was blocked. Prints JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import asyncpg

from collector.local import open_local_servers

# One daily run for 27 years.
RUNS = 10_000
# The duration of a backup's transaction, which reads all tables at its start.
BACKUP_SECONDS = 5.0
# Often enough to meet every noticeable lock, rarely enough to need little CPU.
PROBE_EVERY_SECONDS = 0.005

ORIGINAL = """
CREATE SCHEMA draenei_content;
CREATE TABLE draenei_content.wallpapers (
    id BIGSERIAL PRIMARY KEY, wallhaven_id TEXT NOT NULL, url TEXT NOT NULL, resolution TEXT,
    category TEXT, purity TEXT, file_size BIGINT, s3_key TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), updated_at TIMESTAMPTZ);
CREATE UNIQUE INDEX ux_wallpapers_wallhaven_id ON draenei_content.wallpapers (wallhaven_id);
CREATE INDEX ix_wallpapers_pending_upload ON draenei_content.wallpapers (id)
    WHERE s3_key IS NULL;
CREATE TABLE draenei_content.run_audit (
    id BIGSERIAL PRIMARY KEY, dag_id TEXT NOT NULL, run_id TEXT NOT NULL,
    logical_date TIMESTAMPTZ, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ,
    duration_seconds INTEGER, metadata_inserted INTEGER NOT NULL DEFAULT 0,
    metadata_updated INTEGER NOT NULL DEFAULT 0, images_uploaded INTEGER NOT NULL DEFAULT 0,
    download_failures INTEGER NOT NULL DEFAULT 0, upload_failures INTEGER NOT NULL DEFAULT 0,
    missing_s3_after_run INTEGER NOT NULL DEFAULT 0, notes TEXT,
    created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    UNIQUE (dag_id, run_id));
"""

# Half of the images are stored; the other half becomes the backlog.
FILL = """
INSERT INTO draenei_content.wallpapers
    (wallhaven_id, url, resolution, category, purity, file_size, s3_key)
SELECT
    id, 'https://w.wallhaven.cc/full/' || left(id, 2) || '/wallhaven-' || id || '.jpg',
    '1920x1080', 'general', 'sfw', 1000000 + n,
    CASE WHEN n % 2 = 0 THEN 'wallpapers/' || id || '.jpg' END
FROM (SELECT n, lpad(to_hex(n), 6, '0') AS id FROM generate_series(1, {rows}) AS n) AS ids;
INSERT INTO draenei_content.run_audit (dag_id, run_id, started_at, ended_at, duration_seconds)
SELECT 'draenei_content_loader_v4_clean', 'scheduled__' || n, now(), now(), 60
FROM generate_series(1, {runs}) AS n;
"""

# Statements that clients repeat during the migration, by client.
PROBES = {
    "reader_of_wallpapers": "SELECT url, s3_key FROM draenei_content.wallpapers"
    " WHERE wallhaven_id = lpad(to_hex($1::int), 6, '0')",
    "reader_of_run_audit": "SELECT * FROM draenei_content.run_audit"
    " WHERE id > $1::int % 100 ORDER BY ended_at DESC LIMIT 5",
    "writer_of_wallpapers": "UPDATE draenei_content.wallpapers SET updated_at = now()"
    " WHERE wallhaven_id = lpad(to_hex($1::int), 6, '0')",
}


@dataclass
class Probe:
    """A client that repeats a statement and records the duration of each."""

    dsn: str
    statement: str
    rows: int
    seconds: list[float] = field(default_factory=list)

    async def run(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            for n in itertools.count(1):
                began = time.monotonic()
                await connection.fetch(self.statement, 1 + n * 7919 % self.rows)
                self.seconds.append(time.monotonic() - began)
                await anyio.sleep(PROBE_EVERY_SECONDS)
        finally:
            connection.terminate()


async def migrate(dsn: str) -> dict[str, Any]:
    """Run `collector migrate`; return its duration and the number of applied files."""
    began = time.monotonic()
    done = await anyio.run_process(
        [sys.executable, "-m", "collector", "migrate", "--json"],
        env={**os.environ, "DATABASE_URL": dsn, "COLLECTOR_LOG_FORMAT": "text"},
        stderr=subprocess.PIPE,
    )
    seconds = time.monotonic() - began
    waits = [line for line in done.stderr.decode().splitlines() if "waits for" in line]
    files = len(json.loads(done.stdout)["applied"])
    return {"seconds": round(seconds, 1), "files": files, "lines_that_name_a_wait": len(waits)}


async def measure(dsn: str, rows: int) -> dict[str, Any]:
    """Migrate while clients read and write; also return their longest statements."""
    probes = {name: Probe(dsn, statement, rows) for name, statement in PROBES.items()}
    async with anyio.create_task_group() as tasks:
        for probe in probes.values():
            tasks.start_soon(probe.run)
        result = await migrate(dsn)
        tasks.cancel_scope.cancel()
    longest = {name: round(1000 * max(probe.seconds)) for name, probe in probes.items()}
    return {**result, "longest_statement_ms": longest}


@asynccontextmanager
async def backup(dsn: str) -> AsyncIterator[None]:
    """Meanwhile hold a transaction with a lock on every table for some seconds."""
    connection = await asyncpg.connect(dsn)

    async def read() -> None:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.execute("SELECT FROM draenei_content.wallpapers LIMIT 1")
            await connection.execute("SELECT FROM draenei_content.run_audit LIMIT 1")
            holds.set()
            await anyio.sleep(BACKUP_SECONDS)

    holds = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await holds.wait()
        yield
    await connection.close()


async def fill(dsn: str, rows: int) -> None:
    """Create the original's tables and fill them."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("DROP SCHEMA IF EXISTS draenei_content CASCADE")
    await connection.execute(ORIGINAL + FILL.format(rows=rows, runs=RUNS))
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("CHECKPOINT")
    await connection.close()


async def main(rows: int) -> None:
    """Measure the three cases, one after the other."""
    with TemporaryDirectory() as home:
        async with open_local_servers(Path(home), s3=False) as servers:
            assert servers.postgres is not None
            dsn = servers.postgres.dsn
            await fill(dsn, rows)
            alone = await measure(dsn, rows)
            nothing_left = await measure(dsn, rows)
            await fill(dsn, rows)
            async with backup(dsn):
                during_a_backup = await measure(dsn, rows)
    results = {
        "command": f"python benchmarks/migrate.py --rows {rows}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, everything on the same cores",
        "wallpapers": rows,
        "runs": RUNS,
        "alone": alone,
        "beside_a_backup_of_5_s": during_a_backup,
        "nothing_left_to_do": nothing_left,
    }
    sys.stdout.write(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    asyncio.run(main(parser.parse_args().rows))
