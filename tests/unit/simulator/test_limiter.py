from __future__ import annotations

from collector.simulator.limits import FixedWindow, Grant, SlidingWindow


class _Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_begins_with_the_first_request_and_refuses_beyond_its_limit() -> None:
    clock = _Clock()
    window = FixedWindow(2, clock)
    assert window.ask("a") == Grant(True, 2, 1, 60)
    clock.now += 30.5
    assert window.ask("a") == Grant(True, 2, 0, 30)
    assert window.ask("a") == Grant(False, 2, 0, 30)
    clock.now += 29.4
    assert window.ask("a") == Grant(False, 2, 0, 1)


def test_the_next_window_opens_after_sixty_seconds() -> None:
    clock = _Clock()
    window = FixedWindow(1, clock)
    assert window.ask("a").allowed
    assert not window.ask("a").allowed
    clock.now += 60
    assert window.ask("a") == Grant(True, 1, 0, 60)


def test_waiting_as_told_is_always_enough() -> None:
    clock = _Clock()
    window = FixedWindow(1, clock)
    window.ask("a")
    clock.now += 0.001
    clock.now += window.ask("a").retry_after_seconds
    assert window.ask("a").allowed


def test_clients_have_windows_of_their_own() -> None:
    window = FixedWindow(1, _Clock())
    assert window.ask("a").allowed
    assert window.ask("b").allowed
    assert not window.ask("a").allowed


def test_a_window_can_be_scaled() -> None:
    clock = _Clock()
    window = FixedWindow(1, clock, window_seconds=1.5)
    assert window.ask("a") == Grant(True, 1, 0, 2)
    clock.now += 1.4
    assert not window.ask("a").allowed
    clock.now += 0.1
    assert window.ask("a").allowed


def test_a_sliding_window_gives_back_one_request_after_the_other() -> None:
    clock = _Clock()
    window = SlidingWindow(2, clock, window_seconds=6)
    assert window.ask("a") == Grant(True, 2, 1, 6)
    clock.now += 4
    assert window.ask("a") == Grant(True, 2, 0, 2)
    assert window.ask("a") == Grant(False, 2, 0, 2)
    assert window.ask("b").allowed
    clock.now += 2
    assert window.ask("a") == Grant(True, 2, 0, 4)
    assert not window.ask("a").allowed
