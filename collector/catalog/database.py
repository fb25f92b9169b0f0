"""A pool of connections that runs named queries and raises the collector's errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, NoReturn
from urllib.parse import urlsplit

import anyio
import asyncpg
from asyncpg.pool import PoolConnectionProxy
from tenacity import (
    RetryCallState,
    retry,
    retry_if_exception_type,
    stop_after_attempt,
    wait_random_exponential,
)

from collector.catalog.queries import load_queries
from collector.core.errors import Edge, Outage, Refusal
from collector.flow import CLEANUP_SECONDS
from collector.logs import connect_problem

# A run needs one connection each for pages, claims, heartbeat and confirms; the rest is slack.
POOL_CONNECTIONS = 8
# A healthy server connects in milliseconds; a minute would look like a hang.
CONNECT_TIMEOUT_SECONDS = 10.0
# If no connection is free for this long, the server no longer answers.
ACQUIRE_TIMEOUT_SECONDS = 30.0
# The longest single statement is the merge of a run's pages.
STATEMENT_TIMEOUT_SECONDS = 120.0
# PostgreSQL's port if an address names none.
DEFAULT_PORT = 5432
_PORT = re.compile(r":\d+$")

# Not the items' fault: nothing works until the server or the settings are fixed.
_SYSTEMIC = (
    asyncpg.PostgresConnectionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InterfaceError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.PostgresSystemError,
    # asyncpg raises this if the server has closed a connection that is about to be used.
    asyncpg.InternalClientError,
)
# Prepared statements fail like this behind a pooler in transaction mode.
_POOLED = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
# Refusals by a healthy server, which another attempt does not change, and what to do.
_REFUSING: Mapping[type[asyncpg.PostgresError], str] = {
    asyncpg.InvalidAuthorizationSpecificationError: "check user and password in DATABASE_URL",
    asyncpg.InvalidCatalogNameError: "create it, or correct the name in DATABASE_URL",
    asyncpg.InsufficientPrivilegeError: "grant the right to the user of DATABASE_URL",
}


def _give_up(state: RetryCallState) -> NoReturn:
    problem = type(state.outcome.exception()).__name__ if state.outcome else "unknown"
    raise Outage(
        Edge.DATABASE, f"transaction conflicted {state.attempt_number} times in a row ({problem})"
    )


# Runs a transaction again that PostgreSQL has rolled back because of another one. Five attempts
# outlast a burst of conflicts.
retry_conflicts = retry(
    retry=retry_if_exception_type((asyncpg.DeadlockDetectedError, asyncpg.SerializationError)),
    stop=stop_after_attempt(5),
    # A commit may take ten seconds in all, the exit after a signal four.
    wait=wait_random_exponential(multiplier=0.05, max=0.5),
    retry_error_callback=_give_up,
)


@contextmanager
def database_errors(address: str) -> Iterator[None]:
    """Turn errors that mean "the database is unavailable" into Outage(database).

    Other errors pass. The text keeps the server's message but not its DETAIL, which may hold row
    values.
    """
    try:
        yield
    except TimeoutError:
        raise Outage(Edge.DATABASE, f"{address}: no answer in time") from None
    except OSError as error:
        raise Outage(Edge.DATABASE, f"{address}: {_unreachable(address, error)}") from None
    except _SYSTEMIC as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        for kind, step in _REFUSING.items():
            if isinstance(error, kind):
                raise Refusal(Edge.DATABASE, f"{address}: {problem}; {step}") from None
        raise Outage(Edge.DATABASE, f"{address}: {problem}") from None
    except _POOLED:
        problem = (
            "a prepared statement is gone, as happens with a pooler in transaction mode; set"
            " DATABASE_URL to the server itself"
        )
        raise Refusal(Edge.DATABASE, f"{address}: {problem}") from None
    except asyncpg.PostgresError as error:
        error.detail = None
        raise


def _unreachable(address: str, error: OSError) -> str:
    hosts = urlsplit(address).netloc.rpartition("@")[2].split(",")
    named = " or ".join(host if _PORT.search(host) else f"{host}:{DEFAULT_PORT}" for host in hosts)
    return (
        f"no connection to {named} ({connect_problem(error)});"
        " start the server, or correct host and port in DATABASE_URL"
    )


class Session:
    """One borrowed connection that runs queries of `sql/queries/` by name."""

    def __init__(self, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        self.connection = connection

    async def fetch(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        return await self.connection.fetch(load_queries()[name], *arguments)

    async def first(self, name: str, *arguments: Any) -> asyncpg.Record | None:
        """Return the first row of query `name`, None without rows."""
        return await self.connection.fetchrow(load_queries()[name], *arguments)

    async def one(self, name: str, *arguments: Any) -> asyncpg.Record:
        """Return the row of query `name`; raises LookupError without rows, a defect."""
        row = await self.first(name, *arguments)
        if row is None:
            raise LookupError(f"query {name} returned no row")
        return row

    async def value(self, name: str, *arguments: Any) -> Any:
        """Return the first column of the first row of query `name`, None without rows."""
        return await self.connection.fetchval(load_queries()[name], *arguments)

    async def fetch_each(
        self, name: str, arguments: Sequence[tuple[Any, ...]]
    ) -> list[asyncpg.Record]:
        """Run query `name` once per tuple of arguments, in one round trip; return all rows."""
        return await self.connection.fetchmany(load_queries()[name], arguments)

    async def execute(self, name: str, *arguments: Any) -> None:
        await self.connection.execute(load_queries()[name], *arguments)


class Database:
    """A pool of sessions. Every method raises Outage(database) if the database is unavailable.

    A single statement that conflicts with another transaction is retried here; a caller with
    several statements in one transaction retries it by itself (`retry_conflicts`). `address` has no
    password and no options, so it may be logged.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], address: str) -> None:
        self._pool = pool
        self.address = address

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """Borrow a connection; on any exit it is returned, or dropped if broken."""
        with database_errors(self.address):
            async with self._pool.acquire(timeout=ACQUIRE_TIMEOUT_SECONDS) as connection:
                yield Session(connection)

    @asynccontextmanager
    async def transaction(
        self, isolation: Literal["read_committed", "repeatable_read"] = "read_committed"
    ) -> AsyncIterator[Session]:
        """Borrow a connection with a transaction; any exception rolls it back."""
        async with (
            self.session() as session,
            session.connection.transaction(isolation=isolation),
        ):
            yield session

    @retry_conflicts
    async def fetch(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self.session() as session:
            return await session.fetch(name, *arguments)

    @retry_conflicts
    async def value(self, name: str, *arguments: Any) -> Any:
        """Return the first column of the first row of query `name`, None without rows."""
        async with self.session() as session:
            return await session.value(name, *arguments)

    @retry_conflicts
    async def execute(self, name: str, *arguments: Any) -> None:
        async with self.session() as session:
            await session.execute(name, *arguments)


@asynccontextmanager
async def open_database(dsn: str) -> AsyncIterator[Database]:
    """Connect to `dsn` (postgresql://...); closes all connections at the end.

    Raises Outage(database) if the server does not answer or refuses the login.
    """
    address = describe_dsn(dsn)
    with database_errors(address):
        pool = await asyncpg.create_pool(
            dsn,
            # No spare connections: asyncpg logs errors when it cannot restore them.
            min_size=0,
            max_size=POOL_CONNECTIONS,
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=STATEMENT_TIMEOUT_SECONDS,
            reset=_reset_nothing,
            server_settings={"application_name": "draenei-collector", "timezone": "UTC"},
        )
    try:
        database = Database(pool, address)
        async with database.session():
            pass  # raises if the server does not answer or refuses the login
        yield database
    finally:
        await _close(pool)


async def _reset_nothing(_: asyncpg.Connection[asyncpg.Record]) -> None:
    """Skip asyncpg's reset of a returned connection, which costs a round trip each time.

    No SET, LISTEN or cursor outlives its transaction, and a session lock that cannot be released
    ends with its connection (`Crawls.reading`). A broken transaction is rolled back anyway.
    """


async def _close(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    closed = False
    try:
        # Idle connections close in milliseconds; one that hangs must not delay the exit.
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
            await pool.close()
            closed = True
    finally:
        if not closed:
            pool.terminate()


def describe_dsn(dsn: str) -> str:
    """Return the address without password and options, so that it may be logged."""
    parts = urlsplit(dsn)
    login, at, hosts = parts.netloc.rpartition("@")
    return f"postgresql://{login.partition(':')[0]}{at}{hosts}{parts.path}"
