"""Drips are told from slow lines, and from our own slowness."""

from __future__ import annotations

import pytest

from collector.core.errors import Code, Fault, ItemError
from collector.core.throughput import LEAST_BYTES_PER_SECOND, WINDOW_SECONDS, Throughput


def test_a_byte_now_and_then_is_given_up_after_a_window() -> None:
    throughput = Throughput()
    for _ in range(int(WINDOW_SECONDS / 0.5) - 1):
        throughput.note(1, 0.5)
    with pytest.raises(ItemError) as caught:
        throughput.note(1, 0.5)
    assert (caught.value.code, caught.value.fault) == (Code.SOURCE_ERROR, Fault.TRANSIENT)
    assert caught.value.reason == "2 bytes a second for 20 s"


def test_a_body_that_begins_fast_and_then_drips_is_given_up_too() -> None:
    throughput = Throughput()
    throughput.note(10_000_000, WINDOW_SECONDS)
    with pytest.raises(ItemError):
        throughput.note(1, WINDOW_SECONDS)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 19.0, 25.0])
def test_a_slow_line_is_waited_for(seconds: float) -> None:
    throughput = Throughput()
    for _ in range(1000):
        throughput.note(int(LEAST_BYTES_PER_SECOND * seconds) + 1, seconds)


def test_what_comes_at_once_costs_no_time() -> None:
    throughput = Throughput()
    for _ in range(1_000_000):
        throughput.note(1, 0.0)
