"""Claims: one owner each, a lease that lapses, a fence that holds, attempts that are counted."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import anyio
import pytest

from collector.catalog import ClaimPolicy, Database, Runs, Transfers
from collector.catalog.queries import load_queries
from collector.core.errors import Code, Edge
from collector.core.retry import GiveUp, RetryLater
from collector.core.runs import Run
from collector.core.transfers import Claim, ItemFailure, Outcome, StoredObject

POLICY = ClaimPolicy(lease_seconds=60, max_attempts=3)


@pytest.fixture
async def audit_id(database: Database) -> int:
    return await Runs(database).open_run(Run("tests", "run"))


@pytest.fixture
def transfers(database: Database) -> Transfers:
    return Transfers(database, POLICY)


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


async def count(database: Database, rows: str) -> int:
    async with database.session() as session:
        return int(
            await session.connection.fetchval(f"SELECT count(*) FROM draenei_content.{rows}")
        )


async def waits(database: Database) -> bool:
    """Say whether somebody in this database waits for a lock."""
    async with database.session() as session:
        return bool(
            await session.connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )


async def lapse(database: Database) -> None:
    await execute(
        database,
        "UPDATE draenei_content.transfers SET lease_until = now() - '1 s'::interval"
        " WHERE state = 'claimed'",
    )


async def test_claims_are_disjoint_ordered_and_counted(
    transfers: Transfers, audit_id: int, backlog: int
) -> None:
    claimed: list[Claim] = []

    async def worker() -> None:
        while batch := await transfers.claim(audit_id, 4):
            claimed.extend(batch)

    async with anyio.create_task_group() as workers:
        for _ in range(8):
            workers.start_soon(worker)

    assert sorted(claim.wallpaper_id for claim in claimed) == list(range(1, backlog + 1))
    assert {claim.attempt for claim in claimed} == {1}


async def test_a_confirmed_item_is_done_once(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    (claim,) = await transfers.claim(audit_id, 1)
    assert await transfers.confirm(claim, stored(claim))
    assert not await transfers.confirm(claim, stored(claim))
    assert await count(database, "run_items WHERE outcome = 'uploaded'") == 1


async def test_what_others_have_stored_meanwhile_is_not_enlisted_again(
    transfers: Transfers, database: Database, backlog: int
) -> None:
    await execute(database, "DELETE FROM draenei_content.transfers")
    async with anyio.create_task_group() as tasks, database.transaction() as other:
        await other.execute("lock_enlisting")
        await other.execute("enlist")
        tasks.start_soon(transfers.enlist)
        while not await waits(database):
            await anyio.sleep(0.01)
        await other.connection.execute(
            "UPDATE draenei_content.wallpapers SET s3_key = 'wallpapers/x.jpg';"
            " DELETE FROM draenei_content.transfers"
        )
    assert await count(database, "transfers") == 0


async def test_what_is_stored_is_what_was_claimed(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    """A listing changes the address while the image is on its way."""
    (claim,) = await transfers.claim(audit_id, 1)
    await execute(
        database,
        "UPDATE draenei_content.wallpapers SET url = 'https://w/new.jpg', file_size = 5"
        f" WHERE id = {claim.wallpaper_id}",
    )
    assert await transfers.confirm(claim, stored(claim))
    where = f"wallpapers WHERE id = {claim.wallpaper_id} AND url = '{claim.url}'"
    assert await count(database, f"{where} AND pending_url = 'https://w/new.jpg'") == 1
    assert await count(database, f"{where} AND file_size IS NULL") == 1


async def test_an_old_owner_can_do_nothing(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    (old,) = await transfers.claim(audit_id, 1)
    await lapse(database)
    new = next(c for c in await transfers.claim(audit_id, 30) if c.wallpaper_id == old.wallpaper_id)

    assert new.attempt == 2
    assert new.fence > old.fence
    assert await transfers.heartbeat([old, new]) == {new.wallpaper_id}
    assert not await transfers.confirm(old, stored(old))
    assert not await transfers.fail(old, failed(RetryLater(0)))
    assert not await transfers.journal_upload(old, "upload")
    await transfers.release([old])
    assert await transfers.heartbeat([new]) == {new.wallpaper_id}
    assert not await transfers.confirm(replace(new, owner=uuid4()), stored(new))
    assert await transfers.confirm(new, stored(new))


async def test_an_item_whose_process_always_dies_becomes_a_dead_letter(
    transfers: Transfers, database: Database, backlog: int
) -> None:
    runs = Runs(database)
    for number in range(POLICY.max_attempts):
        audit_id = await runs.open_run(Run("tests", f"run {number}"))
        assert len(await transfers.claim(audit_id, 30)) == 30
        await lapse(database)
    assert await transfers.claim(audit_id, 30) == []
    rows = await database.fetch("backlog")
    assert rows[0]["dead"] == 30
    async with database.session() as session:
        letters = await session.connection.fetch("SELECT * FROM draenei_content.dead_letters")
    assert {(row["code"], row["attempts"]) for row in letters} == {("exhausted", 3)}
    assert len(letters) == 30


async def test_an_item_has_two_tries_in_a_run_and_more_in_the_next(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    await execute(database, "DELETE FROM draenei_content.transfers WHERE wallpaper_id > 1")
    for attempt in (1, 2):
        (claim,) = await transfers.claim(audit_id, 9)
        assert claim.attempt == attempt
        assert await transfers.fail(claim, failed(RetryLater(0)))
    assert await transfers.claim(audit_id, 9) == []
    assert await transfers.next_due_seconds(audit_id) is None
    next_run = await Runs(database).open_run(Run("tests", "next"))
    assert [c.attempt for c in await transfers.claim(next_run, 9)] == [3]


async def test_what_other_runs_have_used_their_attempts_of_comes_last(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    """Of earlier runs and of later ones: a backfill is an old run that goes on."""
    runs = Runs(database)
    middle, later = [await runs.open_run(Run("tests", name)) for name in ("middle", "later")]
    for run, ids in ((later, "1, 2"), (audit_id, "3, 4"), (middle, "5, 6")):
        await execute(
            database,
            "UPDATE draenei_content.transfers SET next_attempt_at = now() - interval '1 day',"
            f" attempts = 2, run_attempts = 2, last_audit_id = {run} WHERE wallpaper_id IN ({ids})",
        )
    claimed = [claim.wallpaper_id for _ in range(5) for claim in await transfers.claim(middle, 6)]
    assert set(claimed[:24]) == set(range(7, backlog + 1))
    assert [set(claimed[24:])] == [{3, 4, 1, 2}]
    assert await transfers.claim(middle, 6) == []
    assert {claim.attempt for claim in await transfers.claim(later, 6)} == {3}


async def test_what_a_run_lists_comes_first_also_where_another_has_used_its_attempts(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    runs = Runs(database)
    other, running = [await runs.open_run(Run("tests", name)) for name in ("other", "running")]
    await execute(
        database,
        f"UPDATE draenei_content.run_audit SET status = 'partial' WHERE id = {other};"
        "INSERT INTO draenei_content.staged_pages (audit_id, page, search_key, ids, items, invalid,"
        f" known, staged, last_page, total)"
        f" VALUES ({audit_id}, 1, 'q', '{{id1,id2,id3,id4}}', 4, 0,"
        " 4, 0, 1, 4); UPDATE draenei_content.transfers SET attempts = 2, run_attempts = 2,"
        f" last_audit_id = CASE wallpaper_id WHEN 1 THEN {audit_id} WHEN 2 THEN {other}"
        f" ELSE {running} END WHERE wallpaper_id IN (1, 2, 4)",
    )
    for _ in range(2):
        await transfers.mark_listed(audit_id)
    claims = await transfers.claim(audit_id, 9, only=True)
    assert {(claim.wallpaper_id, claim.attempt) for claim in claims} == {(2, 3), (3, 1)}


async def test_only_who_seems_to_be_dead_is_waited_for_where_nobody_needs_to_be(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    other = await Runs(database).open_run(Run("tests", "other"))
    await transfers.claim(other, 30)
    waits = [await transfers.next_due_seconds(audit_id, awaits_others=it) for it in (True, False)]
    assert waits == [pytest.approx(POLICY.lease_seconds, abs=5), None]
    await execute(
        database,
        "UPDATE draenei_content.transfers SET lease_until = now() + '29 s'::interval"
        " WHERE wallpaper_id = 1",
    )
    waits = [await transfers.next_due_seconds(audit_id, awaits_others=it) for it in (True, False)]
    assert waits == [pytest.approx(29, abs=5)] * 2


async def test_a_postponed_item_waits_and_a_released_one_does_not(
    transfers: Transfers, audit_id: int, backlog: int
) -> None:
    first, second, *others = await transfers.claim(audit_id, 30)
    await transfers.fail(first, failed(RetryLater(20)))
    await transfers.release([second])
    due = await transfers.next_due_seconds(audit_id)
    assert due == 0
    (again,) = await transfers.claim(audit_id, 30)
    assert (again.wallpaper_id, again.attempt) == (second.wallpaper_id, 1)
    due = await transfers.next_due_seconds(audit_id)
    assert due is not None
    assert 15 < due <= 20
    counted = await transfers.backlog()
    assert (counted.pending, counted.claimed, counted.waiting) == (0, len(others) + 1, 1)


async def test_giving_up_writes_one_open_dead_letter_and_success_resolves_it(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    await execute(database, "DELETE FROM draenei_content.transfers WHERE wallpaper_id > 1")
    (claim,) = await transfers.claim(audit_id, 1)
    assert await transfers.fail(claim, failed(GiveUp(Code.NOT_FOUND)))
    assert (await transfers.backlog()).dead == 1
    await execute(database, "UPDATE draenei_content.transfers SET state = 'pending'")
    (claim,) = await transfers.claim(audit_id, 1)
    assert await transfers.confirm(claim, stored(claim))
    async with database.session() as session:
        (letter,) = await session.connection.fetch("SELECT * FROM draenei_content.dead_letters")
    assert letter["resolved_at"] is not None
    assert (letter["run_id"], letter["reason"]) == ("run", "HTTP 404")


async def test_an_outage_gives_back_what_it_took(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    claims = await transfers.claim(audit_id, 30)
    for claim in claims[:10]:
        await transfers.fail(claim, failed(RetryLater(100)))
    for claim in claims[10:20]:
        await transfers.fail(claim, failed(GiveUp(Code.NOT_FOUND)))
    await transfers.release(claims[20:])

    await transfers.refund_outage(audit_id, [Code.NOT_FOUND])

    counted = await transfers.backlog()
    assert (counted.pending, counted.dead) == (30, 0)
    assert {c.attempt for c in await transfers.claim(audit_id, 30)} == {1}
    async with database.session() as session:
        assert await session.connection.fetch("SELECT * FROM draenei_content.dead_letters") == []


async def states(database: Database) -> list[tuple[str, int, int]]:
    """Return state, attempts and attempts of the run of each item, in order."""
    async with database.session() as session:
        found = await session.connection.fetch(
            "SELECT state, attempts, run_attempts FROM draenei_content.transfers"
            " ORDER BY wallpaper_id"
        )
    return [tuple(row) for row in found]


async def test_an_outage_leaves_what_another_worker_has_in_hand(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    await execute(database, "DELETE FROM draenei_content.transfers WHERE wallpaper_id > 2")
    first, second = await transfers.claim(audit_id, 2)
    await transfers.fail(first, failed(RetryLater(0)))
    await transfers.fail(second, failed(RetryLater(100)))
    (held,) = await transfers.claim(audit_id, 2)

    await transfers.refund_outage(audit_id, [Code.NOT_FOUND])

    assert await states(database) == [("claimed", 2, 2), ("pending", 0, 0)]
    assert await transfers.fail(held, failed(GiveUp(Code.NOT_FOUND)))
    await transfers.refund_outage(audit_id, [Code.NOT_FOUND])
    assert await states(database) == [("pending", 0, 0), ("pending", 0, 0)]
    assert await count(database, "dead_letters") == 0


async def test_an_outage_that_several_workers_see_is_given_back_once(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    await execute(database, "UPDATE draenei_content.transfers SET attempts = 1")
    for claim in await transfers.claim(audit_id, 30):
        await transfers.fail(claim, failed(RetryLater(100)))

    async with anyio.create_task_group() as workers:
        for _ in range(4):
            workers.start_soon(transfers.refund_outage, audit_id, [Code.NOT_FOUND])

    assert set(await states(database)) == {("pending", 1, 0)}


@pytest.mark.parametrize("code", [Code.GONE, Code.NOT_FOUND])
async def test_an_outage_judges_the_last_word_of_a_worker_that_commits_meanwhile(
    transfers: Transfers, database: Database, audit_id: int, backlog: int, code: Code
) -> None:
    await execute(database, "DELETE FROM draenei_content.transfers WHERE wallpaper_id > 1")
    (claim,) = await transfers.claim(audit_id, 1)
    await transfers.fail(claim, failed(RetryLater(0)))
    queries = load_queries()

    async with anyio.create_task_group() as tasks, database.transaction() as sibling:
        rows = await sibling.fetch("claim", audit_id, uuid4(), 2, 1, 60.0, False)
        (item,) = rows
        identity = item["wallpaper_id"], item["owner"], item["fence"]
        reason = "HTTP 4xx"
        await sibling.execute("give_up", *identity, audit_id, Edge.DOWNLOAD, code, reason)
        tasks.start_soon(transfers.refund_outage, audit_id, [Code.NOT_FOUND])
        await waits_for_a_lock(database, queries["lock_blamed"])

    letters = await count(database, "dead_letters WHERE resolved_at IS NULL")
    if code is Code.GONE:
        assert (await states(database), letters) == ([("dead", 2, 2)], 1)
    else:
        assert (await states(database), letters) == ([("pending", 0, 0)], 0)


async def waits_for_a_lock(database: Database, query: str) -> None:
    """Wait until a session that runs `query` waits for a lock."""
    with anyio.fail_after(10):
        while True:
            async with database.session() as session:
                if await session.connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE wait_event_type = 'Lock' AND query = $1",
                    query,
                ):
                    return
            await anyio.sleep(0.01)


async def test_workers_of_one_run_share_its_limit(
    transfers: Transfers, audit_id: int, backlog: int
) -> None:
    claimed: list[Claim] = []

    async def worker() -> None:
        while batch := await transfers.claim(audit_id, 3, 20):
            claimed.extend(batch)

    async with anyio.create_task_group() as workers:
        for _ in range(8):
            workers.start_soon(worker)
    assert len({claim.wallpaper_id for claim in claimed}) == len(claimed) == 20

    for claim in claimed[:5]:
        await transfers.confirm(claim, stored(claim))
    assert await transfers.claim(audit_id, 9, 20) == []
    for claim in claimed[5:8]:
        await transfers.fail(claim, failed(GiveUp(Code.NOT_FOUND)))
    await transfers.release(claimed[8:10])
    assert len(await transfers.claim(audit_id, 9, 20)) == 5
    assert len(await transfers.claim(audit_id, 9)) == 7, "no limit, no bound but the backlog"


async def test_a_call_without_limit_counts_for_the_next_that_has_one(
    transfers: Transfers, audit_id: int, backlog: int
) -> None:
    (first,) = await transfers.claim(audit_id, 1, 20)
    for claim in (first, *await transfers.claim(audit_id, 18)):
        await transfers.confirm(claim, stored(claim))
    assert len(await transfers.claim(audit_id, 9, 20)) == 1
    assert await transfers.claim(audit_id, 9, 20) == []


async def test_each_run_has_its_own_limit(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    other = await Runs(database).open_run(Run("tests", "other"))
    assert len(await transfers.claim(audit_id, 30, 10)) == 10
    assert len(await transfers.claim(other, 30, 10)) == 10


async def test_a_limit_that_is_used_up_is_not_waited_for(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    first, second, third = await transfers.claim(audit_id, 3, 3)
    await transfers.fail(first, failed(RetryLater(0)))
    assert await transfers.next_due_seconds(audit_id, 3) == 0, "its place is free"
    (first,) = await transfers.claim(audit_id, 3, 3)
    due = await transfers.next_due_seconds(audit_id, 3)
    assert due is not None
    assert 50 < due <= 60, "the first of the leases"
    for claim in (first, second, third):
        await transfers.confirm(claim, stored(claim))
    assert await transfers.next_due_seconds(audit_id, 3) is None


async def test_lapsed_claims_of_a_run_do_not_use_its_limit_up(
    transfers: Transfers, database: Database, audit_id: int, backlog: int
) -> None:
    assert len(await transfers.claim(audit_id, 30, 10)) == 10
    await lapse(database)
    assert await transfers.next_due_seconds(audit_id, 10) == 0
    assert len(await transfers.claim(audit_id, 30, 10)) == 10
