"""Logging of the command line: text or JSON lines on stderr."""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from typing import Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

from collector.cli.printable import printable

# A hostile value may hold anything; no line grows past this, and control characters are escaped.
_MESSAGE_CHARACTERS = 2_000


class _OneLine(logging.Filter):
    """Keep each record one printable line: text from outside must not forge log lines.

    `edited` makes of a line what the person who reads it can paste from.
    """

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


class _StderrNow(logging.StreamHandler[TextIO]):
    """Write to what `sys.stderr` is at the moment: progress bars put their own in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        self.setStream(sys.stderr)
        super().emit(record)


def configure_logging(
    style: Literal["text", "json"], level: str, edited: Callable[[str], str] = str
) -> None:
    """Send our log lines, each `edited`, to stderr; libraries speak from WARNING on."""
    handler = _StderrNow()
    handler.addFilter(_OneLine(edited))
    if style == "json":
        handler.setFormatter(JsonFormatter("{levelname}{name}{message}", style="{", timestamp=True))
    else:
        # What a stage says begins the line; a person sees the time, and schedulers add theirs.
        handler.setFormatter(logging.Formatter("%(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("collector").setLevel(level)
