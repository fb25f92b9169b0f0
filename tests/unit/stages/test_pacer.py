"""The pacer on virtual time: requests of one process leave in turn, as the budget allows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_budget import MemoryBudget
from virtual_time import virtual_time

from collector.core.errors import Edge, Outage
from collector.core.pacing import WINDOW_SECONDS, Announcement, Priority, Slot, Wait
from collector.stages.pacer import END_SECONDS, SILENT_WAIT_SECONDS, TELL_AGAIN_SECONDS, Pacer


def pacer(limit: int) -> Pacer:
    return Pacer(MemoryBudget(limit, anyio.current_time).caller(), anyio.current_time)


# Eighths of a second are exact in binary: no tolerance is needed.
latencies = st.integers(0, 8 * 90).map(lambda count: count / 8)


@given(st.integers(1, 4), st.lists(st.tuples(latencies, latencies, st.floats(0, 1)), max_size=15))
@virtual_time
async def test_no_window_of_the_server_holds_more_than_the_limit(
    limit: int, plan: list[tuple[float, float, float]]
) -> None:
    paced = pacer(limit)
    arrived: list[float] = []
    in_flight = peak = 0

    async def request(wanted_at: float, latency_seconds: float, share: float) -> None:
        nonlocal in_flight, peak
        await anyio.sleep(wanted_at)
        async with paced.slot():
            in_flight += 1
            peak = max(peak, in_flight)
            arrived.append(anyio.current_time() + latency_seconds * share)
            await anyio.sleep(latency_seconds)
            in_flight -= 1

    async with anyio.create_task_group() as tasks:
        for one in plan:
            tasks.start_soon(request, *one)
    assert paced.requests_sent == len(arrived) == len(plan)
    assert peak <= limit
    for start in arrived:
        assert sum(start <= time < start + WINDOW_SECONDS for time in arrived) <= limit


@virtual_time
async def test_requests_leave_in_turn_as_early_as_the_window_allows() -> None:
    paced = pacer(2)
    left: list[tuple[int, float]] = []

    async def request(number: int) -> None:
        async with paced.slot():
            left.append((number, anyio.current_time()))
            await anyio.sleep(1)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(request, number)
    assert left == [(0, 0.0), (1, 0.0), (2, 61.0), (3, 61.0), (4, 122.0)]


@virtual_time
async def test_a_cancelled_waiter_takes_no_slot_and_blocks_nobody() -> None:
    paced = pacer(1)
    async with paced.slot():
        with anyio.move_on_after(5) as waiting:
            async with paced.slot():
                pytest.fail("there is one slot")
        assert waiting.cancelled_caught
        assert paced.requests_sent == 1
    with anyio.move_on_after(10):
        async with paced.slot():
            pytest.fail("the window is full")
    async with paced.slot():
        assert anyio.current_time() == 65.0
    assert paced.requests_sent == 2


@virtual_time
async def test_a_cancelled_or_failed_request_gives_its_slot_back() -> None:
    paced = pacer(1)
    with anyio.move_on_after(3):
        async with paced.slot():
            await anyio.sleep_forever()
    with pytest.raises(ZeroDivisionError):
        async with paced.slot():
            _ = 1 / (anyio.current_time() - 63.0)
    async with paced.slot():
        assert anyio.current_time() == 123.0


async def _cancel_after(steps: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Cancel `work()` when the loop has turned `steps` times since it began."""
    task = asyncio.create_task(work())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.parametrize("steps", range(8))
@virtual_time
async def test_no_moment_of_a_cancellation_loses_a_slot(steps: int) -> None:
    paced = pacer(1)

    async def request() -> None:
        async with paced.slot():
            await anyio.sleep(1)

    await _cancel_after(steps, request)
    async with paced.slot():
        assert anyio.current_time() == WINDOW_SECONDS * (paced.requests_sent - 1)


@virtual_time
async def test_a_pause_holds_back_who_waits_already() -> None:
    paced = pacer(9)
    await paced.pause(30)
    left: list[float] = []

    async def request() -> None:
        async with paced.slot():
            left.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(request)
        tasks.start_soon(request)
        await anyio.sleep(10)
        await paced.pause(60)
        await paced.pause(1)
        await anyio.sleep(59.5)
        assert left == []
    assert left == [70.0, 70.0]


