"""Points at which a test may end, interrupt or stop this process; otherwise they do nothing.

`DRAENEI_FAILPOINT=confirmed:kill` kills the process when it has confirmed an image, and
`confirmed:kill:3` when it does so for the third time. It is an environment variable, read once,
because no caller could pass it as an argument. Only tests may set it.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from enum import StrEnum

VARIABLE = "DRAENEI_FAILPOINT"


class Point(StrEnum):
    """Moments of a run, in their order; each leaves another state behind."""

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
    """Send the signal of the failpoint if the process has reached it; else return at once."""
    if _armed is None or _armed.point is not point:
        return
    _armed.times_left -= 1
    if _armed.times_left == 0:
        os.kill(os.getpid(), _armed.number)
