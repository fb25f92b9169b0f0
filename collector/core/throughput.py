"""A source that drips: too slow to wait for, and never silent enough for a time-out."""

from __future__ import annotations

from collector.core.errors import Code, Fault, ItemError

# No line on which wallpapers are collected is slower; below it, a body is being dripped.
LEAST_BYTES_PER_SECOND = 4_000
# Honest lines stall for a few seconds; this long on end, they do not.
WINDOW_SECONDS = 20.0


class Throughput:
    """Watches how a body comes, window by window; time that we spend ourselves does not count."""

    def __init__(self) -> None:
        self._bytes = 0
        self._seconds = 0.0

    def note(self, size_bytes: int, waited_seconds: float) -> None:
        """Bytes came after a wait for them.

        Raises ItemError(source_error, transient) where a whole window brought too few.
        """
        self._bytes += size_bytes
        self._seconds += waited_seconds
        if self._seconds < WINDOW_SECONDS:
            return
        per_second = self._bytes / self._seconds
        if per_second < LEAST_BYTES_PER_SECOND:
            problem = f"{per_second:.0f} bytes a second for {self._seconds:.0f} s"
            raise ItemError(Code.SOURCE_ERROR, problem, fault=Fault.TRANSIENT)
        self._bytes, self._seconds = 0, 0.0
