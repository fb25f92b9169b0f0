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

import pytest
from anyio.from_thread import start_blocking_portal
from homes import passable_home

from collector.local import open_local_servers

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


@pytest.fixture
def home() -> Iterator[Path]:
    """Data of the embedded servers, for this test alone."""
    with passable_home() as folder:
        yield folder


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """The environment of a command: nothing of ours but the home."""
    ours = ("WALLHAVEN_", "COLLECTOR_", "AWS_", "S3_", "DATABASE_URL", "BUCKET_NAME", "UPLOAD_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "COLLECTOR_HOME": str(home)}


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


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """A PostgreSQL that the settings name, without any schema of ours."""
    with (
        passable_home() as folder,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_local_servers(folder, s3=False)) as servers,
    ):
        assert servers.postgres is not None
        yield servers.postgres.dsn
