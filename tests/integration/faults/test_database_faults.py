"""The database misbehaves: no row is lost, none counts twice, no item pays, no run stays green."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import asyncpg
import pytest
from faulty_world import FaultyWorld, OpenFaults, open_faulty_world
from peers import http
from peers.exchange import Asked, Exchange
from peers.postgres import Cut, _Connection
from processes import collector
from pydantic import SecretStr
from tenacity import wait_none
from world import EVERYTHING, small

from collector.catalog import Loads, database, open_database, pages
from collector.catalog.migrations import migrate
from collector.catalog.queries import load_queries, sql_folder
from collector.cli.progress import SilentProgress
from collector.core.audit import AuditRow
from collector.core.errors import Edge, Outage, SchemaMissing
from collector.core.runs import RunStatus, StageName, StageReport
from collector.local import LocalS3
from collector.runtime.opening import Need, RunOptions, open_runtime
from collector.settings import Settings
from collector.simulator import Hooks

SOON_SECONDS = 10.0
FOR_EVER = 1_000_000
CANARY = "canary-of-a-row"
REFRESH = RunOptions(refresh=True)

CLAIM = "-- Run $1 claims up to"
CONFIRM = "-- The object of a claim"
MERGE = "-- Merge the rows of load"
POSTPONE = "-- A try of a claim"
OPEN_RUN = "-- The run begins, or goes on"


# --- Helpers: what a test does behind the collector's back ---------------------------------------


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
DYING = "PERFORM pg_terminate_backend(pg_backend_pid());"
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


async def trapped(world: FaultyWorld) -> int:
    """Return how many rows came to the place of the trap."""
    count: int = await ask(
        world, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.trapped"
    )
    return count


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


TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'draenei-collector'"
)


async def end_backends(world: FaultyWorld) -> None:
    """End all connections as a server does that is restarted, and wait until the pool knows."""
    await do(world, TERMINATE)
    await until_unconnected(world)


async def attempts(world: FaultyWorld) -> int:
    """Return the attempts that are on record, of all items together."""
    count: int = await ask(
        world, "SELECT coalesce(sum(attempts), 0)::int FROM draenei_content.transfers"
    )
    return count


async def stored(world: FaultyWorld) -> int:
    count: int = await ask(
        world, "SELECT count(*) FROM draenei_content.wallpapers WHERE s3_key IS NOT NULL"
    )
    return count


async def staged(world: FaultyWorld) -> tuple[int, int]:
    """Return how many pages are in the ledger, and how many items are staged."""
    return (
        await ask(world, "SELECT count(*) FROM draenei_content.staged_pages"),
        await ask(world, "SELECT count(*) FROM draenei_content.staged_wallpapers"),
    )


def sent(world: FaultyWorld, fragment: str) -> int:
    """Return how often a statement was run."""
    return sum(fragment.encode() in text for text in world.database.statements)


def is_image(asked: Asked) -> bool:
    return asked.method == "GET"


def is_of(wallhaven_id: str) -> Callable[[Asked], bool]:
    """Return what knows the requests for one image."""
    return lambda asked: wallhaven_id in asked.path


def require_outage(audit: AuditRow, stage: StageName) -> None:
    """Assert that a run failed for the database alone, and blamed no item for it."""
    assert audit.status is RunStatus.FAILED
    assert f"{stage}: {Edge.DATABASE}: " in (audit.notes or "")
    assert (audit.report["metadata_dead"], audit.report["images_dead"]) == (0, 0)


async def done(world: FaultyWorld, *stages: StageName) -> list[StageReport]:
    """Do stages of a run, one after the other."""
    reports = [await world.stage(stage) for stage in stages]
    return [report for report in reports if isinstance(report, StageReport)]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transactions that met begin anew without a pause."""
    monkeypatch.setattr(Loads._merge_pages.retry, "wait", wait_none())


# --- PG-01: it is not there ----------------------------------------------------------------------


