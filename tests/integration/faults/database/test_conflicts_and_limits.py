"""Transactions conflict, and the server's own limits stop them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from database_faults import (
    FOR_EVER,
    PLACES,
    SLEEPING,
    SOON_SECONDS,
    ask,
    attempts,
    behind,
    disarm,
    do,
    done,
    is_waiting,
    raising,
    require_outage,
    setting,
    staged,
    trap,
    until,
)
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Asked
from peers.postgres import Cut
from tenacity import wait_none
from world import small

from collector.catalog import Loads, database, staging
from collector.core.errors import Outage
from collector.core.runs import RunStatus, StageName

CLAIM = "-- Run $1 claims up to"
MERGE = "-- Merge the rows of load"


async def trapped(world: FaultyWorld) -> int:
    """Return how many rows came to the place of the trap."""
    count: int = await ask(
        world, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM public.trapped"
    )
    return count


def sent(world: FaultyWorld, fragment: str) -> int:
    """Return how often a statement was run."""
    return sum(fragment.encode() in text for text in world.database.statements)


def is_of(wallhaven_id: str) -> Callable[[Asked], bool]:
    """Return what knows the requests for one image."""
    return lambda asked: wallhaven_id in asked.path


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transactions that met begin anew without a pause."""
    monkeypatch.setattr(Loads._merge_pages.retry, "wait", wait_none())


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
            await staging.copy_records(session, records)

        monkeypatch.setattr(staging, "copy_records", copy_late)
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
