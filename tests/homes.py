"""Folders for embedded servers in tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def passable_home() -> Iterator[Path]:
    """Lend a folder that other users may pass through, which pytest's own forbid them.

    As root the embedded PostgreSQL runs as another user, and would keep its data elsewhere.
    """
    folder = Path(tempfile.mkdtemp(prefix="home-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
