"""What the tests of database faults share: what a test does beside the collector's connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import asyncpg
from faulty_world import FaultyWorld

from collector.core.audit import AuditRow
from collector.core.errors import Edge
from collector.core.runs import RunStatus, StageName, StageReport
from collector.runtime.opening import RunOptions

SOON_SECONDS = 10.0
FOR_EVER = 1_000_000
REFRESH = RunOptions(refresh=True)


@asynccontextmanager
async def behind(world: FaultyWorld) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Connect past the peer; may write where the database lets nobody write."""
    connection = await asyncpg.connect(
        world.dsn, server_settings={"default_transaction_read_only": "off"}
    )
    try:
        yield connection
    finally:
        await connection.close()


async def do(world: FaultyWorld, *statements: str) -> None:
    """Run statements past the peer, each in a transaction of its own."""
    async with behind(world) as connection:
        for statement in statements:
            await connection.execute(statement)


async def ask(world: FaultyWorld, question: str) -> Any:
    """Look up one value past the peer."""
    async with behind(world) as connection:
        return await connection.fetchval(question)


async def table(world: FaultyWorld, name: str) -> list[asyncpg.Record]:
    """Return the rows of a table, with the place and the maker of each."""
    async with behind(world) as connection:
        return await connection.fetch(
            f"SELECT ctid, xmin::text AS made_by, * FROM draenei_content.{name} ORDER BY ctid"
        )


async def setting(world: FaultyWorld, name: str, value: str) -> None:
    """Change a setting of this test's database, for connections that are made from now on."""
    await do(world, f"ALTER DATABASE {urlsplit(world.dsn).path[1:]} SET {name} = '{value}'")
    await cut_all(world)


async def cut_all(world: FaultyWorld) -> None:
    """End all connections, and wait until the pool knows."""
    world.database.cut_all()
    await until_unconnected(world)


async def until_unconnected(world: FaultyWorld) -> None:
    with anyio.fail_after(SOON_SECONDS):
        while world.runtime.catalog.database._pool.get_size():
            await anyio.sleep(0.01)


def raising(code: str, **more: str) -> str:
    """Return what raises an error with this SQLSTATE."""
    using = "".join(f", {name} = '{value}'" for name, value in more.items())
    return f"RAISE EXCEPTION 'a trap' USING ERRCODE = '{code}'{using};"


# Event, table and condition by which a statement of a run is known.
PLACES = {
    "staging": ("BEFORE INSERT", "staged_wallpapers", "TRUE"),
    "merge": ("BEFORE INSERT", "wallpapers", "TRUE"),
    "enlist": ("BEFORE INSERT", "transfers", "TRUE"),
    "claim": ("BEFORE UPDATE", "transfers", "NEW.fence > OLD.fence"),
    "confirm": ("BEFORE UPDATE", "wallpapers", "NEW.s3_key <> ''"),
    "postpone": ("BEFORE INSERT", "run_items", "NEW.outcome = 'failed'"),
    "bury": ("BEFORE INSERT", "dead_letters", "NEW.stage = 'transfer'"),
    "stage": ("BEFORE INSERT", "run_stages", "NEW.stage = 'load'"),
    "audit": ("BEFORE UPDATE", "run_audit", "NEW.status = 'succeeded'"),
}
SLEEPING = "PERFORM pg_sleep(60);"


async def trap(
    world: FaultyWorld, place: str, action: str, *, skip: int = 0, times: int = 1
) -> None:
    """Do `action` where a row comes to `place`, behind the first `skip` of them.

    A sequence counts them: it forgets nothing where a transaction is rolled back.
    """
    await do(
        world,
        "CREATE SEQUENCE public.trapped",
        f"""
        CREATE FUNCTION public.spring() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            number BIGINT := nextval('public.trapped');
        BEGIN
            IF number > {skip} AND number <= {skip + times} THEN
                {action}
            END IF;
            RETURN NEW;
        END $$
        """,
        "CREATE TRIGGER trap {} ON draenei_content.{} FOR EACH ROW WHEN ({})"
        " EXECUTE FUNCTION public.spring()".format(*PLACES[place]),
    )


async def disarm(world: FaultyWorld) -> None:
    """Take the trap away."""
    await do(world, "DROP FUNCTION public.spring() CASCADE", "DROP SEQUENCE public.trapped")


async def until(world: FaultyWorld, question: str) -> None:
    """Wait until the answer to a question is yes."""
    async with behind(world) as connection:
        with anyio.fail_after(SOON_SECONDS):
            while not await connection.fetchval(question):
                await anyio.sleep(0.01)


def is_waiting(start: str, kind: str) -> str:
    """Return the question whether a statement waits for a lock, or sleeps."""
    return (
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database()"
        f" AND wait_event_type = '{kind}' AND query LIKE '{start}%'"
    )


async def attempts(world: FaultyWorld) -> int:
    """Return the attempts that are on record, of all items together."""
    count: int = await ask(
        world, "SELECT coalesce(sum(attempts), 0)::int FROM draenei_content.transfers"
    )
    return count


async def staged(world: FaultyWorld) -> tuple[int, int]:
    """Return how many pages are in the ledger, and how many items are staged."""
    return (
        await ask(world, "SELECT count(*) FROM draenei_content.staged_pages"),
        await ask(world, "SELECT count(*) FROM draenei_content.staged_wallpapers"),
    )


def require_outage(audit: AuditRow, stage: StageName) -> None:
    """Assert that a run failed for the database alone, and blamed no item for it."""
    assert audit.status is RunStatus.FAILED
    assert f"{stage}: {Edge.DATABASE}: " in (audit.notes or "")
    assert (audit.report["metadata_dead"], audit.report["images_dead"]) == (0, 0)


async def done(world: FaultyWorld, *stages: StageName) -> list[StageReport]:
    """Do stages of a run, one after the other."""
    reports = [await world.stage(stage) for stage in stages]
    return [report for report in reports if isinstance(report, StageReport)]