@virtual_time
async def test_who_waits_for_an_answer_is_woken_by_it() -> None:
    paced = pacer(1)
    async with anyio.create_task_group() as tasks, paced.slot():
        tasks.start_soon(_expect_slot_at, paced, 100.0)
        await anyio.sleep(40)


async def _expect_slot_at(paced: Pacer, seconds: float) -> None:
    async with paced.slot():
        assert anyio.current_time() == seconds


@virtual_time
async def test_a_lowered_limit_holds_for_who_waits_already() -> None:
    paced = pacer(2)
    async with anyio.create_task_group() as tasks:
        async with paced.slot():
            await anyio.sleep(1)
        async with paced.slot() as turn:
            tasks.start_soon(_expect_slot_at, paced, 63.0)
            await anyio.sleep(2)
            turn.announced = Announcement(1)


@virtual_time
async def test_a_raised_limit_is_noticed_within_a_second() -> None:
    budget = MemoryBudget(2, anyio.current_time)
    paced = Pacer(budget.caller(), anyio.current_time)
    async with paced.slot() as turn:
        turn.announced = Announcement(1)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_slot_at, paced, 10.0)
        await anyio.sleep(9.5)
        budget.announced_limit = None


@virtual_time
async def test_a_long_wait_is_told_once_and_again_where_it_grows(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "collector")
    paced = pacer(9)
    await paced.pause(30)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_slot_at, paced, 100.0)
        await anyio.sleep(10)
        await paced.pause(90)
        await anyio.sleep(10)
        await paced.pause(1)
    assert caplog.messages == [
        f"[draenei] api: waiting {seconds} s for the rate limit" for seconds in (30, 90)
    ]


@virtual_time
async def test_a_short_wait_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "collector")
    paced = pacer(1)
    await paced.pause(SILENT_WAIT_SECONDS)
    await _expect_slot_at(paced, SILENT_WAIT_SECONDS)
    assert caplog.messages == []


@virtual_time
async def test_a_wait_that_goes_on_is_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "collector")
    budget = MemoryBudget(9, anyio.current_time)
    enrichment = Pacer(budget.caller(Priority.ENRICHMENT), anyio.current_time)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_slot_at, enrichment, 100.0)
        for second in range(100):
            budget.wanted_until[Priority.RUN] = min(second + 3.0, 100.0)
            await anyio.sleep(1)
    assert 2 <= len(caplog.messages) <= 100 / TELL_AGAIN_SECONDS + 1


@virtual_time
async def test_two_processes_share_one_window() -> None:
    budget = MemoryBudget(3, anyio.current_time)
    left: list[float] = []

    async def ask(paced: Pacer) -> None:
        for _ in range(4):
            async with paced.slot():
                left.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(ask, Pacer(budget.caller(), anyio.current_time))
    assert sorted(left) == [0.0] * 3 + [60.0] * 3 + [120.0] * 2


@virtual_time
async def test_several_429s_that_come_back_together_are_one_pause() -> None:
    paced = pacer(9)
    assert await paced.pause(30)
    assert not await paced.pause(40)
    await anyio.sleep(39)
    assert not await paced.pause(1)
    await anyio.sleep(1)
    assert await paced.pause(1)


class Broken:
    """A budget whose slots cannot be given back."""

    def __init__(self, *, hangs: bool) -> None:
        self._hangs = hangs

    async def take(self) -> Slot | Wait:
        return Slot(1, "me")

    async def end(self, slot: Slot, announced: Announcement | None) -> None:
        if self._hangs:
            await anyio.sleep_forever()
        raise Outage(Edge.DATABASE, "gone")

    async def pause(self, seconds: float) -> None:
        raise AssertionError("nobody pauses here")


@pytest.mark.parametrize("hangs", [False, True])
@virtual_time
async def test_a_slot_that_cannot_be_given_back_hides_nothing_and_holds_nobody_up(
    hangs: bool,
) -> None:
    paced = Pacer(Broken(hangs=hangs), anyio.current_time)
    with pytest.raises(ZeroDivisionError):
        async with paced.slot():
            raise ZeroDivisionError
    with anyio.move_on_after(1) as scope:
        async with paced.slot():
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert anyio.current_time() == 1 + 2 * END_SECONDS * hangs
