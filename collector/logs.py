"""The collector's logger and the `[draenei]` mark of its lines."""

from __future__ import annotations

import logging

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
