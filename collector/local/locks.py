"""Advisory locks that the kernel releases when their holders die.

A lock belongs to the open file, not to the process: a second open in the same process conflicts
like one elsewhere, and a child that inherits the descriptor goes on holding the lock
(https://man7.org/linux/man-pages/man2/flock.2.html, read 2026-11; macOS does the same).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collector.local.files import PRIVATE_FILE_MODE


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock of an open file if it is free, or change the one held; never waits."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def lock_file(path: Path, *, create: bool = True) -> Iterator[int]:
    """Open `path` as a file to lock; its lock ends with the last holder of the descriptor."""
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    descriptor = os.open(path, flags, PRIVATE_FILE_MODE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of `path` at this moment."""
    with lock_file(path) as descriptor:
        return not try_lock(descriptor, shared=True)
