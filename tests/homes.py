"""Folders for embedded servers in tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A file system in memory, on Linux: a database for each test is 300 new files.
MEMORY = Path("/dev/shm")
# The servers of two workers, one of them with a million rows, take half of it.
ROOM_BYTES = 4 * 1024**3


@contextmanager
def passable_home(*, in_memory: bool = True) -> Iterator[Path]:
    """Lend a folder that other users may pass through, which pytest's own forbid them.

    As root the embedded PostgreSQL runs as another user, and would keep its data elsewhere.
    """
    folder = Path(tempfile.mkdtemp(prefix="home-", dir=_memory() if in_memory else None))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _memory() -> Path | None:
    """Return the file system in memory, None if it is not there or has too little room."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    return MEMORY if has_room else None
