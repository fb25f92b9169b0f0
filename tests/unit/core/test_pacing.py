"""Pacing: headers are read defensively, and none can stop the collector for good."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.pacing import (
    DEFAULT_PAUSE_SECONDS,
    MAX_PAUSE_SECONDS,
    MIN_PAUSE_SECONDS,
    WINDOW_SECONDS,
    Announcement,
    Priority,
    announced,
    pause_seconds,
)

NOW = 1_790_000_000.0


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
    assert announced({"X-RateLimit-Limit": text}).limit == limit


@pytest.mark.parametrize(
    ("text", "remaining"),
    [("44", 44), ("0", 0), (" 7 ", 7), ("", None), ("-1", None), ("4.5", None), ("few", None)],
)
def test_announced_remaining(text: str, remaining: int | None) -> None:
    assert announced({"X-RateLimit-Remaining": text}).remaining == remaining


def test_nothing_announced() -> None:
    assert announced({}) == Announcement()


def test_enrichment_alone_leaves_slots_to_others_and_goes_last() -> None:
    assert sorted(Priority) == [Priority.RUN, Priority.BACKFILL, Priority.ENRICHMENT]
    assert [bool(each.reserved_slots) for each in sorted(Priority)] == [False, False, True]


def http_date(epoch_seconds: float) -> str:
    return format_datetime(datetime.fromtimestamp(epoch_seconds, UTC), usegmt=True)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7.0),
        (" 28 ", 28.0),
        ("0", MIN_PAUSE_SECONDS),
        ("86400", MAX_PAUSE_SECONDS),
        ("999999999999", MAX_PAUSE_SECONDS),
        (http_date(NOW + 90), 90.0),
        (http_date(NOW), MIN_PAUSE_SECONDS),
        (http_date(NOW - 90), DEFAULT_PAUSE_SECONDS),
        ("1.5", 2.0),
        ("7.0", 7.0),
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
            "7.",
            ".5",
            "1.2.3",
            "7.-5",
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
        ("soon", NOW - 40, DEFAULT_PAUSE_SECONDS),
        ("soon", NOW + 100_000, MAX_PAUSE_SECONDS),
    ],
)
def test_the_later_of_retry_after_and_reset_wins(
    retry_after: str, reset: float, seconds: float
) -> None:
    headers = {"Retry-After": retry_after, "X-RateLimit-Reset": str(int(reset))}
    assert pause_seconds(headers, NOW) == seconds


@pytest.mark.parametrize("ahead_seconds", [-3600.0, 0.0, 3600.0])
@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": http_date(NOW + 40)},
        {"X-RateLimit-Reset": str(int(NOW) + 40)},
    ],
    ids=str,
)
def test_times_are_of_the_clock_of_the_server(
    headers: dict[str, str], ahead_seconds: float
) -> None:
    headers = {**headers, "Date": http_date(NOW)}
    assert pause_seconds(headers, NOW + ahead_seconds) == 40.0


def test_a_date_that_cannot_be_read_leaves_our_clock() -> None:
    headers = {"Date": "today", "Retry-After": http_date(NOW + 40)}
    assert pause_seconds(headers, NOW) == 40.0


dates = st.builds("{}, {} {} {} {}:{}:{} {}".format, *[st.text(max_size=5)] * 8)
values = st.text(st.characters()) | dates | st.integers().map(str) | st.floats().map(str)


@given(values, values, values)
def test_no_header_makes_a_pause_of_another_size(retry_after: str, reset: str, date: str) -> None:
    headers = {"Retry-After": retry_after, "X-RateLimit-Reset": reset, "Date": date}
    assert MIN_PAUSE_SECONDS <= pause_seconds(headers, NOW) <= MAX_PAUSE_SECONDS
    heard = announced({"X-RateLimit-Limit": reset, "X-RateLimit-Remaining": retry_after})
    assert heard.limit is None or 1 <= heard.limit < 2**31
    assert heard.remaining is None or 0 <= heard.remaining < 2**31
