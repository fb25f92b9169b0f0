"""HTTP: API answers whole and bounded, images as streams."""

from __future__ import annotations

from collector.http.addresses import describe
from collector.http.client import (
    MAX_REPLY_BYTES,
    REPLY_TIMEOUT_SECONDS,
    AiohttpClient,
    open_http,
)

__all__ = [
    "MAX_REPLY_BYTES",
    "REPLY_TIMEOUT_SECONDS",
    "AiohttpClient",
    "describe",
    "open_http",
]
