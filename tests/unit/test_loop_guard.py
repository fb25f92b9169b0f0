"""The guard against blocked loops sees what a callback does, and nothing that is done to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import loop_guard
import pytest
from loop_guard import Collections, Queues, watched

Told = Callable[[Callable[[], None]], list[str]]

SHORT_SECONDS, LONG_SECONDS = 0.9, 1.1


class Clock:
    """A clock that only `pass_by` moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += seconds


class FullCores(Queues):
    """Queues in which a thread has waited as long as it is told."""

    waited_seconds = 0.0

    def seconds(self) -> float:  # type: ignore[override]
        return self.waited_seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loop_guard, "time", clock)
    return clock


@pytest.fixture
def queues() -> FullCores:
    return FullCores()


@pytest.fixture
def collections() -> Collections:
    return Collections()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    opened = asyncio.new_event_loop()
    yield opened
    opened.close()


@pytest.fixture
def stalls(loop: asyncio.AbstractEventLoop, collections: Collections, queues: FullCores) -> Told:
    """Return what is told after a callback."""

    def told(callback: Callable[[], None]) -> list[str]:
        found: list[str] = []
        handle = asyncio.Handle(callback, (), loop)
        watched(lambda handle: callback(), found, collections, queues)(handle)
        return found

    return told


def test_a_short_callback_is_fine(stalls: Told, clock: Clock) -> None:
    assert stalls(lambda: clock.pass_by(SHORT_SECONDS)) == []


def test_a_long_callback_is_told(stalls: Told, clock: Clock) -> None:
    (told,) = stalls(lambda: clock.pass_by(LONG_SECONDS))
    assert told.startswith("1.10 s in <Handle")


def test_a_collection_within_a_callback_is_not_its_fault(
    stalls: Told, clock: Clock, collections: Collections
) -> None:
    def collecting() -> None:
        collections("start", {})
        clock.pass_by(LONG_SECONDS)
        collections("stop", {})
        clock.pass_by(SHORT_SECONDS)

    assert stalls(collecting) == []


def test_a_collection_of_another_thread_counts_before_its_end_is_told(
    stalls: Told, clock: Clock, collections: Collections
) -> None:
    """At the end of a collection the interpreter may let the waiting thread go on first."""

    def held_up() -> None:
        collections("start", {})
        clock.pass_by(LONG_SECONDS)

    assert stalls(held_up) == []
    collections("stop", {})
    assert stalls(lambda: clock.pass_by(LONG_SECONDS)) != []


def test_a_collection_that_began_before_a_callback_counts_from_there(
    stalls: Told, clock: Clock, collections: Collections
) -> None:
    collections("start", {})
    clock.pass_by(LONG_SECONDS)

    def blocking() -> None:
        clock.pass_by(SHORT_SECONDS)
        collections("stop", {})
        clock.pass_by(LONG_SECONDS)

    assert stalls(blocking) != []


def test_time_without_a_core_is_not_its_fault(
    stalls: Told, clock: Clock, queues: FullCores
) -> None:
    def waiting() -> None:
        clock.pass_by(LONG_SECONDS)
        queues.waited_seconds += LONG_SECONDS

    assert stalls(waiting) == []
