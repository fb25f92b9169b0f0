"""Pacing: no window of the server's clock overflows, and no header can stop us for ever."""

from __future__ import annotations

import heapq
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.pacing import (
    DEFAULT_PAUSE_SECONDS,
    LEAST_PAUSE_SECONDS,
    MAX_PAUSE_SECONDS,
    WINDOW_SECONDS,
    SlidingWindow,
    announced_limit,
    pause_seconds,
)

NOW = 1_790_000_000.0

# Eighths of a second are exact in binary: the model compares without a tolerance.
eighths = st.integers(0, 8 * 90).map(lambda count: count / 8)
# How long after the last one it is wanted, how long it takes, and how soon of that it arrives.
requests = st.lists(st.tuples(eighths | st.just(0.0), eighths, st.floats(0, 1)), max_size=40)


def arrivals(window: SlidingWindow, plan: list[tuple[float, float, float]]) -> list[float]:
    """Send each request as early as allowed, on a clock of our own; say when they arrived."""
    now, arrived = 0.0, []
    flying: list[float] = []
    for idle_seconds, latency_seconds, share in plan:
        now += idle_seconds
        _land(window, flying, now)
        while (delay_seconds := window.delay_seconds(now)) != 0.0:
            now = min(flying[:1] + ([] if delay_seconds is None else [now + delay_seconds]))
            _land(window, flying, now)
        window.begin()
        heapq.heappush(flying, now + latency_seconds)
        arrived.append(now + latency_seconds * share)
    return sorted(arrived)


def _land(window: SlidingWindow, flying: list[float], now: float) -> None:
    while flying and flying[0] <= now:
        window.end(heapq.heappop(flying))


@given(st.integers(1, 6), requests)
def test_no_window_of_the_server_holds_more_than_the_limit(
    limit: int, plan: list[tuple[float, float, float]]
) -> None:
    arrived = arrivals(SlidingWindow(limit), plan)
    assert len(arrived) == len(plan)
    for start in arrived:
        assert sum(start <= time < start + WINDOW_SECONDS for time in arrived) <= limit


@given(st.integers(1, 6), st.integers(1, 30))
def test_the_limit_is_used_up(limit: int, count: int) -> None:
    arrived = arrivals(SlidingWindow(limit), [(0.0, 0.0, 0.0)] * count)
    assert arrived == [WINDOW_SECONDS * (number // limit) for number in range(count)]


def test_a_slot_frees_one_window_after_the_answer() -> None:
    window = SlidingWindow(1)
    assert window.delay_seconds(0.0) == 0.0
    window.begin()
    assert window.delay_seconds(5.0) is None
    window.end(10.0)
    assert window.delay_seconds(10.0) == 60.0
    assert window.delay_seconds(69.5) == 0.5
    assert window.delay_seconds(70.0) == 0.0


def test_a_pause_holds_everybody_and_the_longer_one_stays() -> None:
    window = SlidingWindow(5)
    window.pause(10.0, 30.0)
    window.pause(12.0, 1.0)
    assert window.delay_seconds(15.0) == 25.0
    window.pause(15.0, 60.0)
    assert window.delay_seconds(40.0) == 35.0
    assert window.delay_seconds(75.0) == 0.0


def test_a_limit_is_only_ever_lowered() -> None:
    window = SlidingWindow(3)
    window.lower(9)
    assert window.limit == 3
    window.lower(2)
    assert window.limit == 2
    window.lower(0)
    assert window.limit == 1


def test_a_lowered_limit_counts_what_left_before() -> None:
    window = SlidingWindow(3)
    for second in (0.0, 1.0, 2.0):
        window.begin()
        window.end(second)
    window.lower(1)
    assert window.delay_seconds(60.0) == 1.0
    assert window.delay_seconds(61.0) == 1.0
    assert window.delay_seconds(62.0) == 0.0


@pytest.mark.parametrize("limit", [0, -3])
def test_a_window_lets_somebody_through(limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SlidingWindow(limit)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("45", 45),
        (" 12 ", 12),
        ("0", None),
        ("000", None),
        ("", None),
        ("-1", None),
        ("1e3", None),
        ("45, 45", None),
        ("\u0664\u0665", None),
        ("\u00b2", None),
        ("9" * 5000, None),
    ],
    ids=lambda value: ascii(value)[:12],
)
def test_announced_limit(text: str, limit: int | None) -> None:
    assert announced_limit({"X-RateLimit-Limit": text}) == limit


def test_no_announced_limit() -> None:
    assert announced_limit({}) is None


def http_date(epoch_seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(epoch_seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7.0),
        (" 28 ", 28.0),
        ("0", LEAST_PAUSE_SECONDS),
        ("86400", MAX_PAUSE_SECONDS),
        ("999999999999", MAX_PAUSE_SECONDS),
        (http_date(NOW + 90), 90.0),
        (http_date(NOW - 90), LEAST_PAUSE_SECONDS),
        (http_date(NOW + 86_400), MAX_PAUSE_SECONDS),
        (datetime.fromtimestamp(NOW + 45, UTC).strftime("%A, %d-%b-%y %H:%M:%S GMT"), 45.0),
        (datetime.fromtimestamp(NOW + 45, UTC).strftime("%a %b %d %H:%M:%S %Y"), 45.0),
    ],
)
def test_retry_after(retry_after: str, seconds: float) -> None:
    assert pause_seconds({"Retry-After": retry_after}, NOW) == seconds


