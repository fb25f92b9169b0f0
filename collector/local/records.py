"""How to reach an embedded server, the error when that fails, and what the modules here share.

Secrets never show in a repr, and only their owner can read them in files.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

logger = logging.getLogger("collector.local")

LOOPBACK = "127.0.0.1"
PRIVATE_FILE_MODE = 0o600
PRIVATE_FOLDER_MODE = 0o700
# Other users may pass through such a folder, which the unprivileged PostgreSQL has to.
PASSABLE_FOLDER_MODE = 0o711


class LocalServerError(Exception):
    """An embedded server could not be started, reached or used.

    Attributes: `server` (its name in messages), `problem` (one clause), `log` (the server's log
    file, if there is one) and `tail` (that log's last lines, oldest first, of this start only).
    """

    def __init__(
        self, server: str, problem: str, *, log: Path | None = None, tail: Sequence[str] = ()
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


@dataclass(frozen=True, slots=True)
class LocalPostgres:
    """An embedded PostgreSQL: role and database are both named `collector`.

    `dsn` is TCP on loopback with user and password, for asyncpg and libpq alike. `psql` is a
    command line to paste, free of secrets (it names a password file), or None if the
    installation has no psql. `log` is the server's log, which also takes what `log_statement`
    asks for. `pid` is the postmaster.
    """

    dsn: str = field(repr=False)
    psql: str | None
    log: Path
    pid: int


@dataclass(frozen=True, slots=True)
class LocalS3:
    """An embedded S3 server: path-style addresses, plain HTTP on loopback, no bucket made."""

    endpoint_url: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str
    log: Path
    pid: int


Record = TypeVar("Record", LocalPostgres, LocalS3)


def to_json(record: LocalPostgres | LocalS3) -> str:
    return json.dumps(asdict(record), default=str)


def from_json(kind: type[Record], text: str) -> Record:
    """Read what `to_json` wrote; ValueError or TypeError on anything else."""
    fields = json.loads(text)
    return kind(**{**fields, "log": Path(fields["log"])})


def write_private(path: Path, text: str) -> None:
    """Replace `path` by a file with `text` that only its owner can read.

    Readers see the old file or the whole new one; on an error the old one stays.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE_MODE)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)


def as_user(user: int | None) -> dict[str, Any]:
    """Return the options of subprocess that run a program as `user` (None: the current user).

    Dropping to another user needs root; the program then has no further groups.
    """
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}
