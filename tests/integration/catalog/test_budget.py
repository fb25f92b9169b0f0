"""Every request budget keeps the same promises: the one in memory, and the one on Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import anyio
import pytest
from databases import TEMPLATE
from memory_budget import MemoryBudget

from collector.catalog import (
    Allowance,
    Database,
    Runs,
    SharedBudget,
    open_database,
)
from collector.catalog.budget import FARTHEST_SECONDS, MIN_WAIT_SECONDS
from collector.core.pacing import (
    MAX_PAUSE_SECONDS,
    RESERVED_SLOTS,
    WANTED_SECONDS,
    WINDOW_SECONDS,
    Announcement,
    Priority,
    Slot,
    Wait,
)
from collector.core.runs import Run, StageCall, StageName
from collector.http import REPLY_TIMEOUT_SECONDS
from collector.ports import RequestBudget

REPLY_SECONDS = 30.0
LEASE_SECONDS = REPLY_SECONDS + WINDOW_SECONDS
# What statements of a test take on a busy machine; no second that a test is about is this short.
SLACK_SECONDS = 10.0


class World(Protocol):
    """A budget of an API, whose callers each have a connection of their own, and its clock."""

    def caller(self, requests: int, priority: Priority = Priority.RUN) -> RequestBudget: ...

    async def advance(self, seconds: float) -> None: ...


class MemoryWorld:
    def __init__(self) -> None:
        self._now = 1000.0
        self._shared: MemoryBudget | None = None

    def caller(self, requests: int, priority: Priority = Priority.RUN) -> RequestBudget:
        if self._shared is None:
            self._shared = MemoryBudget(requests, lambda: self._now, lease_seconds=LEASE_SECONDS)
        return self._shared.caller(priority)

    async def advance(self, seconds: float) -> None:
        self._now += seconds


class PostgresWorld:
    """The clock is the server's; time passes by moving what is written back."""

    def __init__(self, databases: list[Database]) -> None:
        self._databases = databases
        self._callers = 0

    def caller(self, requests: int, priority: Priority = Priority.RUN) -> RequestBudget:
        self._callers += 1
        database = self._databases[self._callers % len(self._databases)]
        allowance = Allowance("api.test", requests, reply_seconds=REPLY_SECONDS)
        return SharedBudget(database, allowance, priority)

    async def advance(self, seconds: float) -> None:
        columns = {
            "api_slots": ("free_at", "taken_at"),
            "api_budgets": ("paused_until",),
            "api_waiters": ("wanted_until",),
        }
        async with self._databases[0].session() as session:
            for table, names in columns.items():
                moved = ", ".join(f"{it} = {it} - make_interval(secs => $1)" for it in names)
                await session.connection.execute(
                    f"UPDATE draenei_content.{table} SET {moved}", seconds
                )


@pytest.fixture(params=["memory", "postgres"])
async def world(
    request: pytest.FixtureRequest,
    new_database: Callable[[str], AbstractAsyncContextManager[str]],
) -> AsyncIterator[World]:
    if request.param == "memory":
        yield MemoryWorld()
        return
    async with (
        new_database(TEMPLATE) as dsn,
        open_database(dsn) as one,
        open_database(dsn) as other,
    ):
        yield PostgresWorld([one, other])


async def taken(budget: RequestBudget) -> Slot:
    slot = await budget.take()
    assert isinstance(slot, Slot)
    return slot


async def refused(budget: RequestBudget) -> float:
    wait = await budget.take()
    assert isinstance(wait, Wait)
    return wait.seconds


async def used(budget: RequestBudget, announced: Announcement | None = None) -> None:
    await budget.end(await taken(budget), announced)


async def free_slots(budget: RequestBudget) -> int:
    """Take all there is; say how many."""
    count = 0
    while isinstance(await budget.take(), Slot):
        count += 1
    return count


def about(seconds: float) -> object:
    return pytest.approx(seconds, abs=SLACK_SECONDS)


async def test_the_limit_is_of_all_callers_together(world: World) -> None:
    callers = [world.caller(5) for _ in range(3)]
    granted = [await callers[number % 3].take() for number in range(8)]
    assert [isinstance(one, Slot) for one in granted] == [True] * 5 + [False] * 3
    slots = [one for one in granted if isinstance(one, Slot)]
    assert len({slot.number for slot in slots}) == len({slot.holder for slot in slots}) == 5


async def test_a_slot_frees_one_window_after_its_end(world: World) -> None:
    one, other = world.caller(1), world.caller(1)
    slot = await taken(one)
    await world.advance(20)
    assert await refused(other) == about(WINDOW_SECONDS), "a request that is out ends now or later"
    await one.end(slot, None)
    await world.advance(WINDOW_SECONDS - 15)
    assert 0 < await refused(other) <= 15
    await world.advance(15)
    await taken(other)


