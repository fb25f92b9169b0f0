"""What tells that a callback kept an event loop to itself, and what is not its fault."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# A callback of this length is seen by every other task as a stall. Ours take milliseconds; the
# rest is room for a machine that is busy with other things.
LONGEST_CALLBACK_SECONDS = 1.0
# How old a reading of `Queues` may be: what is forgiven too much is at most this.
OLDEST_READING_SECONDS = 0.05


class Collections:
    """The seconds that garbage collection took: the test process's heap is not the product's.

    One that is under way counts, too: what it held up in another thread may go on before its end
    is told here.
    """

    def __init__(self) -> None:
        self._over_seconds = 0.0
        self._began: float | None = None

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        now = time.monotonic()
        self._over_seconds, self._began = self.seconds(now), now if phase == "start" else None

    def seconds(self, now: float) -> float:
        """Return what all collections together took until `now`."""
        under_way = 0.0 if self._began is None else max(0.0, now - self._began)
        return self._over_seconds + under_way


class Queues:
    """The seconds for which a thread was ready to run and no core was free, where Linux counts."""

    def __init__(self) -> None:
        self._readings: dict[int, tuple[float, float]] = {}

    def seconds_before(self, now: float) -> float:
        """Return what this thread has waited until about `now`."""
        thread = threading.get_ident()
        read_at, seconds = self._readings.get(thread, (float("-inf"), 0.0))
        if now - read_at > OLDEST_READING_SECONDS:
            seconds = self.seconds()
            self._readings[thread] = now, seconds
        return seconds

    @staticmethod
    def seconds() -> float:
        """Return what this thread has waited: https://docs.kernel.org/scheduler/sched-stats.html
        (2026-11-29)."""
        with suppress(OSError):
            return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
        return 0.0


def watched(
    run: Callable[[asyncio.Handle], None],
    stalls: list[str],
    collections: Collections,
    queues: Queues,
) -> Callable[[asyncio.Handle], None]:
    """Return `run`, a callback's call, that tells `stalls` which of them took too long."""

    def timed(handle: asyncio.Handle) -> None:
        began = time.monotonic()
        collected, queued = collections.seconds(began), queues.seconds_before(began)
        run(handle)
        ended = time.monotonic()
        took = ended - began - (collections.seconds(ended) - collected)
        if took > LONGEST_CALLBACK_SECONDS:
            took -= max(0.0, queues.seconds() - queued)
        if took > LONGEST_CALLBACK_SECONDS:
            stalls.append(f"{took:.2f} s in {handle!r}")

    return timed
