"""Embedded PostgreSQL and S3 for machines without Docker.

async with open_local_servers(home) as servers:
    ...  # servers.postgres.dsn, servers.s3.endpoint_url
"""

from __future__ import annotations

from collector.local.process import Command, open_child
from collector.local.records import LocalPostgres, LocalS3, LocalServerError
from collector.local.servers import LocalServers, is_in_use, open_local_servers

__all__ = [
    "Command",
    "LocalPostgres",
    "LocalS3",
    "LocalServerError",
    "LocalServers",
    "is_in_use",
    "open_child",
    "open_local_servers",
]
