"""Object keys: made of the id and a known image type, and of nothing else."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from collector.core.errors import Code, Fault, ItemError
from collector.core.images import ImageType, image_type_of_extension, image_type_of_file_type

KEY_PREFIX = "wallpapers/"
# The probe of a store writes its objects here.
PROBE_PREFIX = ".probe/"
# \Z and not $: `$` would let a trailing newline pass.
_ID = re.compile(r"[A-Za-z0-9]{1,16}\Z")


def is_wallhaven_id(text: str) -> bool:
    """Return whether `text` may be part of an object key: 1 to 16 ASCII letters and digits."""
    return _ID.match(text) is not None


def expected_type(file_type: str | None, url: str) -> ImageType:
    """Return the image type of a row: its `file_type`, else the extension of its address.

    Raises ItemError(type_mismatch, permanent) if that is not a type that is stored.
    """
    if file_type:
        found = image_type_of_file_type(file_type)
    else:
        found = image_type_of_extension(_path(url).rpartition(".")[2])
    if found is None:
        raise ItemError(
            Code.TYPE_MISMATCH,
            f"the row names no image type that is stored (file_type {file_type!r:.60})",
            fault=Fault.PERMANENT,
        )
    return found


def _path(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:  # such as http://[ with no end to the bracket
        return ""


def object_key(wallhaven_id: str, image_type: ImageType) -> str:
    """Return `wallpapers/{id}.{ext}`; raises ItemError(bad_id, permanent) for any other id."""
    if not is_wallhaven_id(wallhaven_id):
        raise ItemError(Code.BAD_ID, f"id {wallhaven_id!r:.60}", fault=Fault.PERMANENT)
    return f"{KEY_PREFIX}{wallhaven_id}.{image_type.extension}"
