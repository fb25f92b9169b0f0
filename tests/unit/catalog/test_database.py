"""Error messages if no database answers."""

from __future__ import annotations

import socket

import asyncpg
import pytest

from collector.catalog.database import database_errors, open_database
from collector.core.errors import Edge, Outage, Refusal

HINT = "start the server, or correct host and port in DATABASE_URL"


async def test_a_server_that_is_down_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Outage) as caught:
        async with open_database(f"postgresql://me:hidden@127.0.0.1:{port}/db"):
            pass
    assert caught.value.edge is Edge.DATABASE
    assert caught.value.problem == (
        f"postgresql://me@127.0.0.1:{port}/db:"
        f" no connection to 127.0.0.1:{port} (connection refused); {HINT}"
    )


@pytest.mark.parametrize(
    ("hosts", "named"),
    [
        ("database", "database:5432"),
        ("database:6000", "database:6000"),
        ("[::1]", "[::1]:5432"),
        ("one:1,two", "one:1 or two:5432"),
    ],
)
def test_every_host_is_named_with_its_port(hosts: str, named: str) -> None:
    with (
        pytest.raises(Outage, match="no connection to") as caught,
        database_errors(f"postgresql://me@{hosts}/db"),
    ):
        raise OSError("[Errno 111] Connect call failed")
    assert f"no connection to {named} (no address accepts a connection)" in caught.value.problem
    assert "Errno" not in caught.value.problem


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (
            asyncpg.InvalidPasswordError('password authentication failed for user "me"'),
            'password authentication failed for user "me"; check user and password in DATABASE_URL',
        ),
        (
            asyncpg.InvalidCatalogNameError('database "db" does not exist'),
            'database "db" does not exist; create it, or correct the name in DATABASE_URL',
        ),
    ],
)
def test_a_refusal_says_what_to_correct(error: Exception, found: str) -> None:
    address = "postgresql://me@database/db"
    with pytest.raises(Refusal) as caught, database_errors(address):
        raise error
    assert caught.value.problem == f"{address}: {found}"
