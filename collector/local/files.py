"""Files only their owner may read, and the end of a log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE_FILE_MODE = 0o600
PRIVATE_FOLDER_MODE = 0o700

# A log above this size is set aside when its server starts: one old log is enough to look back.
LOG_KEPT_BYTES = 16 * 1024 * 1024
# What a log says about a failed start fits in here.
LOG_TAIL_BYTES = 8 * 1024
LOG_TAIL_LINES = 12


@contextmanager
def replacing(path: Path) -> Iterator[int]:
    """Yield the descriptor of a new private file that takes the place of `path` at the end.

    Readers see the old file or the whole new one; on an error the old one stays.
    """
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE_MODE)
    try:
        yield descriptor
        os.fsync(descriptor)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Replace `path` by a file with `text` that only its owner may read."""
    with replacing(path) as descriptor:
        os.write(descriptor, text.encode())


def begin_log(log: Path) -> int:
    """Make room in `log` and return the offset in bytes where this start's lines begin."""
    if not log.exists():
        return 0
    size_bytes = log.stat().st_size
    if size_bytes <= LOG_KEPT_BYTES:
        return size_bytes
    log.replace(log.with_name(f"{log.name}.1"))
    return 0


def log_tail(log: Path, since_bytes: int = 0) -> list[str]:
    """Return the last lines of `log` that were written after offset `since_bytes`."""
    if not log.exists():
        return []
    with log.open("rb") as lines:
        end_bytes = lines.seek(0, os.SEEK_END)
        lines.seek(max(since_bytes, end_bytes - LOG_TAIL_BYTES))
        text = lines.read().decode(errors="replace")
    return [line for line in text.splitlines() if line.strip()][-LOG_TAIL_LINES:]
