"""What a command needs of the world, and what its caller may choose."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto


class Need(Flag):
    """What of the world a command needs; nothing else is opened.

    SCHEMA is a database at this version's schema; DATABASE alone is any.
    """

    DATABASE = auto()
    _SCHEMA = auto()
    SCHEMA = DATABASE | _SCHEMA
    STORE = auto()
    HTTP = auto()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a caller may choose for one run; None stands for the setting.

    With `only`, images that the run's own pages do not list are left alone.
    """

    max_pages: int | None = None
    limit: int | None = None
    refresh: bool = False
    only: bool = False


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A wallpaper whose image is in the bucket."""

    wallhaven_id: str
    url: str
    s3_key: str
    object_sha256: str
    object_bytes: int