@pytest.mark.case("PG-01")
async def test_a_database_that_is_not_there_stops_a_run_before_it_begins(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        world.database.go_down()
        with anyio.fail_after(SOON_SECONDS), pytest.raises(Outage) as caught:
            async with open_runtime(world.settings, EVERYTHING, SilentProgress()):
                pass
        assert caught.value.edge is Edge.DATABASE
        said = await collector(world.settings, "run", "--json")
        assert said.status == 1
        assert '"status": "failed"' in said.stdout
        assert "Traceback" not in said.stderr
        assert world.api.asked == []
        await world.converge()


@pytest.mark.case("PG-01")
async def test_a_database_that_lets_nobody_in_is_not_waited_for_without_end(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_SECONDS", 0.2)
    async with open_faults(small(small_images, 3)) as world, silent_server() as address:
        settings = with_database(world.settings, f"postgresql://nobody@{address}/none")
        with anyio.fail_after(SOON_SECONDS), pytest.raises(Outage, match="no answer in time"):
            async with open_runtime(settings, Need.DATABASE, SilentProgress()):
                pass
        await world.converge()


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """A server that takes connections and says nothing."""
    left = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await left.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        left.set()


def with_database(settings: Settings, dsn: str) -> Settings:
    return settings.model_copy(update={"database_url": SecretStr(dsn)})


# --- PG-02 to PG-04: it is restarted in the middle -----------------------------------------------


def bulky(items: list[dict[str, Any]]) -> list[object]:
    """Make a page larger than all buffers on the way to a server that does not read."""
    return [item | {"bulk": "x" * 320_000} for item in items]


def narrow(world: FaultyWorld) -> None:
    """Leave hardly any room for what is sent and not read, on the one connection there is."""
    (lent,) = [
        holder._con for holder in world.runtime.catalog.database._pool._holders if holder._con
    ]
    (passed,) = world.database._connections
    for transport in (lent._transport, passed._server.transport):
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)


@pytest.mark.case("PG-02")
@pytest.mark.parametrize("listing", [None, bulky], ids=["all is sent", "still sending"])
async def test_a_backend_that_dies_in_the_middle_of_a_copy_is_an_outage_and_no_hang(
    open_faults: OpenFaults,
    small_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    listing: Callable[[list[dict[str, Any]]], list[object]] | None,
) -> None:
    monkeypatch.setattr(pages, "COPY_TIMEOUT_SECONDS", 1.0)
    async with open_faults(small(small_images, 20), Hooks(listing=listing)) as world:
        narrow(world)
        await trap(world, "staging", SLEEPING, skip=1)
        with anyio.fail_after(SOON_SECONDS):
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(world.run())
                await until(world, is_waiting("COPY", "Timeout"))
                await do(world, TERMINATE)
            audit = running.result()
        require_outage(audit, StageName.EXTRACT)
        assert await staged(world) == (0, 0)
        await disarm(world)
        await world.converge()
        assert await stored(world) == 20


@pytest.mark.case("PG-02")
async def test_a_server_that_falls_silent_in_a_copy_is_not_waited_for_without_end(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "COPY_TIMEOUT_SECONDS", 0.3)
    async with open_faults(small(small_images, 30)) as world:
        world.database.on("COPY ", Cut.SILENT, skip=1)
        with anyio.fail_after(SOON_SECONDS):
            audit = await world.run()
        require_outage(audit, StageName.EXTRACT)
        assert audit.metadata_inserted == 24, "the first page is whole, and the second not there"
        assert audit.images_uploaded == 24, "what is known is mirrored all the same"
        await world.converge()
        assert await stored(world) == 30


@pytest.mark.case("PG-03")
async def test_what_is_staged_outlives_the_server_that_took_it(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        await done(world, StageName.EXTRACT)
        await end_backends(world)
        (load,) = await done(world, StageName.LOAD)
        assert (load.counts["inserted"], load.counts["duplicates"]) == (30, 0)
        await done(world, StageName.TRANSFER, StageName.AUDIT)
        kinds = "SELECT string_agg(DISTINCT relpersistence::text, '') FROM pg_class"
        ours = " WHERE relnamespace = 'draenei_content'::regnamespace"
        assert await ask(world, kinds + ours) == "p", "no table is lost in a crash"
        await world.check()


@pytest.mark.case("PG-04")
async def test_a_server_that_is_restarted_in_the_middle_of_a_merge_has_merged_nothing(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        await trap(world, "merge", DYING, skip=10)
        audit = await world.run()
        require_outage(audit, StageName.LOAD)
        assert audit.metadata_inserted == 0
        assert await staged(world) == (2, 30), "it waits for the next load"
        await disarm(world)

        audit = await world.run()
        assert (audit.status, audit.metadata_inserted) == (RunStatus.SUCCEEDED, 30)
        before = await table(world, "wallpapers")
        again = await world.run("again", REFRESH)
        assert (again.metadata_inserted, again.metadata_unchanged) == (0, 30)
        assert await table(world, "wallpapers") == before
        await world.check()


# --- PG-05, PG-06: transactions meet -------------------------------------------------------------

CONFLICTS = [
    pytest.param("40P01", place, id=f"deadlock {place}", marks=pytest.mark.case("PG-05"))
    for place in PLACES
] + [
    pytest.param("40001", place, id=f"serialization {place}", marks=pytest.mark.case("PG-06"))
    for place in ("merge", "confirm", "audit")
]
# Who enlists finds what no merge has put into the backlog: one row behind those of a merge.
BEHIND = {"enlist": 4}


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("code", "place"), CONFLICTS)
async def test_who_lost_against_another_transaction_begins_anew(
    open_faults: OpenFaults, small_images: Path, code: str, place: str
) -> None:
    async with open_faults(small(small_images, 5), collector_max_attempts=2) as world:
        await do(world, KNOWN_ROW.format(first_and_last(world)[0]))
        failing = {"postpone": 1, "bury": 2}.get(place, 0)
        world.images.on(is_of(first_and_last(world)[1]), http.status(503), times=failing)
        await trap(world, place, raising(code), skip=BEHIND.get(place, 0))
        audit = await world.run()
        assert await trapped(world) > BEHIND.get(place, 0)
        assert audit.images_uploaded == (4 if place == "bury" else 5)
        assert audit.status is (RunStatus.PARTIAL if place == "bury" else RunStatus.SUCCEEDED)
        await world.check(max_attempts=2)


KNOWN_ROW = (
    "INSERT INTO draenei_content.wallpapers (wallhaven_id, url) VALUES ('{}', 'https://w/x')"
)
LOCK_ROW = "SELECT 1 FROM draenei_content.wallpapers WHERE wallhaven_id = $1 FOR UPDATE"


def first_and_last(world: FaultyWorld) -> tuple[str, str]:
    """Return the first and the last id in the order in which a merge locks rows."""
    ids = sorted(wallpaper.id for wallpaper in world.simulator.catalogue)
    return ids[0], ids[-1]


@pytest.mark.case("PG-05")
async def test_a_merge_that_loses_in_a_deadlock_begins_anew(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        first, last = first_and_last(world)
        await do(world, KNOWN_ROW.format(first), KNOWN_ROW.format(last))
        # The merge waits first, looks first whether that has an end, and loses.
        await setting(world, "deadlock_timeout", "500ms")
        await done(world, StageName.EXTRACT)
        async with behind(world) as other, asyncio.TaskGroup() as tasks:
            await other.execute("SET deadlock_timeout = '1min'; BEGIN")
            await other.execute(LOCK_ROW, last)
            tasks.create_task(world.stage(StageName.LOAD))
            await until(world, is_waiting(MERGE, "Lock"))
            await other.execute(LOCK_ROW, first)
            await other.execute("COMMIT")
        assert sent(world, MERGE) == 2
        audit = await world.run()
        assert (audit.metadata_inserted, audit.images_uploaded) == (3, 5)
        await world.check()


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "code",
    [
        pytest.param("40P01", marks=pytest.mark.case("PG-05")),
        pytest.param("40001", marks=pytest.mark.case("PG-06")),
    ],
)
async def test_transactions_that_meet_for_ever_are_an_outage_in_the_end(
    open_faults: OpenFaults, small_images: Path, code: str
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        await trap(world, "merge", raising(code), times=FOR_EVER)
        audit = await world.run()
        assert await trapped(world) == 5
        require_outage(audit, StageName.LOAD)
        await disarm(world)
        await world.converge()


# --- PG-07: the server's own limits --------------------------------------------------------------


@pytest.mark.case("PG-07")
async def test_a_statement_that_the_server_stops_is_an_outage(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        await setting(world, "statement_timeout", "200ms")
        await trap(world, "merge", SLEEPING)
        audit = await world.run()
        require_outage(audit, StageName.LOAD)
        assert "statement timeout" in (audit.notes or "")
        await disarm(world)
        await world.converge()


@pytest.mark.case("PG-07")
@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("staged_wallpapers", StageName.EXTRACT),
        ("wallpapers", StageName.LOAD),
        ("transfers", StageName.TRANSFER),
    ],
)
async def test_a_lock_that_cannot_be_had_in_time_is_an_outage(
    open_faults: OpenFaults, small_images: Path, name: str, stage: StageName
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        await setting(world, "lock_timeout", "100ms")
        stages = [StageName.EXTRACT, StageName.LOAD, StageName.TRANSFER]
        await done(world, *stages[: stages.index(stage)])
        async with behind(world) as other, other.transaction():
            await other.execute(f"LOCK TABLE draenei_content.{name} IN EXCLUSIVE MODE")
            with pytest.raises(Outage, match="lock timeout"):
                await world.stage(stage)
        assert await attempts(world) == 0
        await world.converge()


@pytest.mark.case("PG-07")
async def test_a_transaction_that_the_server_ends_while_it_is_idle_is_an_outage(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        await setting(world, "idle_in_transaction_session_timeout", "50ms")

        async def copy_late(session: database.Session, records: list[tuple[Any, ...]]) -> None:
            with anyio.fail_after(SOON_SECONDS):
                while not session.connection.is_closed():
                    await anyio.sleep(0.01)
            await pages.copy_records(session, records)

        monkeypatch.setattr(pages, "copy_records", copy_late)
        audit = await world.run()
        require_outage(audit, StageName.EXTRACT)
        assert await staged(world) == (0, 0)
        monkeypatch.undo()
        await world.converge()


@pytest.mark.case("PG-07")
@pytest.mark.parametrize(
    ("fragment", "stage"), [(MERGE, StageName.LOAD), (CLAIM, StageName.TRANSFER)]
)
async def test_a_statement_that_is_never_answered_is_given_up(
    open_faults: OpenFaults,
    small_images: Path,
    monkeypatch: pytest.MonkeyPatch,
    fragment: str,
    stage: StageName,
) -> None:
    monkeypatch.setattr(database, "STATEMENT_TIMEOUT_SECONDS", 0.4)
    async with open_faults(small(small_images, 5)) as world:
        world.database.on(fragment, Cut.SILENT)
        with anyio.fail_after(SOON_SECONDS):
            audit = await world.run()
        require_outage(audit, stage)
        # The driver has closed the connection by the time of the rollback, or not yet.
        assert re.search("no answer in time|connection is closed", audit.notes or "")
        await world.converge()


# --- PG-08: done, and the answer is lost ---------------------------------------------------------


@pytest.mark.case("PG-08")
async def test_a_page_whose_commit_was_not_heard_of_is_staged_once(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        world.database.on("COMMIT;", Cut.AFTER)
        with pytest.raises(Outage):
            await world.stage(StageName.EXTRACT)
        assert await staged(world) == (1, 24)
        audit = await world.run()
        assert (audit.metadata_inserted, audit.report["duplicates"]) == (30, 0)
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 30)
        await world.check()


@pytest.mark.case("PG-08")
async def test_a_merge_whose_commit_was_not_heard_of_counts_once(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        await done(world, StageName.EXTRACT)
        world.database.on("COMMIT;", Cut.AFTER)
        with pytest.raises(Outage):
            await world.stage(StageName.LOAD)
        (load,) = await done(world, StageName.LOAD)
        assert (load.counts["inserted"], load.counts["updated"]) == (30, 0)
        audit = await world.run()
        assert (audit.status, audit.metadata_inserted) == (RunStatus.SUCCEEDED, 30)
        await world.check()


@pytest.mark.case("PG-08")
async def test_claims_that_were_not_heard_of_lapse_and_cost_one_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        await done(world, StageName.EXTRACT, StageName.LOAD)
        world.database.on("COMMIT;", Cut.AFTER, skip=1)  # behind that of what was enlisted
        with pytest.raises(Outage):
            await world.stage(StageName.TRANSFER)
        assert await attempts(world) == world.settings.collector_in_flight
        assert world.images.asked == []
        assert await world.runtime.catalog.dead_letters.open_letters() == []
        await done(world, StageName.AUDIT)
        await world.converge()


@pytest.mark.case("PG-08")
@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER, Cut.SILENT])
async def test_an_image_whose_confirmation_was_not_heard_of_is_stored_once(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch, cut: Cut
) -> None:
    monkeypatch.setattr("collector.flow.COMMIT_TIMEOUT_SECONDS", 0.3)
    async with open_faults(small(small_images, 8), collector_in_flight=1) as world:
        world.database.on(CONFIRM, cut, skip=3)
        audit = await world.run()
        require_outage(audit, StageName.TRANSFER)
        assert audit.images_uploaded == (3 if cut is Cut.BEFORE else 4), (
            "what is so, not what was heard"
        )
        objects = await world.objects()
        assert len(objects) == 4, "no object is taken away for an answer that was lost"
        await world.converge(max_attempts=1)
        again = await world.runtime.catalog.runs.audit_row(2)
        assert (again.images_uploaded, again.images_adopted) == (4, int(cut is Cut.BEFORE))


@pytest.mark.case("PG-08")
@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER])
async def test_a_failed_try_whose_record_was_not_heard_of_counts_once_at_most(
    open_faults: OpenFaults, small_images: Path, cut: Cut
) -> None:
    async with open_faults(small(small_images, 3), collector_in_flight=1) as world:
        world.images.on(is_image, http.status(503))
        world.database.on(POSTPONE, cut)
        audit = await world.run()
        require_outage(audit, StageName.TRANSFER)
        assert audit.download_failures == await attempts(world) == int(cut is Cut.AFTER)
        await world.converge(max_attempts=2)


@pytest.mark.case("PG-08")
async def test_an_audit_whose_commit_was_not_heard_of_may_be_written_again(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        await done(world, StageName.EXTRACT, StageName.LOAD, StageName.TRANSFER)
        world.database.on("COMMIT;", Cut.AFTER)
        with pytest.raises(Outage):
            await world.stage(StageName.AUDIT)
        first = await world.runtime.catalog.runs.audit_row(1)
        assert first.status is RunStatus.SUCCEEDED
        assert await world.stage(StageName.AUDIT) == first
        await world.check()


# --- PG-09, PG-10: no connection -----------------------------------------------------------------


@pytest.mark.case("PG-09")
async def test_a_pool_without_a_free_connection_is_not_waited_for_without_end(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "ACQUIRE_TIMEOUT_SECONDS", 0.2)
    async with open_faults(small(small_images, 3)) as world:
        async with AsyncExitStack() as borrowed:
            for _ in range(database.POOL_CONNECTIONS):
                await borrowed.enter_async_context(world.runtime.catalog.database.session())
            with anyio.fail_after(SOON_SECONDS), pytest.raises(Outage, match="no answer in time"):
                await world.run()
        assert world.api.asked == []
        assert (await world.run()).status is RunStatus.SUCCEEDED
        await world.check()


@pytest.fixture
async def guest(dsn: str) -> AsyncIterator[str]:
    """The same database, for a role that may have one connection alone."""
    name, parts = f"guest_{uuid4().hex}", urlsplit(dsn)
    connection = await asyncpg.connect(dsn)
    await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'guest' CONNECTION LIMIT 1")
    await connection.execute(f"GRANT {parts.username} TO {name}")
    try:
        yield parts._replace(netloc=f"{name}:guest@{parts.hostname}:{parts.port}").geturl()
    finally:
        await connection.execute(f"DROP ROLE {name}")
        await connection.close()


@pytest.mark.case("PG-10")
async def test_a_server_with_too_many_clients_is_an_outage(
    dsn: str, guest: str, s3_server: LocalS3, small_images: Path
) -> None:
    bucket = f"test-{uuid4().hex[:20]}"
    async with open_faulty_world(guest, s3_server, bucket, small(small_images, 30)) as limited:
        world = replace(limited, dsn=dsn)
        audit = await world.run()
        assert audit.status is RunStatus.FAILED
        assert "too many connections" in (audit.notes or "")
        assert await world.runtime.catalog.dead_letters.open_letters() == []
        await do(world, f"ALTER ROLE {urlsplit(guest).username} CONNECTION LIMIT -1")
        await world.converge()


@pytest.mark.case("PG-10")
async def test_a_server_that_is_shut_down_in_the_middle_is_an_outage_that_costs_no_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=4) as world:
        await trap(world, "confirm", DYING, skip=3)
        audit = await world.run()
        require_outage(audit, StageName.TRANSFER)
        assert "terminating connection due to administrator command" in (audit.notes or "")
        assert audit.images_uploaded >= 3
        assert await attempts(world) == 0, "handed back over a new connection"
        await disarm(world)
        await world.converge()


@pytest.mark.case("PG-10")
async def test_a_connection_that_was_ended_while_nobody_used_it_is_an_outage_at_most(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        await done(world, StageName.EXTRACT)
        abort = _Connection.abort
        # The server has said its last word, and the end of the connection is still on its way.
        with monkeypatch.context() as patched:
            patched.setattr(
                _Connection,
                "abort",
                lambda it: asyncio.get_running_loop().call_later(0.3, abort, it),
            )
            await do(world, TERMINATE)
            (end,) = await asyncio.gather(world.stage(StageName.LOAD), return_exceptions=True)
        await until_unconnected(world)
        await done(world, StageName.AUDIT)
        await world.converge()
        assert isinstance(end, StageReport | Outage), repr(end)


@pytest.mark.case("PG-10")
async def test_a_backfill_that_lost_its_right_to_read_with_its_connection_reads_no_further(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        reading = asyncio.ensure_future(read_for_ever(world))
        await until(world, IS_READ)
        await do(world, TERMINATE)
        # From here on another process may read the same list.
        ended, _ = await asyncio.wait([reading], timeout=1.0)
        reading.cancel()
        with suppress(asyncio.CancelledError, Outage):
            await reading
        await world.converge()
        assert ended


IS_READ = (
    "SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


async def read_for_ever(world: FaultyWorld) -> None:
    async with world.runtime.catalog.crawls.reading(1, anyio.Event()):
        await anyio.sleep_forever()


@pytest.mark.case("PG-27")
async def test_the_right_to_read_outlives_idle_hours(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of a second stands for the minutes after which a silent connection is ended."""
    monkeypatch.setattr("collector.catalog.crawls.KEEP_ALIVE_SECONDS", 0.02)
    async with open_faults(small(small_images, 5)) as world:
        await setting(world, "idle_session_timeout", "100ms")
        reading = asyncio.ensure_future(read_for_ever(world))
        await until(world, IS_READ)
        held_by = await ask(world, READER)
        await do(world, "SELECT pg_sleep(0.5)")
        assert not reading.done()
        assert await ask(world, READER) == held_by
        await end(reading)
        await until(world, f"SELECT NOT ({IS_READ})")


@pytest.mark.case("PG-27")
async def test_a_right_to_read_whose_connection_has_fallen_silent_is_lost(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody in between has forgotten the connection: no answer comes, and no end of it."""
    monkeypatch.setattr("collector.catalog.crawls.KEEP_ALIVE_SECONDS", 0.02)
    monkeypatch.setattr("collector.catalog.crawls.KEEP_ALIVE_TIMEOUT_SECONDS", 0.1)
    async with open_faults(small(small_images, 5)) as world:
        world.database.on("is_alive", Cut.SILENT, skip=2)
        with anyio.fail_after(SOON_SECONDS), pytest.raises(Outage, match="the right to read"):
            await read_for_ever(world)
        await world.converge()


@pytest.mark.case("PG-27")
async def test_a_reading_that_ends_well_leaves_the_connection_fit_for_others(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.catalog.crawls.KEEP_ALIVE_SECONDS", 0.001)
    async with open_faults(small(small_images, 5)) as world:
        for _ in range(20):
            async with world.runtime.catalog.crawls.reading(1, anyio.Event()):
                await world.runtime.catalog.runs.heartbeat(1)
            assert not await ask(world, IS_READ)
        await world.converge()


READER = (
    "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


async def end(reading: asyncio.Future[None]) -> None:
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading


@pytest.mark.case("PG-10")
async def test_a_server_that_is_read_only_after_a_failover_is_an_outage(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=2) as world:

        async def fail_over(exchange: Exchange) -> None:
            await setting(world, "default_transaction_read_only", "on")
            await exchange.relay()

        world.images.on(is_image, fail_over, skip=4)
        with anyio.fail_after(SOON_SECONDS), pytest.raises(Outage, match="read-only"):
            await world.run()
        assert await world.runtime.catalog.dead_letters.open_letters() == []
        await setting(world, "default_transaction_read_only", "off")
        await world.converge()


# --- PG-11: its disk is full ---------------------------------------------------------------------

FULL = {
    "staging": StageName.EXTRACT,
    "merge": StageName.LOAD,
    "claim": StageName.TRANSFER,
    "confirm": StageName.TRANSFER,
}


@pytest.mark.case("PG-11")
@pytest.mark.parametrize("place", FULL)
async def test_a_full_disk_of_the_server_is_an_outage_that_costs_no_try(
    open_faults: OpenFaults, small_images: Path, place: str
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=4) as world:
        await trap(world, place, raising("53100"), skip=2, times=FOR_EVER)
        audit = await world.run()
        require_outage(audit, FULL[place])
        assert await attempts(world) == 0
        await disarm(world)
        await world.converge(max_attempts=1)


# --- PG-12: a pooler in between ------------------------------------------------------------------


@pytest.mark.case("PG-12")
async def test_nothing_of_ours_outlives_its_transaction(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        await world.run()
        texts = [text.decode() for text in world.database.statements]
        migrating = (sql_folder() / "queries" / "schema.sql").read_text()
        queries = {
            name: text for name, text in load_queries().items() if text not in migrating
        }  # a migration holds its session to itself
        for text in [*texts, *queries.values()]:
            statement = "\n".join(it for it in text.splitlines() if not it.startswith("--"))
            assert statement.split()[0] in OF_A_TRANSACTION, statement
        # The right to read a backfill's list is the one thing that a session of ours holds.
        assert not any("advisory_lock" in text for text in texts)
        bound = {name for name, text in queries.items() if OF_A_SESSION.search(text)}
        assert bound == {"take_reading", "end_reading"}
        await world.check()


OF_A_TRANSACTION = {
    *("BEGIN", "COMMIT;", "ROLLBACK;", "COPY"),
    *("SELECT", "INSERT", "UPDATE", "DELETE", "WITH"),
}
OF_A_SESSION = re.compile(r"pg_(try_)?advisory_(un)?lock|set_config|nextval|currval|pg_notify")


@pytest.mark.case("PG-12")
async def test_a_pooler_that_forgets_prepared_statements_is_an_outage(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=2) as world:
        await trap(world, "claim", "EXECUTE 'DEALLOCATE ALL';", times=FOR_EVER)
        (end,) = await asyncio.gather(world.run(), return_exceptions=True)
        await disarm(world)
        await cut_all(world)
        assert await world.runtime.catalog.dead_letters.open_letters() == []
        await world.converge()
        # Where even the audit cannot be written, that is what is told.
        assert isinstance(end, AuditRow | Outage), repr(end)
        assert "prepared statement" in (str(end) if isinstance(end, Outage) else str(end.notes))


# --- PG-13, PG-14: cancelled, and met ------------------------------------------------------------


@pytest.mark.case("PG-13")
@pytest.mark.parametrize(
    ("stage", "name", "statement"),
    [
        pytest.param(StageName.EXTRACT, "staged_wallpapers", "COPY", id="copy"),
        pytest.param(StageName.LOAD, "wallpapers", MERGE, id="query"),
    ],
)
async def test_who_is_cancelled_frees_the_server_and_the_pool(
    open_faults: OpenFaults, small_images: Path, stage: StageName, name: str, statement: str
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        await done(world, *([StageName.EXTRACT] if stage is StageName.LOAD else []))
        async with behind(world) as other, other.transaction():
            await other.execute(f"LOCK TABLE draenei_content.{name} IN EXCLUSIVE MODE")
            working = asyncio.ensure_future(world.stage(stage))
            await until(world, is_waiting(statement, "Lock"))
            working.cancel()
            with anyio.fail_after(SOON_SECONDS), pytest.raises(asyncio.CancelledError):
                await working
            await until(world, f"SELECT NOT ({is_waiting(statement, 'Lock')})")
        await require_whole_pool(world)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 5)
        await world.check()


async def require_whole_pool(world: FaultyWorld) -> None:
    """Borrow all connections at once, and use each of them."""
    async with AsyncExitStack() as borrowed:
        with anyio.fail_after(SOON_SECONDS):
            for _ in range(database.POOL_CONNECTIONS):
                session = await borrowed.enter_async_context(
                    world.runtime.catalog.database.session()
                )
                assert await session.connection.fetchval("SELECT 1") == 1


@pytest.mark.case("PG-14")
async def test_merges_of_the_same_wallpapers_at_once_never_lock_each_other_out(
    open_faults: OpenFaults, small_images: Path
) -> None:
    runs = [f"run {number}" for number in range(4)]
    async with open_faults(small(small_images, 60)) as world:
        for run_id in runs:
            await world.stage(StageName.EXTRACT, run_id)
        reports: list[Any] = await asyncio.gather(
            *(world.stage(StageName.LOAD, run_id) for run_id in runs)
        )
        assert sum(report.counts["inserted"] for report in reports) == 60
        assert sum(report.counts["unchanged"] for report in reports) == 180
        assert sent(world, MERGE) == len(runs), "none had to begin anew"
        for run_id in runs:
            await world.run(run_id)
        await world.check()


# --- PG-15 to PG-19: what it costs ---------------------------------------------------------------


@pytest.mark.case("PG-15")
@pytest.mark.case("PG-17")
async def test_what_is_listed_as_before_writes_no_row_and_uses_no_number_up(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 60)) as world:
        await world.run()
        before = await table(world, "wallpapers"), await table(world, "wallpaper_counters")
        number = await ask(world, LAST_NUMBER)
        audit = await world.run("again", REFRESH)
        assert (audit.metadata_unchanged, audit.metadata_updated) == (60, 0)
        assert (
            await table(world, "wallpapers"),
            await table(world, "wallpaper_counters"),
        ) == before
        assert await ask(world, LAST_NUMBER) == number
        await world.check()


LAST_NUMBER = "SELECT last_value FROM draenei_content.wallpapers_id_seq"


@pytest.mark.case("PG-17")
async def test_numbers_that_changes_use_up_last_for_ever(
    open_faults: OpenFaults, small_images: Path
) -> None:
    version = {"source": "one"}

    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | version for item in items]

    async with open_faults(small(small_images, 10), Hooks(listing=listing)) as world:
        await world.run()
        number = await ask(world, LAST_NUMBER)
        version["source"] = "two"
        audit = await world.run("again", REFRESH)
        assert audit.metadata_updated == 10
        assert await ask(world, LAST_NUMBER) - number <= 10, "one for each changed row at most"
        kind = "SELECT data_type FROM pg_sequences WHERE sequencename = 'wallpapers_id_seq'"
        assert (await ask(world, f"SELECT ({kind})::text")) == "bigint"
        await world.check()


@pytest.mark.case("PG-16")
async def test_rows_that_count_as_new_are_those_that_were_not_there(
    open_faults: OpenFaults, small_images: Path
) -> None:
    version: dict[str, Any] = {}

    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | (version if n % 3 == 0 else {}) for n, item in enumerate(items)]

    async with open_faults(small(small_images, 48), Hooks(listing=listing)) as world:
        await world.run("first", RunOptions(max_pages=1))
        version["source"] = "changed"
        await world.stage(StageName.EXTRACT, "second", REFRESH)
        new, changed = await ask(world, NEW_ITEMS), await ask(world, CHANGED_ITEMS)
        assert (new, changed) == (24, 8)
        audit = await world.run("second", REFRESH)
        assert (audit.metadata_inserted, audit.metadata_updated) == (new, changed)
        assert audit.metadata_unchanged == 48 - new - changed
        await world.check()


NEW_ITEMS = """
SELECT count(*) FROM draenei_content.staged_wallpapers AS s
WHERE NOT EXISTS (
    SELECT FROM draenei_content.wallpapers AS w WHERE w.wallhaven_id = s.wallhaven_id)
"""
CHANGED_ITEMS = """
SELECT count(*) FROM draenei_content.staged_wallpapers AS s
INNER JOIN draenei_content.wallpapers AS w USING (wallhaven_id)
WHERE w.source IS DISTINCT FROM s.source
"""


@pytest.mark.case("PG-18")
async def test_claims_and_their_leases_never_touch_the_wide_rows(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        await done(world, StageName.EXTRACT, StageName.LOAD)
        before = await table(world, "wallpapers")
        run_key = await ask(world, "SELECT id FROM draenei_content.run_audit")
        catalog = world.runtime.catalog.transfers
        for _ in range(20):
            claims = await catalog.claim(run_key, 30)
            assert len(await catalog.heartbeat(claims)) == 30
            await catalog.release(claims)
        assert await table(world, "wallpapers") == before
        await world.run()
        assert await ask(world, "SELECT count(*) FROM draenei_content.transfers") == 0
        await world.check()


@pytest.mark.case("PG-19")
async def test_a_claim_finds_what_is_due_among_many_by_its_index(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        await do(world, FILL_BACKLOG, "ANALYZE")
        arguments = "1, '00000000-0000-0000-0000-000000000001', 2, 50, 60, FALSE"
        async with behind(world) as connection:
            await connection.execute(f"PREPARE claims AS {load_queries()['claim']}")
            for mode in ("force_custom_plan", "force_generic_plan"):
                await connection.execute(f"SET plan_cache_mode = {mode}")
                plan = "\n".join(
                    line
                    for (line,) in await connection.fetch(f"EXPLAIN EXECUTE claims({arguments})")
                )
                assert "ix_transfers_due" in plan
                # That one has a row for each run at most, and none here.
                assert "Seq Scan" not in plan.replace("Seq Scan on run_limits", "")
        await do(world, "DELETE FROM draenei_content.wallpapers")
        await world.run()
        await world.check()


FILL_BACKLOG = """
WITH filled AS (
    INSERT INTO draenei_content.wallpapers (wallhaven_id, url)
    SELECT 'w' || n, 'https://w.wallhaven.cc/' || n FROM generate_series(1, 10000) AS n
    RETURNING id
)
INSERT INTO draenei_content.transfers (wallpaper_id) SELECT id FROM filled
"""


@pytest.mark.case("PG-19")
async def test_a_backlog_without_its_indexes_is_slow_and_not_wrong(
    open_faults: OpenFaults, small_images: Path
) -> None:
    names = ("due", "leased", "listed", "retry", "spent")
    async with open_faults(small(small_images, 30)) as world:
        await do(world, *(f"DROP INDEX draenei_content.ix_transfers_{name}" for name in names))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 30)
        await world.check()


# --- PG-20, PG-21: another schema, another server ------------------------------------------------

FORGET = "DELETE FROM draenei_content.schema_migrations WHERE version {}"
OTHER_SCHEMAS = {
    "none": ("DROP SCHEMA draenei_content CASCADE", "no draenei_content schema.*collector migrate"),
    "older": (FORGET.format("> 3"), "at version 3, .*collector migrate"),
    "one left out": (FORGET.format("= 4"), "^(?!.*version 8, not 8).*collector migrate"),
    "newer": (
        "INSERT INTO draenei_content.schema_migrations VALUES (999, 'later')",
        "999(?!.*run `collector migrate`)",
    ),
}


@pytest.mark.case("PG-20")
@pytest.mark.parametrize(("statement", "message"), OTHER_SCHEMAS.values(), ids=OTHER_SCHEMAS)
async def test_another_schema_is_refused_before_anything_is_done(
    open_faults: OpenFaults, small_images: Path, statement: str, message: str
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        await do(world, statement)
        with pytest.raises(SchemaMissing) as caught:
            async with open_runtime(world.settings, EVERYTHING, SilentProgress()):
                pass
        assert world.api.asked == []
        await bring_up_to_date(world)
        await world.converge()
        assert re.search(message, str(caught.value)), str(caught.value)


async def bring_up_to_date(world: FaultyWorld) -> None:
    async with open_database(world.dsn) as mended, mended.session() as session:
        await migrate(session)
    await do(world, FORGET.format("= 999"))
    await cut_all(world)


@pytest.mark.case("PG-20")
async def test_another_schema_is_told_in_one_line_and_as_wrong_usage(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        await do(world, FORGET.format("> 3"))
        said = await collector(world.settings, "run", "--json")
        assert (said.status, said.stdout) == (2, "")
        assert "collector migrate" in said.stderr
        assert "Traceback" not in said.stderr
        await bring_up_to_date(world)
        await world.converge()


@pytest.mark.case("PG-20")
async def test_columns_that_others_added_are_no_concern_of_ours(
    open_faults: OpenFaults, small_images: Path
) -> None:
    tables = ("wallpapers", "transfers", "run_audit", "dead_letters")
    add = "ALTER TABLE draenei_content.{} ADD COLUMN theirs TEXT DEFAULT 'theirs'"
    async with open_faults(small(small_images, 5)) as world:
        await do(world, *map(add.format, tables))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 5)
        await world.check()


@pytest.mark.case("PG-21")
async def test_a_replica_is_refused_by_the_first_statement_of_a_run(
    open_faults: OpenFaults, small_images: Path
) -> None:
    """A replica may lag, but lets nobody write: what it says is never acted upon."""
    async with open_faults(small(small_images, 5)) as world:
        await world.run("before", RunOptions(limit=2))
        await setting(world, "default_transaction_read_only", "on")
        asked, world.database.statements[:] = len(world.api.asked + world.images.asked), []
        with pytest.raises(Outage, match="read-only"):
            await world.run()
        assert [text for text in world.database.statements if b"draenei_content" in text] == [
            load_queries()["open_run"].encode()
        ]
        assert len(world.api.asked + world.images.asked) == asked
        await setting(world, "default_transaction_read_only", "off")
        await world.converge()


# --- PG-22: what errors say ----------------------------------------------------------------------


@pytest.mark.case("PG-22")
async def test_what_an_outage_says_of_rows_is_not_written_down(
    open_faults: OpenFaults, small_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        await trap(world, "merge", raising("53100", DETAIL=CANARY, HINT=CANARY))
        audit = await world.run()
        require_outage(audit, StageName.LOAD)
        assert "a trap" in (audit.notes or "")
        await disarm(world)
        await world.converge(secrets=[CANARY], texts=[caplog.text])


@pytest.mark.case("PG-22")
async def test_what_a_defect_says_of_rows_is_not_written_down(
    open_faults: OpenFaults, small_images: Path
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | {"source": CANARY} for item in items]

    async with open_faults(small(small_images, 5), Hooks(listing=listing)) as world:
        await do(
            world,
            "ALTER TABLE draenei_content.wallpapers"
            f" ADD CONSTRAINT theirs CHECK (source <> '{CANARY}')",
        )
        said = await collector(world.settings, "run", "--run-id", "run", "--json")
        assert said.status == 1
        assert "CheckViolationError" in said.stdout
        assert CANARY not in said.stdout + said.stderr
        await do(world, "ALTER TABLE draenei_content.wallpapers DROP CONSTRAINT theirs")
        await world.converge()
