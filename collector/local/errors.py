"""What can go wrong with an embedded server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class LocalServerError(Exception):
    """An embedded server could not be started, reached or used.

    Attributes: `server` (its name for people), `problem` (one clause), `log` (the server's log
    file, where one exists) and `tail` (that log's last lines, oldest first, of this start only).
    """

    def __init__(
        self,
        server: str,
        problem: str,
        *,
        log: Path | None = None,
        tail: Sequence[str] = (),
    ) -> None:
        super().__init__(server, problem)
        self.server = server
        self.problem = problem
        self.log = log
        self.tail = tuple(tail)

    def __str__(self) -> str:
        last_line = f": {self.tail[-1]}" if self.tail else ""
        where = f" (log: {self.log})" if self.log else ""
        return f"{self.server}: {self.problem}{last_line}{where}"
