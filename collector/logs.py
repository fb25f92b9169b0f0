"""The mark at the beginning of our log lines, on the command line and in a scheduler alike."""

from __future__ import annotations

import logging

# Everything that a person follows a run by is logged here; modules log what concerns one item or
# call under their own names, without the mark.
logger = logging.getLogger("collector")

MARK = "[draenei]"


def mark_lines() -> None:
    """Let each line of `logger` begin with MARK, wherever it goes; safe to repeat."""
    if not any(isinstance(known, _Mark) for known in logger.filters):
        logger.addFilter(_Mark())


class _Mark(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Mark the record; it stays."""
        record.msg = f"{MARK} {record.msg}"
        return True
