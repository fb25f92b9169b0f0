"""Lines in the log while long work goes on."""

from __future__ import annotations

import pytest

from collector.runtime.progress import LOG_EVERY_SECONDS, LoggedProgress


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
        "[draenei] images: 60 of 500, 90 MB, 2.0 per second",
        "[draenei] images: 120 of 500, 180 MB, 2.0 per second",
    ]


def test_work_without_a_known_end_and_without_bytes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "collector")
    clock = Clock()
    progress = LoggedProgress(clock)
    progress.start("pages", None)
    clock.seconds += LOG_EVERY_SECONDS
    progress.advance("pages", 15)
    assert caplog.messages == ["[draenei] pages: 15, 0.5 per second"]


def test_short_work_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "collector")
    progress = LoggedProgress(Clock())
    progress.start("pages", 1)
    progress.advance("pages", 1)
    progress.finish("pages")
    assert caplog.messages == []
