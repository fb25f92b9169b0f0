"""Bounded concurrency on virtual time: the byte budget, the task group."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import virtual_time

from collector.core.errors import Code, Edge, Fault, ItemError, Outage
from collector.flow import ByteBudget, task_group

# Eighths of a second are exact in binary: no tolerance is needed.
latencies = st.integers(0, 8 * 90).map(lambda count: count / 8)


async def _cancel_after(steps: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Cancel `work()` when the loop has turned `steps` times since it began."""
    task = asyncio.create_task(work())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


# --- ByteBudget ---------------------------------------------------------------------------------


@given(
    st.integers(1, 20),
    st.lists(st.tuples(st.integers(0, 20), latencies, st.booleans()), max_size=15),
)
@virtual_time
async def test_the_budget_is_never_exceeded_and_served_in_turn(
    limit_bytes: int, plan: list[tuple[int, float, bool]]
) -> None:
    budget = ByteBudget(limit_bytes)
    fitting = [(min(size, limit_bytes), seconds, fails) for size, seconds, fails in plan]
    served: list[int] = []
    held = 0

    async def hold(number: int, size_bytes: int, seconds: float, fails: bool) -> None:
        nonlocal held
        with anyio.move_on_after(seconds if fails else None):
            async with budget.reserve(size_bytes):
                served.append(number)
                held += size_bytes
                assert held == budget.held_bytes <= limit_bytes
                try:
                    await anyio.sleep(seconds)
                finally:
                    held -= size_bytes

    async with anyio.create_task_group() as tasks:
        for number, one in enumerate(fitting):
            tasks.start_soon(hold, number, *one)
    assert served == sorted(served)
    assert set(served) >= {number for number, (_, _, fails) in enumerate(fitting) if not fails}
    assert budget.held_bytes == 0
    assert budget.peak_bytes <= limit_bytes


@virtual_time
async def test_a_small_one_does_not_overtake_a_large_one() -> None:
    budget = ByteBudget(10)
    granted: list[str] = []

    async def hold(name: str, size_bytes: int) -> None:
        async with budget.reserve(size_bytes):
            granted.append(name)
            await anyio.sleep(1)

    async with anyio.create_task_group() as tasks:
        for name, size_bytes in {"first": 6, "large": 10, "small": 1}.items():
            tasks.start_soon(hold, name, size_bytes)
    assert granted == ["first", "large", "small"]
    assert anyio.current_time() == 3.0
    assert budget.peak_bytes == 10


@virtual_time
async def test_a_cancelled_waiter_holds_nothing_and_blocks_nobody() -> None:
    budget = ByteBudget(10)
    async with budget.reserve(8):
        with anyio.move_on_after(1) as waiting:
            async with budget.reserve(5):
                pytest.fail("only 2 are free")
        assert waiting.cancelled_caught
        async with budget.reserve(2):
            assert budget.held_bytes == 10
    assert budget.held_bytes == 0


@virtual_time
async def test_a_cancelled_or_failed_holder_frees_its_bytes() -> None:
    budget = ByteBudget(10)
    with anyio.move_on_after(1):
        async with budget.reserve(10):
            await anyio.sleep_forever()
    with pytest.raises(ZeroDivisionError):
        async with budget.reserve(10):
            _ = 1 // 0
    assert budget.held_bytes == 0


@pytest.mark.parametrize("steps", range(8))
@virtual_time
async def test_no_moment_of_a_cancellation_loses_bytes(steps: int) -> None:
    budget = ByteBudget(10)

    async def hold() -> None:
        async with budget.reserve(10):
            await anyio.sleep(1)

    await _cancel_after(steps, hold)
    async with budget.reserve(10):
        assert budget.held_bytes == 10


@virtual_time
async def test_what_never_fits_is_refused_at_once() -> None:
    budget = ByteBudget(10)
    async with budget.reserve(10):
        with pytest.raises(ValueError, match="11 bytes never fit a budget of 10"):
            async with budget.reserve(11):
                pytest.fail("too large")
    assert budget.peak_bytes == 10


# --- task_group ---------------------------------------------------------------------------------


ITEM = ItemError(Code.GONE, "this one", fault=Fault.PERMANENT)
OUTAGE = Outage(Edge.API, "nobody there")
DEFECT = ZeroDivisionError("ours")
EXIT = KeyboardInterrupt()


async def _fail_when_cancelled(error: BaseException) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise error


@virtual_time
async def test_a_task_group_waits_for_its_tasks() -> None:
    done: list[float] = []

    async def work(seconds: float) -> None:
        await anyio.sleep(seconds)
        done.append(seconds)

    async with task_group() as tasks:
        tasks.start_soon(work, 2.0)
        tasks.start_soon(work, 1.0)
    assert done == [1.0, 2.0]


@pytest.mark.parametrize("error", [ITEM, OUTAGE, DEFECT])
def test_the_error_of_a_task_is_raised_as_it_is(error: Exception) -> None:
    async def fail() -> None:
        raise error

    async def main() -> None:
        async with task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            tasks.start_soon(fail)

    with pytest.raises(type(error)) as caught:
        virtual_time(main)()
    assert caught.value is error


@virtual_time
async def test_the_error_of_the_body_is_raised_as_it_is_and_ends_the_tasks() -> None:
    ended = anyio.Event()

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.set()

    async def main() -> None:
        async with task_group() as tasks:
            tasks.start_soon(work)
            await anyio.sleep(1)
            raise OUTAGE

    with pytest.raises(Outage) as caught:
        await main()
    assert caught.value is OUTAGE
    assert ended.is_set()


@pytest.mark.parametrize(
    ("errors", "gravest"),
    [
        ([ITEM, OUTAGE], OUTAGE),
        ([OUTAGE, ITEM], OUTAGE),
        ([OUTAGE, DEFECT], DEFECT),
        ([DEFECT, ITEM, OUTAGE], DEFECT),
        ([ITEM, ITEM], ITEM),
        ([ITEM, ExceptionGroup("inner", [OUTAGE, ExceptionGroup("", [DEFECT])])], DEFECT),
        ([DEFECT, BaseExceptionGroup("inner", [EXIT])], EXIT),
    ],
    ids=repr,
)
@virtual_time
async def test_the_gravest_of_several_errors_speaks(
    errors: list[Exception], gravest: BaseException
) -> None:
    async def main() -> None:
        async with task_group() as tasks:
            for error in errors:
                tasks.start_soon(_fail_when_cancelled, error)
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()

    with pytest.raises(type(gravest)) as caught:
        await main()
    assert caught.value is gravest


@virtual_time
async def test_the_cancellation_of_a_scope_passes_through() -> None:
    with anyio.move_on_after(5) as scope:
        async with task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert anyio.current_time() == 5.0


@virtual_time
async def test_the_cancellation_of_the_asyncio_task_passes_through() -> None:
    async def main() -> None:
        async with task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            await anyio.sleep_forever()

    task = asyncio.create_task(main())
    await anyio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@virtual_time
async def test_an_error_wins_over_the_cancellation_that_uncovered_it() -> None:
    async def main() -> None:
        with anyio.move_on_after(1):
            async with task_group() as tasks:
                tasks.start_soon(_fail_when_cancelled, OUTAGE)

    with pytest.raises(Outage):
        await main()
