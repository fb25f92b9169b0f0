"""Text from outside, on its way to a terminal, a log or a file."""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` as one line that moves no cursor: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
