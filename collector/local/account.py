"""The user that PostgreSQL runs as, and folders which that user can reach.

PostgreSQL refuses to run as root, so root starts it as the unprivileged user `nobody`. Where
that user cannot pass through a folder of root's, a private folder elsewhere is used instead; the
modes of existing folders are never changed, and no user is ever added.
"""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from functools import partial
from pathlib import Path

import anyio.to_thread

from collector.local.errors import LocalServerError
from collector.local.files import PRIVATE_FOLDER_MODE

# The overflow user of Linux, should the user database not name one.
NOBODY_UID = 65534
# Private folders lie in the first of these that can be written; data should survive a reboot.
PRIVATE_PARENTS = (Path("/var/lib"), Path("/var/db"), Path("/tmp"))  # noqa: S108  (see require_owner)
PRIVATE_NAME = "draenei-collector"
PASSABLE_FOLDER_MODE = 0o711
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def server_user() -> int | None:
    """Return the uid that PostgreSQL has to run as, or None for the one that runs us."""
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


async def can_run(argv: list[str], user: int | None) -> bool:
    """Whether `user` can execute `argv` with success: a trial, which no arithmetic on modes is.

    Access lists, mount options and user namespaces all have their say this way.
    """
    # In a thread and not on the loop: uvloop's processes cannot change their user.
    as_user = {} if user is None else {"user": user, "group": user, "extra_groups": ()}
    trial = partial(subprocess.run, argv, check=False, cwd="/", capture_output=True, **as_user)
    try:
        ended = await anyio.to_thread.run_sync(trial)
    except OSError:
        return False
    return ended.returncode == 0


async def can_use_folder(folder: Path, user: int | None) -> bool:
    return await can_run(["/bin/sh", "-c", 'cd "$0" && test -w .', str(folder)], user)


def private_root() -> Path:
    """Return where root's folder for what a home cannot hold is, or would be."""
    parent = next(path for path in PRIVATE_PARENTS if os.access(path, os.W_OK))
    return parent / PRIVATE_NAME


def make_private_root() -> Path:
    """Return root's folder, made if needed.

    Raises LocalServerError where somebody else made it first or can write into it.
    """
    root = private_root()
    if not root.exists():
        root.mkdir()
        root.chmod(PASSABLE_FOLDER_MODE)  # whatever the umask
    require_owner(root, os.geteuid())
    return root


def make_private(folder: Path, user: int | None) -> None:
    """Make `folder`, if it is missing, for `user` alone; LocalServerError if it is another's."""
    owner = os.geteuid() if user is None else user
    try:
        folder.mkdir(mode=PRIVATE_FOLDER_MODE)
    except FileExistsError:
        require_owner(folder, owner)
    else:
        os.chown(folder, owner, -1)


def require_owner(folder: Path, owner: int) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise LocalServerError("PostgreSQL", f"{folder} is not a folder")
    if found.st_uid != owner:
        problem = f"{folder} belongs to {user_name(found.st_uid)}, not to {user_name(owner)}"
        raise LocalServerError("PostgreSQL", problem)
    if found.st_mode & WRITABLE_BY_OTHERS:
        raise LocalServerError("PostgreSQL", f"others can write into {folder}")
