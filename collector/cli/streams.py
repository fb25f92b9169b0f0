"""The standard streams of a command: none is missing, and a reader that left is no failure."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any, TextIO

from collector.interrupts import open_closed_descriptors

_STDIN, _STDOUT, _STDERR = 0, 1, 2


def secure_streams() -> None:
    """Make the standard streams safe to use, whatever the caller did with their descriptors.

    One that was closed reads and writes nothing. Text for a pipe that was closed, or for a
    terminal that hung up, is dropped: the work that it tells of is done. stderr drops all that it
    cannot write; an error of stdout, such as a full disk, is raised: its text is the answer.
    """
    open_closed_descriptors()
    if sys.stdin is None:
        sys.stdin = open(_STDIN, closefd=False)  # noqa: SIM115
    sys.stdout = _secured(sys.stdout, _STDOUT, _has_no_reader)
    sys.stderr = _secured(sys.stderr, _STDERR, lambda _: True)


class _Output(FileIO):
    """Writes to an open descriptor, and drops what fails for a reason that `is_dropped` names."""

    def __init__(self, descriptor: int, is_dropped: Callable[[OSError], bool]) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._is_dropped = is_dropped

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if not self._is_dropped(error):
                raise
            return memoryview(data).nbytes


def _has_no_reader(error: OSError) -> bool:
    is_terminal = stat.S_ISCHR(os.fstat(_STDOUT).st_mode)
    return error.errno == errno.EPIPE or (error.errno == errno.EIO and is_terminal)


def _secured(
    stream: TextIO | None, descriptor: int, is_dropped: Callable[[OSError], bool]
) -> TextIO:
    if stream is None:  # Python has found its descriptor closed
        return open(descriptor, "w", errors="backslashreplace", closefd=False)
    if not isinstance(stream, TextIOWrapper):  # a caller's own, such as a test's
        return stream
    stream.flush()
    raw = _Output(stream.fileno(), is_dropped)
    return TextIOWrapper(
        raw if stream.write_through else BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def printable(text: str) -> str:
    """Return `text` as one line that moves no cursor: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
