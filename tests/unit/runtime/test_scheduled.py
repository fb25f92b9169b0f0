"""What a scheduler's run becomes, and the lines in its log while long work goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from collector.core.runs import Run
from collector.runtime.scheduled import LOG_EVERY_SECONDS, LoggedProgress, run_of


@dataclass
class _DagRun:
    dag_id: str = "dag"
    run_id: str = "manual__1"
    logical_date: datetime | None = None
    start_date: datetime | None = None


def test_a_run_keeps_the_names_of_the_scheduler() -> None:
    when = datetime(2026, 11, 1, tzinfo=UTC)
    assert run_of(_DagRun()) == Run("dag", "manual__1", None)
    assert run_of(_DagRun(logical_date=when), 2) == Run("dag", "manual__1", when, 2)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_it_says_now_and_then_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "collector")
    clock = Clock()
    progress = LoggedProgress(clock)
    progress.start("images", 500)
    for _ in range(60):
        clock.seconds += LOG_EVERY_SECONDS / 30
        progress.advance("images", 2, 3_000_000)
    progress.finish("images")
    assert caplog.messages == [
        "images: 60 of 500, 90 MB, 2.0 per second",
        "images: 120 of 500, 180 MB, 2.0 per second",
    ]


def test_work_without_a_known_end_and_without_bytes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "collector")
    clock = Clock()
    progress = LoggedProgress(clock)
    progress.start("pages", None)
    clock.seconds += LOG_EVERY_SECONDS
    progress.advance("pages", 15)
    assert caplog.messages == ["pages: 15, 0.5 per second"]


def test_short_work_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "collector")
    progress = LoggedProgress(Clock())
    progress.start("pages", 1)
    progress.advance("pages", 1)
    progress.finish("pages")
    assert caplog.messages == []
