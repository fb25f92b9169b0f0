"""Plans: what a run asks all the time costs the same with a million wallpapers as with few."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import asyncpg
import pytest

from collector.catalog import (
    ClaimPolicy,
    Database,
    Loads,
    Pages,
    Runs,
    Transfers,
    Verification,
    open_database,
)
from collector.catalog.database import Session
from collector.catalog.queries import load_queries
from collector.core.maintenance import RunDetail
from collector.core.runs import Run
from collector.core.transfers import Outcome, StoredObject
from collector.core.wallpapers import Page, Wallpaper
from collector.local import LocalPostgres

pytestmark = pytest.mark.slow

MANY, FEW = 1_000_000, 10_000
TEMPLATE = "collector_template"
# A connection keeps the plan of a statement after some calls, made without knowing the values.
PLAN_MODES = ("force_custom_plan", "force_generic_plan")
BIG_TABLES = {"wallpapers", "transfers", "wallpaper_counters", "dead_letters"}
CLAIMED, PAGES, PAGE_ITEMS = 50, 50, 24
KEYED_ROWS = 1_000
DEAD_LETTERS = 20_000
# What a run may have behind it: items that it may not try again, and images that it has stored.
SPENT, STORED = 100_000, 300_000
# Run 1 has read 20,000 pages in 800 loads, the others ten pages each.
LEDGER_PAGES, LOADS, RUNS = 20_000, 800, 1_000

FILL = """
SET session_replication_role = replica;
SET synchronous_commit = off;
DROP INDEX draenei_content.ix_transfers_due;
ALTER TABLE draenei_content.transfers DROP CONSTRAINT transfers_pkey;
INSERT INTO draenei_content.wallpapers (wallhaven_id, url)
    SELECT 'w' || n, 'https://w.wallhaven.cc/' || n FROM generate_series(1, {rows}) AS n;
INSERT INTO draenei_content.transfers (wallpaper_id, next_attempt_at)
    SELECT n, now() - n * interval '1 ms' FROM generate_series(1, {rows}) AS n;
ALTER TABLE draenei_content.transfers ADD PRIMARY KEY (wallpaper_id);
ALTER TABLE draenei_content.wallpaper_counters DROP CONSTRAINT wallpaper_counters_pkey;
INSERT INTO draenei_content.wallpaper_counters (wallpaper_id, views)
    SELECT n, 1 FROM generate_series(1, {rows}) AS n;
ALTER TABLE draenei_content.wallpaper_counters ADD PRIMARY KEY (wallpaper_id);
INSERT INTO draenei_content.dead_letters (stage, item, code, reason, run_id)
    SELECT (ARRAY['load', 'transfer'])[1 + n % 2], 'd' || n, 'gone', 'HTTP 410', 'r'
    FROM generate_series(1, {dead}) AS n;
CREATE INDEX ix_transfers_due ON draenei_content.transfers (next_attempt_at, wallpaper_id)
    WHERE state = 'pending' AND run_attempts < 2;
INSERT INTO draenei_content.run_audit (dag_id, run_id)
    SELECT 'tests', 'filled ' || n FROM generate_series(1, {runs}) AS n;
INSERT INTO draenei_content.run_loads (audit_id) SELECT 1 FROM generate_series(1, {loads});
INSERT INTO draenei_content.staged_pages
    (audit_id, page, search_key, ids, items, invalid, known, staged, last_page, total, load_id)
    SELECT 1, n, 'q', ARRAY(SELECT 'w' || n * 24 + i FROM generate_series(0, 23) AS i),
        24, 0, 0, 24, 1, 1, 1 + n % {loads}
    FROM generate_series(1, {pages}) AS n;
INSERT INTO draenei_content.staged_pages
    (audit_id, page, search_key, ids, items, invalid, known, staged, last_page, total)
    SELECT run, n, 'q', '{{}}', 0, 0, 0, 0, 1, 1
    FROM generate_series(2, {runs}) AS run, generate_series(1, 10) AS n;
