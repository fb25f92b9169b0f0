"""The collector's logger, the `[draenei]` mark of its lines, and words for failed connections."""

from __future__ import annotations

import logging
import os
import socket
import ssl

# For what a person needs to follow a run. What concerns one item or call is logged by its module,
# under its own name and without the mark.
logger = logging.getLogger("collector")

MARK = "[draenei]"


def mark_lines() -> None:
    """Begin each line of `logger` with MARK, whatever handles it; safe to repeat."""
    if not any(isinstance(known, _Mark) for known in logger.filters):
        logger.addFilter(_Mark())


class _Mark(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = f"{MARK} {record.msg}"
        return True


def connect_problem(error: Exception) -> str:
    """Return why a connection failed, in words; never an address or the name of a class."""
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed, {error.library}: {error.reason}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number else "no address accepts a connection"
