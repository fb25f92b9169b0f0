"""The standard streams of a command, and its log on stderr.

No stream is missing, and a reader that has closed its pipe fails no command.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import traceback
from collections.abc import Callable
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any, Literal, TextIO

from collector.interrupts import open_closed_descriptors
from collector.logs import logger, mark_lines

# Text from outside may be of any length.
_MESSAGE_CHARACTERS = 2_000
_STDIN, _STDOUT, _STDERR = 0, 1, 2


def secure_streams() -> None:
    """Make the standard streams safe to use, whatever the caller did with their descriptors.

    A stream that was closed reads and writes nothing. stdout drops text for a closed pipe or a
    terminal that hung up, because the work is done; any other error, such as a full disk, is
    raised, because stdout carries the answer. stderr drops all that it cannot write.
    """
    open_closed_descriptors()
    if sys.stdin is None:
        sys.stdin = open(_STDIN, closefd=False)  # noqa: SIM115
    sys.stdout = _secured(sys.stdout, _STDOUT, _has_no_reader)
    sys.stderr = _secured(sys.stderr, _STDERR, lambda _: True)


class _Output(FileIO):
    """Writes to an open descriptor; drops the data if `is_dropped` says so of the error."""

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
    if stream is None:  # Python found the descriptor closed
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


class _OneLine(logging.Filter):
    """Keep each record one printable line: text from outside must not forge log lines."""

    def __init__(self, edited: Callable[[str], str]) -> None:
        super().__init__()
        self._edited = edited

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if record.exc_info:
            text += " " + "".join(traceback.format_exception(*record.exc_info)).strip()
            record.exc_info = record.exc_text = None
        record.msg = printable(self._edited(text[:_MESSAGE_CHARACTERS]))
        record.args = None
        return True


class _CurrentStderr(logging.StreamHandler[TextIO]):
    """Write to the current `sys.stderr`: progress bars replace it while they are shown."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)


def configure_logging(
    style: Literal["text", "json"], level: str, edited: Callable[[str], str] = str
) -> None:
    """Log to stderr, each line passed through `edited`; libraries from WARNING on."""
    from pythonjsonlogger.json import JsonFormatter

    handler = _CurrentStderr()
    handler.addFilter(_OneLine(edited))
    if style == "json":
        handler.setFormatter(JsonFormatter("{levelname}{name}{message}", style="{", timestamp=True))
    else:
        # No time: a person sees it, and schedulers add their own.
        handler.setFormatter(logging.Formatter("%(message)s"))
        mark_lines()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logger.setLevel(level)
