"""The data of the embedded PostgreSQL: where it lies and how it begins."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from collector.local.account import (
    can_use_folder,
    make_private,
    make_private_root,
    private_root,
    user_name,
)
from collector.local.errors import LocalServerError
from collector.local.files import write_private
from collector.local.installation import Installation
from collector.local.launch import run_tool
from collector.local.pids import command_of
from collector.local.ports import LOOPBACK
from collector.local.sharing import Running

logger = logging.getLogger("collector.local")

NAME = "PostgreSQL"
ROLE = "collector"
PASSWORD_BYTES = 16
KEY_CHARACTERS = 16
# Nothing of the caller's environment (PGDATA, PGPORT, LC_ALL) bends the server.
ENVIRONMENT = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A data directory that exists and is owned by the user its server runs as."""

    folder: Path
    password: str

    @property
    def data(self) -> Path:
        return self.folder / "data"


def password_file(folder: Path) -> Path:
    """Return the file in the format of libpq's PGPASSFILE, which keeps the password."""
    return folder / "pgpass"


def password_of(folder: Path) -> str:
    """Return the password kept in `folder`, a new random one at the first time.

    Format: https://www.postgresql.org/docs/18/libpq-pgpass.html (read 2026-11).
    """
    path = password_file(folder)
    if not path.exists():
        write_private(path, f"{LOOPBACK}:*:*:{ROLE}:{secrets.token_hex(PASSWORD_BYTES)}\n")
    return path.read_text().strip().rpartition(":")[2]


async def find_cluster(folder: Path, user: int | None) -> Cluster:
    """Return where the data of `folder` lies: within it, or in a private folder of `user`.

    The private folder is for a `folder` that `user` cannot reach. Its name is made from the
    path and the password, so a home that was deleted and made anew begins with new data.
    Raises LocalServerError where the data belongs to somebody else or is out of reach.
    """
    password = password_of(folder)
    within = folder / "cluster"
    if user is None or (within / "data").exists():
        return Cluster(await _require_reach(within, user), password)
    private = private_root() / f"cluster-{_key(folder, password)}"
    if private.exists() or not await _reaches(within, user):
        return Cluster(_private(private, folder, user), password)
    return Cluster(within, password)


def _key(folder: Path, password: str) -> str:
    named = f"{folder.resolve()}\0{password}"
    return hashlib.sha256(named.encode()).hexdigest()[:KEY_CHARACTERS]


async def _require_reach(within: Path, user: int | None) -> Path:
    make_private(within, user)
    if not await can_use_folder(within, user):
        raise LocalServerError(NAME, f"{user_name(user)} cannot reach its data in {within}")
    return within


async def _reaches(within: Path, user: int) -> bool:
    make_private(within, user)
    if await can_use_folder(within, user):
        return True
    within.rmdir()
    return False


def _private(private: Path, folder: Path, user: int) -> Path:
    make_private_root()
    make_private(private, user)
    logger.warning(
        "%s: %s cannot reach %s, so its data lies in %s", NAME, user_name(user), folder, private
    )
    return private


async def initialise(
    cluster: Cluster, installation: Installation, user: int | None, log: Path, running: Running
) -> None:
    """Make the data directory if there is none; one that is there is whole.

    Raises LocalServerError, with nothing touched, where it is of another major version.
    """
    if cluster.data.exists():
        _require_version(cluster.data, installation.major)
        _clear_stale_pid(cluster.data / "postmaster.pid")
        return
    unfinished = cluster.folder / "data.init"
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(unfinished, ignore_errors=True))
    with _password_for_initdb(cluster, user) as password_path:
        await run_tool(
            NAME,
            [
                installation.program("initdb"),
                f"--pgdata={unfinished}",
                f"--username={ROLE}",
                f"--pwfile={password_path}",
                "--auth=scram-sha-256",
                # The one locale that exists everywhere; UTF-8 text all the same.
                "--locale=C",
                "--encoding=UTF8",
            ],
            env=ENVIRONMENT,
            cwd=cluster.folder,
            log=log,
            user=user,
            running=running,
        )
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
    hand shows in its command line, and stays.
    """
    try:
        pid = int(pid_file.read_text().partition("\n")[0])
    except (FileNotFoundError, ValueError):
        return
    if "postgres" not in command_of(pid):
        pid_file.unlink()


@contextmanager
def _password_for_initdb(cluster: Cluster, user: int | None) -> Iterator[Path]:
    path = cluster.folder / "initial-password"
    write_private(path, cluster.password)
    try:
        if user is not None:
            os.chown(path, user, -1)
        yield path
    finally:
        path.unlink()
