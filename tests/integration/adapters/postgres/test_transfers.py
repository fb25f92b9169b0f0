"""Claims: one owner each, a lease that lapses, a fence that holds, attempts that are counted."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import anyio
import pytest

from collector.adapters.postgres import ClaimPolicy, Database, PostgresRuns, PostgresTransfers
from collector.core.errors import Code, Edge
from collector.core.retry import GiveUp, RetryLater
from collector.core.runs import Run
from collector.core.transfers import Claim, ItemFailure, Outcome, StoredObject

POLICY = ClaimPolicy(lease_seconds=60, max_attempts=3)


@pytest.fixture
async def run_key(database: Database) -> int:
    return await PostgresRuns(database).open_run(Run("tests", "run"))


@pytest.fixture
def transfers(database: Database) -> PostgresTransfers:
    return PostgresTransfers(database, POLICY)


@pytest.fixture
async def backlog(database: Database) -> int:
    """Put 30 items into the backlog."""
    async with database.session() as session:
        await session.connection.execute(
            "INSERT INTO draenei_content.wallpapers (wallhaven_id, url)"
            " SELECT 'id' || n, 'https://w.wallhaven.cc/' || n FROM generate_series(1, 30) AS n;"
            " INSERT INTO draenei_content.transfers (wallpaper_id)"
            " SELECT id FROM draenei_content.wallpapers"
        )
    return 30


def stored(claim: Claim) -> StoredObject:
    return StoredObject(f"wallpapers/{claim.wallhaven_id}.jpg", "0" * 64, 7, Outcome.UPLOADED)


def failed(decision: RetryLater | GiveUp) -> ItemFailure:
    return ItemFailure(Code.NOT_FOUND, "HTTP 404", Edge.DOWNLOAD, decision)


async def execute(database: Database, statement: str) -> None:
    async with database.session() as session:
        await session.connection.execute(statement)


async def lapse(database: Database) -> None:
    await execute(
        database,
        "UPDATE draenei_content.transfers SET lease_until = now() - '1 s'::interval"
        " WHERE state = 'claimed'",
    )


async def test_claims_are_disjoint_ordered_and_counted(
    transfers: PostgresTransfers, run_key: int, backlog: int
) -> None:
    claimed: list[Claim] = []

    async def worker() -> None:
        while batch := await transfers.claim(run_key, 4):
            claimed.extend(batch)

    async with anyio.create_task_group() as workers:
        for _ in range(8):
            workers.start_soon(worker)

    assert sorted(claim.wallpaper_key for claim in claimed) == list(range(1, backlog + 1))
    assert {claim.attempt for claim in claimed} == {1}


async def test_a_confirmed_item_is_done_once(
    transfers: PostgresTransfers, run_key: int, backlog: int
) -> None:
    (claim,) = await transfers.claim(run_key, 1)
    assert await transfers.confirm(claim, stored(claim))
    assert not await transfers.confirm(claim, stored(claim))
    assert await transfers.stored_in_run(run_key) == 1


async def test_an_old_owner_can_do_nothing(
    transfers: PostgresTransfers, database: Database, run_key: int, backlog: int
) -> None:
    (old,) = await transfers.claim(run_key, 1)
    await lapse(database)
    new = next(
        c for c in await transfers.claim(run_key, 30) if c.wallpaper_key == old.wallpaper_key
    )

    assert new.attempt == 2
    assert new.fence > old.fence
    assert await transfers.heartbeat([old, new]) == {new.wallpaper_key}
    assert not await transfers.confirm(old, stored(old))
    assert not await transfers.fail(old, failed(RetryLater(0)))
    assert not await transfers.journal_upload(old, "upload")
    await transfers.release([old])
    assert await transfers.heartbeat([new]) == {new.wallpaper_key}
    assert not await transfers.confirm(replace(new, owner=uuid4()), stored(new))
    assert await transfers.confirm(new, stored(new))


async def test_an_item_whose_process_always_dies_becomes_a_dead_letter(
    transfers: PostgresTransfers, database: Database, backlog: int
) -> None:
    runs = PostgresRuns(database)
    for number in range(POLICY.max_attempts):
        run_key = await runs.open_run(Run("tests", f"run {number}"))
        assert len(await transfers.claim(run_key, 30)) == 30
        await lapse(database)
    assert await transfers.claim(run_key, 30) == []
    rows = await database.fetch("backlog")
    assert rows[0]["dead"] == 30
    async with database.session() as session:
        letters = await session.connection.fetch("SELECT * FROM draenei_content.dead_letters")
    assert {(row["code"], row["attempts"]) for row in letters} == {("exhausted", 3)}
    assert len(letters) == 30


async def test_an_item_has_two_tries_in_a_run_and_more_in_the_next(
    transfers: PostgresTransfers, database: Database, run_key: int, backlog: int
) -> None:
    await execute(database, "DELETE FROM draenei_content.transfers WHERE wallpaper_id > 1")
    for attempt in (1, 2):
        (claim,) = await transfers.claim(run_key, 9)
        assert claim.attempt == attempt
        assert await transfers.fail(claim, failed(RetryLater(0)))
    assert await transfers.claim(run_key, 9) == []
    assert await transfers.next_due_seconds(run_key) is None
    next_run = await PostgresRuns(database).open_run(Run("tests", "next"))
    assert [c.attempt for c in await transfers.claim(next_run, 9)] == [3]


async def test_a_postponed_item_waits_and_a_released_one_does_not(
    transfers: PostgresTransfers, run_key: int, backlog: int
) -> None:
    first, second, *others = await transfers.claim(run_key, 30)
    await transfers.fail(first, failed(RetryLater(20)))
    await transfers.release([second])
    due = await transfers.next_due_seconds(run_key)
    assert due == 0
    (again,) = await transfers.claim(run_key, 30)
    assert (again.wallpaper_key, again.attempt) == (second.wallpaper_key, 1)
    due = await transfers.next_due_seconds(run_key)
    assert due is not None
    assert 15 < due <= 20
    counted = await transfers.backlog()
    assert (counted.pending, counted.claimed, counted.waiting) == (0, len(others) + 1, 1)


async def test_giving_up_writes_one_open_dead_letter_and_success_resolves_it(
    transfers: PostgresTransfers, database: Database, run_key: int, backlog: int
) -> None:
    await execute(database, "DELETE FROM draenei_content.transfers WHERE wallpaper_id > 1")
    (claim,) = await transfers.claim(run_key, 1)
    assert await transfers.fail(claim, failed(GiveUp(Code.NOT_FOUND)))
    assert (await transfers.backlog()).dead == 1
    await execute(database, "UPDATE draenei_content.transfers SET state = 'pending'")
    (claim,) = await transfers.claim(run_key, 1)
    assert await transfers.confirm(claim, stored(claim))
    async with database.session() as session:
        (letter,) = await session.connection.fetch("SELECT * FROM draenei_content.dead_letters")
    assert letter["resolved_at"] is not None
    assert (letter["run_id"], letter["reason"]) == ("run", "HTTP 404")


async def test_an_outage_gives_back_what_it_took(
    transfers: PostgresTransfers, database: Database, run_key: int, backlog: int
) -> None:
    claims = await transfers.claim(run_key, 30)
    for claim in claims[:10]:
        await transfers.fail(claim, failed(RetryLater(100)))
    for claim in claims[10:20]:
        await transfers.fail(claim, failed(GiveUp(Code.NOT_FOUND)))
    await transfers.release(claims[20:])

    await transfers.refund_outage(run_key, [Code.NOT_FOUND])

    counted = await transfers.backlog()
    assert (counted.pending, counted.dead) == (30, 0)
    assert {c.attempt for c in await transfers.claim(run_key, 30)} == {1}
    async with database.session() as session:
        assert await session.connection.fetch("SELECT * FROM draenei_content.dead_letters") == []
