"""PostgreSQL is not there, dies on the way, or its answer is lost."""

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
from database_faults import (
    FOR_EVER,
    REFRESH,
    SLEEPING,
    SOON_SECONDS,
    ask,
    attempts,
    cut_all,
    disarm,
    do,
    done,
    is_waiting,
    require_outage,
    setting,
    staged,
    table,
    trap,
    until,
    until_unconnected,
)
from faulty_world import FaultyWorld, OpenFaults, open_faulty_world
from peers import http
from peers.exchange import Asked, Exchange
from peers.postgres import Cut, _Connection
from processes import collector
from pydantic import SecretStr
from world import EVERYTHING, small

from collector.catalog import database, staging
from collector.catalog.queries import load_queries, sql_folder
from collector.cli.progress import SilentProgress
from collector.core.audit import AuditRow
from collector.core.errors import Edge, Outage
from collector.core.runs import RunStatus, StageName, StageReport
from collector.local import LocalS3
from collector.runtime.opening import Need, open_runtime
from collector.settings import Settings
from collector.simulator import Hooks

CONFIRM = "-- The object of a claim"
POSTPONE = "-- An attempt of a claim"
DYING = "PERFORM pg_terminate_backend(pg_backend_pid());"
TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'draenei-collector'"
)


async def end_backends(world: FaultyWorld) -> None:
    """End all connections as a server does that is restarted, and wait until the pool knows."""
    await do(world, TERMINATE)
    await until_unconnected(world)


async def stored(world: FaultyWorld) -> int:
    count: int = await ask(
        world, "SELECT count(*) FROM draenei_content.wallpapers WHERE s3_key IS NOT NULL"
    )
    return count


def is_image(asked: Asked) -> bool:
    return asked.method == "GET"


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
    monkeypatch.setattr(staging, "COPY_TIMEOUT_SECONDS", 1.0)
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
    monkeypatch.setattr(staging, "COPY_TIMEOUT_SECONDS", 0.3)
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


@pytest.mark.smoke
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
    monkeypatch.setattr("collector.flow.COMMIT_TIMEOUT_SECONDS", 1.0)
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
        with (
            anyio.fail_after(SOON_SECONDS),
            pytest.raises(Outage, match="held the lock of this list"),
        ):
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


@pytest.mark.case("PG-27")
async def test_a_lock_that_is_not_released_in_time_ends_with_its_connection_and_fails_nothing(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        with monkeypatch.context() as patched:
            patched.setattr("collector.catalog.crawls.CLEANUP_SECONDS", 0)
            async with world.runtime.catalog.crawls.reading(1, anyio.Event()):
                assert await ask(world, IS_READ)
        await until(world, f"SELECT NOT ({IS_READ})")
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
