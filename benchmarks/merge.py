# ruff: noqa: INP001 - a script
"""How long the transactions of a merge are if the pages of a whole crawl wait at once.

    .venv/bin/python benchmarks/merge.py --rows 500000

The pages are staged once, as by a run, on an embedded PostgreSQL with default durability. Each way
of merging then gets a copy of that database: all pages in one transaction, as before merges were
bounded; transactions of `MAX_MERGE_ITEMS`, and of half and twice as many; and leftovers of an ended
run, which another run merges. The ways take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from collector.catalog import Loads, Pages, Runs, open_database
from collector.catalog.database import Database, Session
from collector.catalog.loads import MAX_MERGE_ITEMS
from collector.catalog.migrations import migrate
from collector.core.errors import Outage
from collector.core.runs import Run
from collector.flow import task_group
from collector.interrupts import run_interruptible
from collector.local import open_local_servers
from collector.simulator import SimulatorOptions
from collector.simulator.answers import listing_item, page_meta
from collector.simulator.catalogue import Catalogue
from collector.sources.wallhaven import parse_page

PAGE_ITEMS = 24
STAGERS = 8
UNBOUNDED = sys.maxsize
WAYS = {
    "one_transaction": UNBOUNDED,
    "half": MAX_MERGE_ITEMS // 2,
    "bounded": MAX_MERGE_ITEMS,
    "twice": MAX_MERGE_ITEMS * 2,
    "leftovers": MAX_MERGE_ITEMS,
}


class TimedDatabase:
    """A database that records the duration of each transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.seconds: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Session]:
        """Open a transaction and record its duration."""
        began = time.perf_counter()
        async with self._database.transaction() as session:
            yield session
        self.seconds.append(time.perf_counter() - began)


def body(catalogue: Catalogue, page: int, wallpapers: int) -> bytes:
    """Return the answer for this page."""
    found = catalogue[(page - 1) * PAGE_ITEMS : page * PAGE_ITEMS]
    items = [listing_item(wallpaper, "https://w.wallhaven.cc") for wallpaper in found]
    meta = page_meta(page, PAGE_ITEMS, wallpapers, as_text=False)
    return json.dumps({"data": items, "meta": meta | {"query": "draenei", "seed": None}}).encode()


async def stage(dsn: str, wallpapers: int) -> None:
    """Create the schema and stage all pages of one run."""
    catalogue = Catalogue(SimulatorOptions(wallpapers=wallpapers))
    async with open_database(dsn) as database:
        async with database.session() as session:
            await migrate(session)
        audit_id = await Runs(database).open_run(Run("bench", "read"))
        pages, waiting = Pages(database), iter(range(1, wallpapers // PAGE_ITEMS + 1))

        async def read() -> None:
            for number in waiting:
                found = parse_page(body(catalogue, number, wallpapers), number)
                await pages.stage_page(audit_id, "q=bench", found)

        async with task_group() as tasks:
            for _ in range(STAGERS):
                tasks.start_soon(read)


async def merge(dsn: str, way: str, wallpapers: int) -> dict[str, Any]:
    """Merge all staged pages in one way; return its cost, or the error that ended it."""
    async with open_database(dsn) as database:
        timed = TimedDatabase(database)
        loads = Loads(timed, WAYS[way])  # type: ignore[arg-type]
        runs = Runs(database)
        audit_id = await runs.open_run(Run("bench", "read"))
        if way == "leftovers":
            async with database.session() as session:
                await session.connection.execute(
                    "UPDATE draenei_content.run_audit SET status = 'crashed'"
                )
            audit_id = await runs.open_run(Run("bench", "other"))
        began = time.perf_counter()
        try:
            await (loads.merge_leftovers if way == "leftovers" else loads.merge)(audit_id)
        except Outage as problem:
            return {
                "problem": str(problem).rpartition(": ")[2],
                "seconds": round(time.perf_counter() - began, 2),
            }
        seconds = round(time.perf_counter() - began, 2)
        assert (await loads.loaded(audit_id)).inserted == wallpapers
    return {
        "seconds": seconds,
        "transactions": len(timed.seconds),
        "longest_seconds": round(max(timed.seconds), 3),
    }


async def measure(rows: int, rounds: int) -> dict[str, Any]:
    """Return the cost of each way, round by round."""
    wallpapers = rows // PAGE_ITEMS * PAGE_ITEMS
    taken: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        # A server that runs as another user must be able to enter.
        folder.chmod(0o711)
        servers = await stack.enter_async_context(open_local_servers(folder / "home", s3=False))
        assert servers.postgres is not None
        server = servers.postgres.dsn
        await do(server, "CREATE DATABASE bench_staged")
        await stage(named(server, "bench_staged"), wallpapers)
        for number in range(rounds):
            for way in WAYS if number % 2 == 0 else reversed(WAYS):
                await do(server, "CREATE DATABASE bench TEMPLATE bench_staged")
                await do(server, "CHECKPOINT")
                taken[way].append(await merge(named(server, "bench"), way, wallpapers))
                await do(server, "DROP DATABASE bench WITH (FORCE)")
                sys.stderr.write(f"round {number + 1} of {rounds}: {way} {taken[way][-1]}\n")
    return {
        way: {"max_items": None if WAYS[way] == UNBOUNDED else WAYS[way], "rounds": found}
        for way, found in taken.items()
    }


async def do(dsn: str, statement: str) -> None:
    """Run one statement outside the pool."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(statement, timeout=600)
    await connection.close()


def named(dsn: str, name: str) -> str:
    """Return the address of another database on the same server."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    before = os.getloadavg()
    measured = run_interruptible(partial(measure, options.rows, options.rounds))
    figures = {
        "command": f"benchmarks/merge.py --rows {options.rows} --rounds {options.rounds}",
        "date": datetime.now(UTC).date().isoformat(),
        "load_average_before": [round(it, 2) for it in before],
        "rows": options.rows // PAGE_ITEMS * PAGE_ITEMS,
        "merges": measured,
    }
    sys.stdout.write(f"{json.dumps(figures, indent=2)}\n")


if __name__ == "__main__":
    main()
