"""A child process that ends with the processes that need it, however those end.

Between them and the child stands a warden (`warden.py`). It notices their death as the end of a
pipe, which works after kill -9 and on every platform. The child runs in a session of its own, so
a terminal's Ctrl-C does not reach it.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

import anyio

from collector.local.records import PRIVATE_FILE_MODE, as_user, logger

if TYPE_CHECKING:  # the engine does without psutil and filelock (extra `local`)
    import psutil

    from collector.local.folder import Users

WARDEN = Path(__file__).with_name("warden.py")
# A warden is up in about 0.05 s; a heavily loaded machine takes longer.
WARDEN_START_SECONDS = 20.0
# What the warden needs beyond the child's own time: SIGKILL, reaping, the report.
WARDEN_MARGIN_SECONDS = 5.0
# Either server usually stops sooner. A person at a terminal wants to know about a longer stop.
SLOW_STOP_SECONDS = 1.5
# Only the child's own user reads what it writes.
CHILD_UMASK = 0o077


@dataclass(frozen=True, slots=True)
class Command:
    """What a child runs, and how.

    `name` is what messages call it, `env` its whole environment. Standard output and error are
    appended to `log`. To end it, the warden sends `stop_signal`, then SIGKILL after
    `stop_seconds`. `user` is the uid to drop to, which needs root. The child inherits the
    descriptors `pass_fds`, and `cleanup_files` are removed after its end.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    log: Path
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 10.0
    user: int | None = None
    pass_fds: Sequence[int] = ()
    cleanup_files: Sequence[Path] = ()


class Child:
    """A child process. The caller that starts it closes it, and may wait for its end before.

    Attributes: `pid` of the child itself, `warden_pid` of its warden, and `returncode`, which is
    None until `wait` has returned, then the exit status or the negative number of the signal
    that ended the child.
    """

    _report: IO[bytes]

    def __init__(self, command: Command) -> None:
        self.pid = 0
        self.warden_pid = 0
        self.returncode: int | None = None
        self._command = command
        self._process: psutil.Process | None = None
        self._reading = anyio.Lock()

    async def start(self, lifeline: ExitStack, users: Users | None = None) -> None:
        """Start the child; it runs until `lifeline` is closed and all `users` have gone.

        Raises OSError if the command cannot be executed.
        """
        with ExitStack() as ends:
            report, report_end = os.pipe()
            self._report = os.fdopen(report, "rb", buffering=0)
            ends.callback(os.close, report_end)
            reader, writer = users.make_pipe() if users else os.pipe()
            ends.callback(os.close, reader)
            lifeline.callback(os.close, writer)
            await self._start_warden(reader, report_end, users)
        async with self._reading:
            with anyio.fail_after(WARDEN_START_SECONDS):
                word, *rest = await self._next_report()
        if word != "pid":
            self.returncode = -signal.SIGKILL
            raise OSError(*rest, self._command.argv[0])
        self.warden_pid, self.pid = rest
        self._process = _leftovers().find_process(self.pid)

    async def _start_warden(self, reader: int, report_end: int, users: Users | None) -> None:
        command = self._command
        order = {
            "child": {
                "args": command.argv,
                "env": dict(command.env),
                "cwd": command.cwd,
                "pass_fds": command.pass_fds,
                "umask": CHILD_UMASK,
                **as_user(command.user),
            },
            "stop": (command.stop_signal, command.stop_seconds),
            "lifeline": (reader, users and users.pipe, users and users.lock),
            "cleanup_files": [*command.cleanup_files, *([users.pipe] if users else [])],
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with os.fdopen(os.open(command.log, flags, PRIVATE_FILE_MODE), "ab") as log:
            await anyio.run_process(
                # Isolated and without site-packages: starts fast, and ignores PYTHON* variables.
                [sys.executable, "-I", "-S", str(WARDEN)],
                input=json.dumps(order, default=str).encode(),
                stdout=report_end,
                stderr=log,
                check=False,  # the report says if it failed
                start_new_session=True,
                pass_fds=[reader, *command.pass_fds],
            )

    @property
    def running(self) -> bool:
        """Whether the child runs, by the last report of its warden."""
        if self.returncode is not None:
            return False
        reports = select.poll()  # unlike select(), it takes any descriptor number
        reports.register(self._report, select.POLLIN)
        return not reports.poll(0)

    async def wait(self) -> int:
        """Return the child's exit status once it ended; safe to cancel and to call concurrently.

        If the warden was killed, the child is ended, and its status is -SIGKILL.
        """
        async with self._reading:
            while self.returncode is None:
                word, *rest = await self._next_report()
                if word == "exit":
                    self.returncode = rest[0]
                elif word == "error":
                    if self._process:
                        stop = (self._command.stop_signal, self._command.stop_seconds)
                        await _leftovers().end_process(self._process, *stop)
                    self.returncode = -signal.SIGKILL
        return self.returncode

    async def end(self) -> None:
        """Wait for the end of a child whose lifeline is closed. Not cancellable."""
        command = self._command
        ended = await ends_within(command.stop_seconds, command.name, self.wait)
        if not ended and self.warden_pid:
            os.kill(self.warden_pid, signal.SIGKILL)
            with anyio.CancelScope(shield=True):
                await self.wait()

    def close(self) -> None:
        self._report.close()

    async def _next_report(self) -> list[Any]:
        await anyio.wait_readable(self._report)
        line = self._report.readline()
        return list(json.loads(line)) if line else ["error", errno.ECHILD, "its warden ended"]


def _leftovers() -> ModuleType:
    from collector.local import leftovers  # noqa: PLC0415  (it needs psutil)

    return leftovers


async def ends_within(
    stop_seconds: float, name: str, wait: Callable[[], Awaitable[object]]
) -> bool:
    """Whether `wait` returns within `stop_seconds` and WARDEN_MARGIN_SECONDS. Not cancellable."""
    with anyio.CancelScope(shield=True):
        with anyio.move_on_after(SLOW_STOP_SECONDS):
            await wait()
            return True
        logger.info("waiting for %s to stop, at most %g s", name, stop_seconds)
        with anyio.move_on_after(stop_seconds + WARDEN_MARGIN_SECONDS - SLOW_STOP_SECONDS):
            await wait()
            return True
    return False


@asynccontextmanager
async def open_child(command: Command) -> AsyncIterator[Child]:
    """Run `command` for as long as the body lasts, and never longer than this process.

    Returns when the child has ended, also after an error or cancellation. Raises OSError if the
    command cannot be executed. A child that ends early does not end the body: see `Child.wait`.
    """
    child = Child(command)
    lifeline = ExitStack()
    try:
        await child.start(lifeline)
        yield child
    finally:
        lifeline.close()
        await child.end()
        child.close()
