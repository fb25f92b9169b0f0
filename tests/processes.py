"""Commands as processes beside a test's own servers: started, killed, and read to their end."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
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
    # One that hangs is aborted, and then says where.
    return {**inherited, **named, "PYTHONFAULTHANDLER": "1", **more}


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

    async def stopped(self) -> None:
        """Wait until it has stopped itself at a failpoint."""
        with anyio.fail_after(COMMAND_TIMEOUT_SECONDS):
            while not (await self._state()).startswith("T"):
                assert self.process.returncode is None, "it ended before it came to the failpoint"
                await anyio.sleep(0.02)

    async def _state(self) -> str:
        asked = await anyio.run_process(
            ["ps", "-o", "state=", "-p", str(self.process.pid)], check=False
        )
        return asked.stdout.decode().strip()

    def go_on(self, *first: signal.Signals) -> float:
        """Let it go on, with these signals before all else; return when."""
        for number in (*first, signal.SIGCONT):
            self.process.send_signal(number)
        return time.monotonic()

    async def ended(self, within_seconds: float = COMMAND_TIMEOUT_SECONDS) -> Ended:
        """Wait for its end; one that hangs fails the test, and says where all its threads are."""
        with anyio.move_on_after(within_seconds) as waiting:
            await self.process.wait()
        if waiting.cancelled_caught:
            self.process.send_signal(signal.SIGABRT)
            await self.process.wait()
        seconds = time.monotonic() - self.began
        assert self.process.returncode is not None
        ended = Ended(self.process.returncode, *map(_read, self.outputs), seconds)
        assert not waiting.cancelled_caught, f"it hangs:\n{ended.stderr}"
        return ended


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
    before: Sequence[str] = (),
) -> AsyncIterator[Running]:
    """Start a command, behind the words `before`; one that still runs in the end is killed."""
    armed = {VARIABLE: failpoint} if failpoint else {}
    with TemporaryFile() as stdout, TemporaryFile() as stderr:
        process = await anyio.open_process(
            [*before, sys.executable, "-m", "collector", *words],
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
