"""What a person may watch."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What a person may watch; calls are cheap and never fail."""

    def start(self, task: str, total: int | None) -> None:
        """A task begins; `total` None where the end is unknown."""

    def advance(self, task: str, items: int, size_bytes: int = 0) -> None:
        """Items (and bytes) were done."""

    def finish(self, task: str) -> None:
        """The task is over."""