async def test_the_slot_of_a_dead_holder_frees_when_its_lease_ends(world: World) -> None:
    one, other = world.caller(1), world.caller(1)
    late = await taken(one)
    await world.advance(LEASE_SECONDS - SLACK_SECONDS)
    assert 0 < await refused(other) <= SLACK_SECONDS
    await world.advance(SLACK_SECONDS)
    slot = await taken(other)
    await one.end(late, Announcement(1, 0))
    await world.advance(WINDOW_SECONDS + 5)
    assert await refused(one) > 5, "what a former holder says of a slot changes nothing"
    await other.end(slot, None)


async def test_a_pause_holds_everybody_and_the_longer_one_stays(world: World) -> None:
    one, other = world.caller(9), world.caller(9)
    await used(one)
    await one.pause(200)
    await other.pause(30)
    assert await refused(one) == about(200)
    await world.advance(100)
    assert await refused(other) == about(100)
    await other.pause(150)
    await world.advance(120)
    assert await refused(one) == about(30)
    await world.advance(30)
    await taken(other)


async def test_the_newest_limit_counts_up_to_the_ceiling(world: World) -> None:
    one, other = world.caller(8), world.caller(8)
    await used(one, Announcement(3))
    assert await free_slots(other) == 2
    await world.advance(LEASE_SECONDS)
    await used(other, Announcement(6))
    assert await free_slots(one) == 5
    await world.advance(LEASE_SECONDS)
    await used(one, Announcement(45_000))
    assert await free_slots(other) == 7
    await world.advance(LEASE_SECONDS)
    await used(one, Announcement(2))
    await world.advance(LEASE_SECONDS)
    slots = [await taken(one) for _ in range(2)]
    await one.end(slots[0], None)
    assert await free_slots(one) == 0, "what announces nothing changes nothing"
    await one.end(slots[1], Announcement())
    await world.advance(WINDOW_SECONDS)
    assert await free_slots(one) == 2, "an answer that names no limit takes none back"


async def test_a_lowered_limit_counts_what_left_before(world: World) -> None:
    one = world.caller(6)
    slots = [await taken(one) for _ in range(5)]
    for slot in slots[:4]:
        await one.end(slot, None)
    await one.end(slots[4], Announcement(3))
    assert await free_slots(one) == 0
    await world.advance(WINDOW_SECONDS)
    assert await free_slots(one) == 3


async def test_a_ceiling_of_another_caller_is_its_own(world: World) -> None:
    if isinstance(world, MemoryWorld):
        pytest.skip("one process has one ceiling")
    small, large = world.caller(2), world.caller(6)
    assert await free_slots(small) == 2
    assert await free_slots(large) == 4


# --- what others use ------------------------------------------------------------------------------


async def test_where_the_server_has_seen_more_than_we_so_much_less_is_left(world: World) -> None:
    one, other = world.caller(9), world.caller(9)
    await used(one, Announcement(9, 4))  # others have used 4 of the 9
    assert await free_slots(other) == 4
    assert await refused(one) == about(WINDOW_SECONDS)


async def test_what_others_use_is_taken_out_once(world: World) -> None:
    one, other = world.caller(9), world.caller(9)
    first, second, third = [await taken(caller) for caller in (one, other, one)]
    await one.end(first, Announcement(9, 4))  # sees its two siblings, and 2 of others
    await other.end(second, Announcement(9, 4))
    await one.end(third, Announcement(9, 5))
    assert await free_slots(one) == 4


async def test_who_is_alone_loses_nothing(world: World) -> None:
    callers = [world.caller(9), world.caller(9)]
    left = 9
    for _ in range(4):
        slots = [await taken(caller) for caller in callers]
        for caller, slot in zip(callers, reversed(slots), strict=True):
            left -= 1
            await caller.end(slot, Announcement(9, left))
    assert await free_slots(callers[0]) == 1


async def test_an_answer_that_comes_after_the_window_takes_nothing_away(world: World) -> None:
    one = world.caller(3)
    slow = await taken(one)
    await used(one, Announcement(3, 1))
    await used(one, Announcement(3, 0))
    await world.advance(WINDOW_SECONDS)
    await one.end(slow, Announcement(3, 0))  # was said before the window was over
    assert await free_slots(one) == 2


async def test_a_smaller_ceiling_of_ours_leaves_room_for_others(world: World) -> None:
    one = world.caller(4)
    await used(one, Announcement(45, 20))
    assert await free_slots(one) == 3


# --- priorities -----------------------------------------------------------------------------------


async def test_who_waits_goes_before_those_of_a_lower_priority(world: World) -> None:
    run, backfill = world.caller(1), world.caller(1, Priority.BACKFILL)
    await used(backfill)
    await refused(run)
    await world.advance(WINDOW_SECONDS - 1)
    await refused(run)
    await world.advance(1)
    assert 0 < await refused(backfill) <= WANTED_SECONDS
    await taken(run)


