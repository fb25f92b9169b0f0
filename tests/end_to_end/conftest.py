"""Whole commands, as people run them: a process, its output, its exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import anyio
import asyncpg
import pytest
from anyio.from_thread import start_blocking_portal
from homes import passable_home

from collector.local import LocalServers, open_local_servers

# A first start on a busy machine takes a few seconds; this only bounds a hang.
COMMAND_TIMEOUT_SECONDS = 100


@dataclass(frozen=True)
class Ended:
    """What a command left."""

    status: int
    stdout: str
    stderr: str

    @property
    def answer(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        found: dict[str, Any] = json.loads(self.stdout)
        return found


Collector = Callable[..., Ended]


@pytest.fixture(scope="session")
def servers() -> Iterator[LocalServers]:
    """Embedded servers that run all the time: commands find and use them, and start faster."""
    with (
        passable_home() as home,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_local_servers(home)) as running,
    ):
        yield running


@pytest.fixture
def home() -> Iterator[Path]:
    """A home for this test alone, with servers of its own."""
    with passable_home() as folder:
        yield folder


@pytest.fixture
def bare_environment() -> dict[str, str]:
    """This process's environment without any setting of ours."""
    ours = ("WALLHAVEN_", "COLLECTOR_", "AWS_", "S3_", "DATABASE_URL", "BUCKET_NAME", "UPLOAD_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@pytest.fixture
def environment(
    bare_environment: dict[str, str], servers: LocalServers, database_url: str
) -> dict[str, str]:
    """The environment of a command: an empty database, a new bucket, and nothing else of ours."""
    return {
        **bare_environment,
        "COLLECTOR_HOME": str(servers.home),
        "DATABASE_URL": database_url,
        "BUCKET_NAME": f"test-{uuid4().hex[:20]}",
    }


@pytest.fixture
def database_url(servers: LocalServers) -> str:
    """An empty database on the server that runs."""
    assert servers.postgres is not None
    dsn, name = servers.postgres.dsn, f"test_{uuid4().hex}"

    async def create() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    anyio.run(create)
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()


@pytest.fixture
def collector(environment: dict[str, str], tmp_path: Path) -> Collector:
    """Run `python -m collector` to its end."""

    def run(*words: str, env: Mapping[str, str] | None = None) -> Ended:
        ended = subprocess.run(
            [sys.executable, "-m", "collector", *words],
            env={**environment, **(env or {})},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_SECONDS,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    return run