SET session_replication_role = origin;
ANALYZE;
"""


class Plans:
    """What was asked, by name of the query: one plan for each call and mode."""

    def __init__(self) -> None:
        self._found: dict[str, list[dict[str, Any]]] = defaultdict(list)

    async def explain(self, session: Session, name: str, arguments: tuple[object, ...]) -> None:
        """Run the query once for each mode, and undo what it did."""
        statement = f"plan_{uuid4().hex}"
        connection = session.connection
        values = f"({', '.join(map(literal, arguments))})" if arguments else ""
        for mode in PLAN_MODES:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
            await connection.execute(f"PREPARE {statement} AS\n{load_queries()[name]}")
            explained = await connection.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {statement}{values}"
            )
            await connection.execute(f"DEALLOCATE {statement}")
            await transaction.rollback()
            self._found[name].append(json.loads(explained)[0])

    def buffers(self, name: str) -> int:
        """Return the pages of 8 kB that the dearest call of a query has touched."""
        plans = [found["Plan"] for found in self._found[name]]
        return max(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans)

    def dearest(self) -> int:
        """Return the pages that the dearest call of all has touched."""
        return max(map(self.buffers, self._found))

    def forget(self) -> None:
        """Begin anew."""
        self._found.clear()

    def seconds(self, name: str) -> float:
        """Return how long the slowest call took."""
        return max(found["Execution Time"] for found in self._found[name]) / 1000

    def passed_over(self, name: str) -> int:
        """Return how many rows the dearest call of a query has met for nothing, in one node."""
        return max(
            int(node["Actual Loops"] * node.get(f"Rows Removed by {kind}", 0))
            for found in self._found[name]
            for node in nodes(found["Plan"])
            for kind in ("Join Filter", "Filter")
        )

    def scanned(self, tables: Collection[str] = BIG_TABLES) -> set[tuple[str, str]]:
        """Return query and table of each scan that reads a big table from one end to the other."""
        return {
            (name, node["Relation Name"])
            for name, plans in self._found.items()
            for found in plans
            for node in nodes(found["Plan"])
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in tables
        }


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes(part)


def literal(value: object) -> str:
    """Return a parameter as SQL; the values of these tests need no escapes in arrays."""
    if value is None:
        return "NULL"
    is_array = isinstance(value, list | tuple)
    text = "{" + ",".join(map(str, value)) + "}" if is_array else str(value)
    return "'{}'".format(text.replace("'", "''"))


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> Plans:
    """Explain every query that an adapter sends in this test, just before it is sent."""
    found = Plans()
    for method in ("fetch", "first", "value", "execute"):
        monkeypatch.setattr(Session, method, explained(getattr(Session, method), found))

    async def fetch_each(
        session: Session, name: str, arguments: Sequence[tuple[Any, ...]]
    ) -> list[asyncpg.Record]:
        return [row for each in arguments for row in await session.fetch(name, *each)]

    monkeypatch.setattr(Session, "fetch_each", fetch_each)
    return found


def explained(send: Any, found: Plans) -> Any:
    async def explain_and_send(session: Session, name: str, *arguments: Any) -> Any:
        await found.explain(session, name, arguments)
        return await send(session, name, *arguments)

    return explain_and_send


@pytest.fixture(scope="module")
def filled(postgres_server: LocalPostgres) -> Iterator[dict[int, str]]:
    """Databases with few wallpapers and with many, each of them waiting for its image."""
    addresses = {rows: f"plans_{rows}" for rows in (FEW, MANY)}
    for rows, name in addresses.items():
        anyio.run(_fill, postgres_server.dsn, name, rows)
    yield {rows: _address(postgres_server.dsn, name) for rows, name in addresses.items()}
    for name in addresses.values():
        anyio.run(_execute, postgres_server.dsn, f"DROP DATABASE {name} WITH (FORCE)")


async def _fill(dsn: str, name: str, rows: int) -> None:
    await _execute(dsn, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    statements = FILL.format(
        rows=rows, pages=LEDGER_PAGES, loads=LOADS, runs=RUNS, dead=DEAD_LETTERS
    )
    await _execute(_address(dsn, name), statements)


async def _execute(dsn: str, statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statements)
    finally:
        await connection.close()


def _address(dsn: str, name: str) -> str:
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[tuple[Database, Transfers, int]]:
    async with open_database(dsn) as database:
        audit_id = await Runs(database).open_run(Run("tests", uuid4().hex))
        policy = ClaimPolicy(lease_seconds=60, max_attempts=3)
        yield database, Transfers(database, policy), audit_id


def page(number: int, ids: list[str]) -> Page:
    """Return a page with the same values in all optional columns."""
    nothing = dict.fromkeys(Wallpaper._fields)
    items = [
        Wallpaper(**{**nothing, "wallhaven_id": found, "url": f"https://w/{found}", "views": 1})  # type: ignore[arg-type]
        for found in ids
    ]
    return Page(number, tuple(items), PAGES, PAGES * PAGE_ITEMS, PAGE_ITEMS)


async def test_a_claim_costs_the_same_however_many_there_are(
    filled: dict[int, str], plans: Plans
) -> None:
    touched = {}
    for rows, dsn in filled.items():
        async with opened(dsn) as (_, transfers, audit_id):
            assert len(await transfers.claim(audit_id, CLAIMED)) == CLAIMED
        touched[rows] = plans.buffers("claim")
        assert plans.scanned() == set()
    assert touched[MANY] <= 1.5 * touched[FEW]
    assert touched[MANY] <= 40 * CLAIMED


async def test_what_is_asked_of_the_backlog_uses_its_indexes(
    filled: dict[int, str], plans: Plans
) -> None:
    async with opened(filled[MANY]) as (database, transfers, audit_id):
        claims = await transfers.claim(audit_id, CLAIMED)
        await transfers.heartbeat(claims)
        stored = StoredObject("wallpapers/a.jpg", "0" * 64, 7, Outcome.UPLOADED)
        assert await transfers.confirm(claims[0], stored)
        await transfers.release(claims[1:10])
        async with database.session() as session:
            await session.connection.execute(
                "UPDATE draenei_content.transfers SET lease_until = now() - interval '1 s'"
                " WHERE state = 'claimed'"
            )
        await transfers.next_due_seconds(audit_id)
        await transfers.claim(audit_id, 1, run_limit=5)  # takes back the lapsed ones first
    assert plans.scanned() == set()
    touched = {
        name: plans.buffers(name)
        for name in ("reap_leases", "heartbeat", "confirm", "next_due_seconds", "limit_use")
    }
    assert max(touched.values()) <= 60 * CLAIMED, touched


async def test_what_is_asked_of_the_ledger_uses_its_indexes(
    filled: dict[int, str], plans: Plans
) -> None:
    async with opened(filled[MANY]) as (database, _, audit_id):
        catalog = Pages(database)
        known = [f"w{n}" for n in range(1, PAGE_ITEMS)]
        entry = await catalog.stage_page(audit_id, "q", page(1, [*known, "new"]))
        assert entry.known == PAGE_ITEMS - 1
        assert await catalog.covered_pages(audit_id) == [entry]
        assert await catalog.watermark("q") == []
    assert plans.scanned() == set()
    assert plans.buffers("listed_before") <= 10 * PAGE_ITEMS
    assert plans.buffers("note_page") <= 10 * PAGE_ITEMS
    assert plans.buffers("covered_pages") <= 10
    assert plans.buffers("watermark") <= 10


async def test_a_merge_looks_up_its_own_rows_and_no_others(
    filled: dict[int, str], plans: Plans
) -> None:
    """Half of the rows are known; the run has merged 480,000 items before."""
    async with open_database(filled[MANY]) as database:
        catalog = Pages(database)
        async with anyio.create_task_group() as tasks:
            for number in range(1, PAGES + 1):
                ids = [f"{'w' if i % 2 else 'n'}{number * 1000 + i}" for i in range(PAGE_ITEMS)]
                newest = page(number + LEDGER_PAGES, ids)
                tasks.start_soon(partial(catalog.stage_page, 1, "q", newest))
        await Loads(database).merge(1)
        await Loads(database).merge_leftovers(1)
    assert plans.scanned() == set()
    items = PAGES * PAGE_ITEMS
    assert plans.buffers("merge_wallpapers") <= 60 * items
    assert plans.buffers("merge_counters") <= 30 * items
    # A page of the ledger, or a row of it, by key: never all that is staged for each of them.
    assert plans.passed_over("merge_wallpapers") <= PAGE_ITEMS * items
    assert plans.passed_over("merge_counters") <= PAGE_ITEMS * items
    others = (
        *("unmerged_pages", "take_pages", "count_staged"),
        *("resolve_loaded", "empty_staging", "move_watermarks"),
    )
    touched = {name: plans.buffers(name) for name in others}
    assert max(touched.values()) <= 10 * items, touched
    # It looks at the 10,000 unmerged pages of the other runs, which are alive.
    assert plans.buffers("leftover_pages") <= 5 * 10 * RUNS


async def test_a_merge_of_what_an_ended_run_left_looks_up_its_own_rows_and_no_others(
    filled: dict[int, str], plans: Plans
) -> None:
    """All rows are known and have changed, and newer pages have listed half of them since."""
    async with open_database(filled[MANY]) as database:
        runs, catalog = Runs(database), Pages(database)
        left, audit_id = [await runs.open_run(Run("tests", uuid4().hex)) for _ in range(2)]
        for reader, step in ((left, 1), (audit_id, 2)):
            for number in range(1, PAGES + 1, step):
                ids = [f"w{500_000 + number * 1000 + i}" for i in range(PAGE_ITEMS)]
                await catalog.stage_page(reader, "q", page(number, ids))
        async with database.session() as session:
            await session.connection.execute(
                f"UPDATE draenei_content.run_audit SET status = 'failed' WHERE id = {left}"
            )
        await Loads(database).merge(audit_id)
        await Loads(database).merge_leftovers(audit_id)
        assert (await Loads(database).loaded(audit_id)).pages == PAGES + PAGES // 2
    assert plans.scanned() == set()
    items = PAGES * PAGE_ITEMS
    # Without knowing what is newer, it reads the ledger, of 30,000 pages here.
    assert plans.buffers("drop_outdated") <= 10 * items
    assert plans.passed_over("drop_outdated") <= 2 * LEDGER_PAGES
    assert plans.buffers("merge_wallpapers") <= 60 * items


async def test_upkeep_reads_what_it_needs_and_no_more(filled: dict[int, str], plans: Plans) -> None:
    async with open_database(filled[MANY]) as database:
        async with database.session() as session:
            await session.connection.execute(
                "UPDATE draenei_content.wallpapers SET s3_key = 'wallpapers/' || wallhaven_id"
                f" WHERE id <= {2 * KEYED_ROWS}"
            )
        catalog = Verification(database)
        rows = await catalog.keyed_rows("", 0, KEYED_ROWS)
        last = rows[-1]
        more = await catalog.keyed_rows(last.s3_key, last.wallpaper_id, KEYED_ROWS)
        assert not {row.s3_key for row in rows} & {row.s3_key for row in more}
        await catalog.present_rows([row.wallhaven_id for row in rows])
        transfers = Transfers(database, ClaimPolicy(lease_seconds=60, max_attempts=5))
        await transfers.release_lapsed()
        assert await transfers.noted_uploads(0, 10) == []
        assert await transfers.claimed_uploads(["none"]) == set()
    assert plans.scanned() == set()
    assert plans.buffers("keyed_rows") <= 5 * KEYED_ROWS
    assert plans.buffers("present_rows") <= 10 * KEYED_ROWS
    small = ("release_lapsed", "noted_uploads", "claimed_uploads")
    assert max(plans.buffers(name) for name in small) <= 60 * CLAIMED


async def test_a_long_run_is_counted_in_a_second_or_two(
    filled: dict[int, str], plans: Plans
) -> None:
    async with open_database(filled[MANY]) as database:
        counts = await Loads(database).loaded(1)
    assert counts.pages >= LEDGER_PAGES
    assert plans.scanned() == set()
    assert plans.seconds("loaded") < 10


async def test_a_claim_passes_by_what_its_run_may_not_try_again(
    filled: dict[int, str], plans: Plans
) -> None:
    """These have waited longest, so they stand in front of all the others."""
    async with opened(filled[MANY]) as (database, transfers, audit_id):
        await execute(
            database,
            f"UPDATE draenei_content.transfers SET last_audit_id = {audit_id}, run_attempts = 2,"
            f" listed_audit_id = {audit_id} WHERE wallpaper_id > {MANY - SPENT}",
        )
        await execute(database, "VACUUM ANALYZE draenei_content.transfers")
        assert await transfers.claim(audit_id, CLAIMED, only=True) == []
        claims = await transfers.claim(audit_id, CLAIMED)
        assert {claim.wallpaper_id for claim in claims} == set(
            range(MANY - SPENT, MANY - SPENT - CLAIMED, -1)
        )
        await transfers.next_due_seconds(audit_id)
        assert plans.scanned() == set()
        assert plans.dearest() <= 40 * CLAIMED


async def test_a_claim_under_a_limit_does_not_count_all_that_its_run_has_stored(
    filled: dict[int, str], plans: Plans
) -> None:
    limit = STORED + 3 * CLAIMED
    async with opened(filled[MANY]) as (database, transfers, audit_id):
        await execute(
            database,
            "INSERT INTO draenei_content.run_items (audit_id, wallpaper_id, outcome)"
            f" SELECT {audit_id}, n, 'uploaded' FROM generate_series(1, {STORED}) AS n",
        )
        await execute(database, "VACUUM ANALYZE draenei_content.run_items")
        assert len(await transfers.claim(audit_id, CLAIMED, limit)) == CLAIMED
        plans.forget()
        assert len(await transfers.claim(audit_id, CLAIMED, limit)) == CLAIMED
        await transfers.next_due_seconds(audit_id, limit)
        assert plans.scanned() == set()
        assert plans.dearest() <= 40 * CLAIMED
        assert len(await transfers.claim(audit_id, 2 * CLAIMED, limit)) == CLAIMED
        assert await transfers.claim(audit_id, 1, limit) == []


async def test_what_other_runs_have_used_their_attempts_of_costs_no_more_than_the_rest(
    filled: dict[int, str], plans: Plans
) -> None:
    async with opened(filled[FEW]) as (database, transfers, audit_id):
        await execute(
            database,
            "UPDATE draenei_content.transfers SET run_attempts = 2, state = 'pending',"
            f" owner = NULL, lease_until = NULL, last_audit_id = {audit_id} + wallpaper_id % 2",
        )
        await execute(database, "VACUUM ANALYZE draenei_content.transfers")
        claims = await transfers.claim(audit_id, CLAIMED)
        assert len(claims) == CLAIMED
        assert all(claim.wallpaper_id % 2 for claim in claims)
        assert plans.dearest() <= 40 * CLAIMED


async def test_a_batch_of_what_is_trimmed_reads_its_own_rows_and_no_others(
    filled: dict[int, str], plans: Plans
) -> None:
    async with open_database(filled[MANY]) as database:
        await execute(
            database,
            "UPDATE draenei_content.run_audit SET status = 'succeeded',"
            " ended_at = now() - interval '9 days'"
            f" WHERE id IN (1, 3); INSERT INTO draenei_content.run_items"
            f" (audit_id, wallpaper_id, outcome)"
            f" SELECT 2 + n % 2, n, 'uploaded' FROM generate_series(1, {STORED}) AS n",
        )
        await execute(database, "VACUUM ANALYZE draenei_content.run_items")
        runs = Runs(database)
        assert await runs.mark_trimmed(8, 2_000) == 2
        for detail in (RunDetail.ITEMS, RunDetail.PAGES):
            assert await runs.trim(detail, 8, 2_000) == 2_000
        assert await runs.trim(RunDetail.LOADS, 8, 2_000) <= LOADS
    assert plans.scanned({"run_items", "staged_pages"}) == set()
    # It looks at the 10,000 unmerged pages of runs that are alive.
    assert plans.dearest() <= 20 * 2_000 + 5 * 10 * RUNS


async def execute(database: Database, statements: str) -> None:
    async with database.session() as session:
        await session.connection.execute(statements)
