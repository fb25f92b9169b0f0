# ruff: noqa: INP001 - part of a script
"""The server of `load.py`: a fresh database for each contender, and the cost of two passes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg

from collector.catalog import open_database
from collector.catalog.migrations import migrate

TEMPLATE = "bench_template"
KEPT = ("wallpapers", "wallpaper_counters", "transfers")
STAGING = ("staged_pages", "staged_wallpapers")

# Arguments: the address of its database, the answers, and the pass, `new` or `unchanged`.
Contender = Callable[[str, list[bytes], str], Awaitable[None]]


@dataclass
class Pass:
    """The cost of one pass of one contender."""

    rows: int
    wall_seconds: float
    cpu_seconds: float
    written: dict[str, int]

    @property
    def rows_per_second(self) -> float:
        """The rate in wall time."""
        return self.rows / self.wall_seconds


class Bench:
    """One server, and a database for each contender of a round."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def prepare(self) -> None:
        """Create the template: the collector's schema, empty."""
        await self._do(f"CREATE DATABASE {TEMPLATE}")
        async with open_database(self._address(TEMPLATE)) as database, database.session() as it:
            await migrate(it)

    async def measure(
        self, contender: Contender, items: int, answers: list[bytes]
    ) -> dict[str, Pass]:
        """Let a contender load new rows, and then the same rows again."""
        await self._do(f"CREATE DATABASE bench TEMPLATE {TEMPLATE}")
        passes = {
            name: await self._pass(contender, answers, name, items) for name in ("new", "unchanged")
        }
        await self._do("DROP DATABASE bench WITH (FORCE)")
        return passes

    async def _pass(
        self, contender: Contender, answers: list[bytes], name: str, items: int
    ) -> Pass:
        dsn = self._address("bench")
        await self._do("CHECKPOINT")
        before = await _written(dsn)
        wall, cpu = time.perf_counter(), time.process_time()
        await contender(dsn, answers, name)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        after = await _written(dsn)
        written = {name: after[name] - before[name] for name in before}
        return Pass(items, wall, cpu, written)

    async def _do(self, statement: str) -> None:
        connection = await asyncpg.connect(self._dsn)
        await connection.execute(statement)
        await connection.close()

    def _address(self, name: str) -> str:
        return urlsplit(self._dsn)._replace(path=f"/{name}").geturl()


async def _written(dsn: str) -> dict[str, int]:
    """Return the number of inserted and updated tuples so far, by table."""
    connection = await asyncpg.connect(dsn)
    # A backend reports its statistics at the latest when it ends.
    while await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    ):
        await asyncio.sleep(0.05)
    rows = await connection.fetch(
        "SELECT relname, n_tup_ins + n_tup_upd AS written FROM pg_stat_user_tables"
        " WHERE schemaname = 'draenei_content' AND relname = ANY($1)",
        [*KEPT, *STAGING],
    )
    await connection.close()
    return {row["relname"]: row["written"] for row in rows}
