"""Both embedded servers of one home."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import anyio

from collector.local.errors import LocalServerError
from collector.local.locks import is_locked
from collector.local.postgres import PostgresServer
from collector.local.records import LocalPostgres, LocalS3
from collector.local.seaweed import SeaweedServer
from collector.local.sharing import shared_server, wait_stopped

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LocalServers:
    """The embedded servers asked for, all of them ready; None for one not asked for."""

    postgres: LocalPostgres | None
    s3: LocalS3 | None
    home: Path

    async def wait_lost(self) -> LocalServerError:
        """Return, once a server has ended before its time, the error that says which.

        For owners and users of the servers alike; returns never while both run.
        """
        lost: list[LocalServerError] = []

        async def watch(name: str, folder: str, log: Path) -> None:
            await wait_stopped(self.home / folder)
            lost.append(LocalServerError(name, "has ended", log=log))
            watchers.cancel_scope.cancel()

        async with anyio.create_task_group() as watchers:
            if self.postgres:
                watchers.start_soon(watch, PostgresServer.name, "postgres", self.postgres.log)
            if self.s3:
                watchers.start_soon(watch, SeaweedServer.name, "s3", self.s3.log)
        return lost[0]


def is_in_use(home: Path) -> bool:
    """Whether a server whose data lies under `home` runs, or is being started, at this moment."""
    locks = (home / folder / "lock" for folder in ("postgres", "s3"))
    return any(lock.exists() and is_locked(lock) for lock in locks)


@asynccontextmanager
async def open_local_servers(
    home: Path,
    *,
    postgres: bool = True,
    s3: bool = True,
    postgres_settings: Mapping[str, str] = NO_SETTINGS,
    postgres_binaries: Path | None = None,
) -> AsyncIterator[LocalServers]:
    """Use the embedded servers whose data lies under `home`: those that run, or else new ones.

    Each server has one owner, whoever came first, in this process or another; those who come
    later wait until it is ready and use it, whatever settings they ask for. On leaving, an owner
    waits for those who still use its server and then stops it; an owner that is cancelled stops
    it at once. A server never outlives its owner, by whatever means that ends; its data do, and
    so do its passwords and, where they are still free, its ports.

    `postgres_settings` are added to the server's command line (`fsync`, `log_statement`);
    `postgres_binaries` is a folder of programs to use instead of the bundled ones.

    Raises LocalServerError where a server cannot be started or reached: nothing is left running.
    """
    home = home.absolute()
    async with AsyncExitStack() as stack:
        database = store = None
        if postgres:
            server = PostgresServer(home / "postgres", postgres_settings, postgres_binaries)
            database = await stack.enter_async_context(shared_server(server))
        if s3:
            store = await stack.enter_async_context(shared_server(SeaweedServer(home / "s3")))
        yield LocalServers(database, store, home)
