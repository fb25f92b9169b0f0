"""When an object that is there already may be taken for ours without fetching its source."""

from __future__ import annotations

import base64

from collector.ports import ObjectInfo


def true_sha256(info: ObjectInfo, row_sha256: str | None) -> str | None:
    """Return the object's hash where it is known for sure: our metadata, and the store agrees.

    The row's hash counts where the store's own checksum confirms it, too.
    """
    for sha256 in (row_sha256, info.sha256):
        if sha256 and info.checksum == f"sha256:{_base64(sha256)}":
            return sha256
    return None


def _base64(sha256: str) -> str | None:
    try:
        return base64.b64encode(bytes.fromhex(sha256)).decode()
    except ValueError:  # metadata is whatever the object's writer made of it
        return None
