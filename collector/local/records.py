"""How a running embedded server is reached. Secrets never show in a repr."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar


@dataclass(frozen=True, slots=True)
class LocalPostgres:
    """An embedded PostgreSQL: role and database are both named `collector`.

    `dsn` is TCP on loopback with user and password, for asyncpg and libpq alike. `psql` is a
    command line to paste, free of secrets (it names a password file), or None where the
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