async def test_a_wait_is_forgotten_where_nobody_waits_any_more(world: World) -> None:
    run, backfill = world.caller(1), world.caller(1, Priority.BACKFILL)
    await used(backfill)
    await world.advance(WINDOW_SECONDS - 1)
    await refused(run)
    await world.advance(WANTED_SECONDS)
    await taken(backfill)


@pytest.mark.parametrize("priority", Priority)
async def test_nobody_waits_for_its_like_or_for_a_lower_one(
    world: World, priority: Priority
) -> None:
    lower = [world.caller(20, kind) for kind in Priority if kind >= priority]
    caller = world.caller(20, priority)
    await used(caller)
    await caller.pause(1)
    for each in lower:
        await refused(each)
    await world.advance(1)
    await taken(caller)


async def test_enrichment_leaves_some_of_each_window_to_the_others(world: World) -> None:
    enrichment, run = world.caller(20, Priority.ENRICHMENT), world.caller(20)
    assert await free_slots(enrichment) == 20 - RESERVED_SLOTS
    assert [isinstance(await run.take(), Slot) for _ in range(RESERVED_SLOTS)] == [True] * 5


async def test_enrichment_is_not_shut_out_by_a_small_limit(world: World) -> None:
    assert await free_slots(world.caller(1, Priority.ENRICHMENT)) == 1


# --- what only a database can be put through ------------------------------------------------------


@pytest.fixture
def caller(database: Database) -> Callable[..., SharedBudget]:
    def make(requests: int, scope: str = "api.test") -> SharedBudget:
        return SharedBudget(database, Allowance(scope, requests, reply_seconds=REPLY_SECONDS))

    return make


async def value(database: Database, statement: str) -> int:
    async with database.session() as session:
        return int(await session.connection.fetchval(statement))


async def test_each_api_has_a_budget_of_its_own(caller: Callable[..., SharedBudget]) -> None:
    assert await free_slots(caller(2, "api.test")) == 2
    assert await free_slots(caller(2, "other.test:8045")) == 2


def test_a_lease_outlasts_the_longest_reply() -> None:
    assert Allowance("api.test", 45).lease_seconds >= REPLY_TIMEOUT_SECONDS + WINDOW_SECONDS
    longest = max(MAX_PAUSE_SECONDS, Allowance("api.test", 45).lease_seconds)
    assert longest < FARTHEST_SECONDS


async def test_callers_at_once_never_share_a_slot(
    dsn: str, caller: Callable[..., SharedBudget]
) -> None:
    granted: list[Slot] = []

    async def ask(budget: SharedBudget) -> None:
        for _ in range(10):
            slot = await budget.take()
            if isinstance(slot, Slot):
                granted.append(slot)
            else:
                assert slot.seconds >= MIN_WAIT_SECONDS

    async with (
        open_database(dsn) as one,
        open_database(dsn) as other,
        anyio.create_task_group() as tasks,
    ):
        for number in range(8):
            allowance = Allowance("api.test", 45)
            tasks.start_soon(ask, SharedBudget((one, other)[number % 2], allowance))
    assert sorted(slot.number for slot in granted) == list(range(1, 46))


@pytest.mark.parametrize("milliseconds", [0, 1, 2, 3, 5, 8])
async def test_no_moment_of_a_cancellation_takes_a_slot(
    database: Database, milliseconds: int
) -> None:
    runs = Runs(database)
    call = StageCall(await runs.open_run(Run("tests", "run")), StageName.EXTRACT)
    await runs.begin_stage(call)
    budget = SharedBudget(database, Allowance("api.test", 9), call=call)
    sent = 0
    for _ in range(6):
        with anyio.move_on_after(milliseconds / 1000):
            await budget.end(await taken(budget), None)
            sent += 1
    # An end that was cut off leaves its slot to the lease, and its request was sent.
    counted = (await runs.recount(call.audit_id)).api_requests
    held = await value(
        database, "SELECT count(*) FROM draenei_content.api_slots WHERE holder IS NOT NULL"
    )
    busy = await value(
        database, "SELECT count(*) FROM draenei_content.api_slots WHERE free_at > now()"
    )
    assert counted == busy
    assert counted >= sent
    assert held <= counted - sent


async def test_a_clock_that_was_set_back_holds_nobody_up(
    database: Database, caller: Callable[..., SharedBudget]
) -> None:
    budget = caller(2)
    await free_slots(budget)
    await budget.pause(30)
    async with database.session() as session:
        await session.connection.execute(
            "UPDATE draenei_content.api_slots SET free_at = free_at + interval '1 day'"
        )
        await session.connection.execute(
            "UPDATE draenei_content.api_budgets SET paused_until = paused_until + interval '1 day'"
        )
    assert await free_slots(budget) == 2
    await budget.pause(30)
    assert await refused(budget) == about(WINDOW_SECONDS)
