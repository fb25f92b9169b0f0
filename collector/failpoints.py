"""Named places at which a test may end, stop or interrupt this process; inert otherwise.

`DRAENEI_FAILPOINT=confirmed:kill` kills the process when it has confirmed an image, and
`confirmed:kill:3` when it does so for the third time. A variable of the process, read once: the
moment before a process is killed is no argument that a caller could pass. Nothing else may depend
on it.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import StrEnum

VARIABLE = "DRAENEI_FAILPOINT"


class Point(StrEnum):
    """Moments after which the world is in a state of its own, in the order of a run."""

    STARTED = "started"
    RUN_OPENED = "run_opened"
    PAGE_FETCHED = "page_fetched"
    PAGE_COPIED = "page_copied"
    PAGE_STAGED = "page_staged"
    MERGED = "merged"
    CLAIMED = "claimed"
    BODY_ARRIVING = "body_arriving"
    UPLOAD_BEGUN = "upload_begun"
    UPLOAD_NOTED = "upload_noted"
    PART_STORED = "part_stored"
    PARTS_STORED = "parts_stored"
    WRITTEN = "written"
    VERIFIED = "verified"
    CONFIRMED = "confirmed"


# What may be done there: die without a word, be asked to end, or be stopped until told to go on.
SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "stop": signal.SIGSTOP}


@dataclass(slots=True)
class _Armed:
    point: Point
    number: signal.Signals
    times_left: int


def parse(text: str) -> _Armed:
    """Read `POINT:ACTION` or `POINT:ACTION:TIMES`; raises ValueError for anything else."""
    point, action, *times = text.split(":")
    if action not in SIGNALS or len(times) > 1:
        raise ValueError(f"{VARIABLE}: POINT:ACTION[:TIMES], ACTION one of {', '.join(SIGNALS)}")
    return _Armed(Point(point), SIGNALS[action], int(times[0]) if times else 1)


_armed = parse(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def reach(point: Point) -> None:
    """Say that the process has come to `point`; returns at once unless a test has armed it."""
    if _armed is None or _armed.point is not point:
        return
    _armed.times_left -= 1
    if _armed.times_left == 0:
        os.kill(os.getpid(), _armed.number)
