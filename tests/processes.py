"""Commands as processes beside a test's own servers: started, killed, and read to their end."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import anyio
from anyio.abc import Process
from pydantic import SecretStr

from collector.failpoints import VARIABLE
from collector.settings import Settings

# No command of these tests takes a tenth of this.
COMMAND_TIMEOUT_SECONDS = 90


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    status: int
    stdout: str
    stderr: str
    seconds: float


def environment_of(settings: Settings, **more: str) -> dict[str, str]:
    """Return the environment in which a process reads the same settings."""
    ours = ("WALLHAVEN_", "COLLECTOR_", "AWS_", "S3_", "DATABASE_URL", "BUCKET_NAME", "UPLOAD_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    named = {name.upper(): _text(getattr(settings, name)) for name in settings.model_fields_set}
    return {**inherited, **named, **more}


def _text(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


async def collector(
    settings: Settings, *words: str, failpoint: str = "", env: Mapping[str, str] | None = None
) -> Ended:
    """Run a command to its end, whatever that is."""
    async with started(settings, *words, failpoint=failpoint, env=env) as running:
        return await running.ended()


@dataclass
class Running:
    """A command that has been started."""

    process: Process
    outputs: tuple[Any, Any]
    began: float

    async def ended(self) -> Ended:
        """Wait for its end."""
        with anyio.fail_after(COMMAND_TIMEOUT_SECONDS):
            status = await self.process.wait()
        seconds = time.monotonic() - self.began
        return Ended(status, *map(_read, self.outputs), seconds)


def _read(file: Any) -> str:
    file.seek(0)
    text: str = file.read().decode()
    return text


@asynccontextmanager
async def started(
    settings: Settings,
    *words: str,
    failpoint: str = "",
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> AsyncIterator[Running]:
    """Start a command; one that still runs in the end is killed."""
    armed = {VARIABLE: failpoint} if failpoint else {}
    with TemporaryFile() as stdout, TemporaryFile() as stderr:
        process = await anyio.open_process(
            [sys.executable, "-m", "collector", *words],
            env=environment_of(settings, **armed, **(env or {})),
            stdin=None,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
        )
        try:
            yield Running(process, (stdout, stderr), time.monotonic())
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
