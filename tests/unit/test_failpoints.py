"""Failpoints: inert unless armed, and armed only as they are meant."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from collector import failpoints
from collector.failpoints import Point, parse, reach


def test_nothing_is_armed_in_a_process_that_nobody_armed() -> None:
    assert failpoints._armed is None
    for point in Point:
        reach(point)


@pytest.mark.parametrize(
    "text", ["", "confirmed", "confirmed:explode", "nowhere:kill", "confirmed:kill:x", "a:kill:1:2"]
)
def test_what_is_misspelt_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


@pytest.mark.parametrize(
    ("armed", "reached", "status"),
    [
        ("claimed:kill", 1, -signal.SIGKILL),
        ("claimed:term", 1, -signal.SIGTERM),
        ("claimed:kill:3", 2, 0),
        ("claimed:kill:3", 3, -signal.SIGKILL),
        ("confirmed:kill", 3, 0),
        ("", 3, 0),
    ],
)
def test_an_armed_point_does_what_it_is_armed_for(armed: str, reached: int, status: int) -> None:
    program = "from collector.failpoints import Point, reach\n" + "reach(Point.CLAIMED)\n" * reached
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, failpoints.VARIABLE: armed},
        check=False,
        timeout=30,
    )
    assert ended.returncode == status
