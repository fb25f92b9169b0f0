"""A bucket of any S3-compatible store."""

from __future__ import annotations

from collector.adapters.s3.opening import S3Options, open_s3
from collector.adapters.s3.store import S3Store

__all__ = ["S3Options", "S3Store", "open_s3"]