@pytest.mark.parametrize(
    "nonsense",
    [
        *(
            "",
            " ",
            "nan",
            "inf",
            "1e9",
            "-5",
            "+5",
            "soon",
            "7, 9",
            "7.5",
            "0x10",
            "\u0667",
            "\u00b2",
            "1_0",
        ),
        *("9" * 13, "9" * 5000, "Mon, 99 Nov 2026 99:99:99 GMT"),
        *("Mon, 01 Jan 99999 00:00:00 GMT",),
    ],
    ids=lambda value: ascii(value)[:16],
)
def test_nonsense_means_one_window(nonsense: str) -> None:
    headers = {"Retry-After": nonsense, "X-RateLimit-Reset": "later"}
    assert pause_seconds(headers, NOW) == DEFAULT_PAUSE_SECONDS == WINDOW_SECONDS


def test_a_429_without_headers_means_one_window() -> None:
    assert pause_seconds({}, NOW) == DEFAULT_PAUSE_SECONDS


@pytest.mark.parametrize(
    ("retry_after", "reset", "seconds"),
    [
        ("7", NOW + 40, 40.0),
        ("50", NOW + 40, 50.0),
        ("7", NOW - 1000, 7.0),
        ("soon", NOW + 40, 40.0),
        ("soon", NOW - 40, LEAST_PAUSE_SECONDS),
        ("soon", NOW + 100_000, MAX_PAUSE_SECONDS),
    ],
)
def test_the_later_of_retry_after_and_reset_wins(
    retry_after: str, reset: float, seconds: float
) -> None:
    headers = {"Retry-After": retry_after, "X-RateLimit-Reset": str(int(reset))}
    assert pause_seconds(headers, NOW) == seconds


dates = st.builds("{}, {} {} {} {}:{}:{} {}".format, *[st.text(max_size=5)] * 8)
values = st.text(st.characters()) | dates | st.integers().map(str) | st.floats().map(str)


@given(values, values)
def test_no_header_makes_a_pause_of_another_size(retry_after: str, reset: str) -> None:
    headers = {"Retry-After": retry_after, "X-RateLimit-Reset": reset}
    assert LEAST_PAUSE_SECONDS <= pause_seconds(headers, NOW) <= MAX_PAUSE_SECONDS
    limit = announced_limit({"X-RateLimit-Limit": reset})
    assert limit is None or limit >= 1
