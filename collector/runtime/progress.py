"""How long work shows itself where nobody looks at a terminal."""

from __future__ import annotations

import logging
from collections.abc import Callable

logger = logging.getLogger("collector")

# Often enough to see that it goes on, seldom enough to leave the log readable.
LOG_EVERY_SECONDS = 30.0


class LoggedProgress:
    """A line in the log now and then; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._tasks: dict[str, _Task] = {}

    def start(self, task: str, total: int | None) -> None:
        """A task begins."""
        self._tasks[task] = _Task(total, self._clock())

    def advance(self, task: str, items: int, size_bytes: int = 0) -> None:
        """Items were done; says so where the last line is old enough."""
        work, now = self._tasks[task], self._clock()
        work.items += items
        work.size_bytes += size_bytes
        if now - work.logged_at >= LOG_EVERY_SECONDS:
            work.logged_at = now
            logger.info("[draenei] %s: %s", task, work.line(now))

    def finish(self, task: str) -> None:
        """The task is over; its stage's summary says how it went."""
        del self._tasks[task]


class _Task:
    def __init__(self, total: int | None, started_at: float) -> None:
        self.total = total
        self.items = 0
        self.size_bytes = 0
        self.started_at = started_at
        self.logged_at = started_at

    def line(self, now: float) -> str:
        of_total = "" if self.total is None else f" of {self.total}"
        megabytes = f", {self.size_bytes / 1e6:.0f} MB" if self.size_bytes else ""
        per_second = self.items / (now - self.started_at)
        return f"{self.items}{of_total}{megabytes}, {per_second:.1f} per second"
