"""HTTP: API answers whole and bounded, images as streams."""

from __future__ import annotations

from collector.adapters.http.client import (
    MAX_REPLY_BYTES,
    REPLY_TIMEOUT_SECONDS,
    AiohttpClient,
    open_http,
)
from collector.adapters.http.errors import describe

__all__ = [
    "MAX_REPLY_BYTES",
    "REPLY_TIMEOUT_SECONDS",
    "AiohttpClient",
    "describe",
    "open_http",
]
