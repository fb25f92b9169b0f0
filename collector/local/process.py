"""A child process that ends with its owner, however the owner ends.

Between owner and child stands a warden (`warden.py`): it notices the owner's death as the end of
a pipe, which works after kill -9 and on every platform. The child runs in a session of its own,
so a terminal's Ctrl-C does not reach it.
"""

from __future__ import annotations

import json
import logging
import os
import pwd
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO

import anyio

from collector.local.files import PRIVATE_FILE_MODE
from collector.local.pids import end_process

logger = logging.getLogger("collector.local")

WARDEN = Path(__file__).with_name("warden.py")
# A warden is up in about 0.05 s; a machine under heavy load deserves more.
WARDEN_START_SECONDS = 20.0
# What the warden needs beyond the child's own time: SIGKILL, reaping, the report.
WARDEN_MARGIN_SECONDS = 5.0
# A good stop of either server takes less; of a longer one a person at a terminal wants to know.
SLOW_STOP_SECONDS = 1.5


class Child:
    """A running child; made by `open_child`, which also ends it.

    Attributes: `pid` of the child itself (not of its warden), and `returncode`, None until it
    was waited for, then its exit status or the negative number of the signal that ended it.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        warden: subprocess.Popen[bytes],
        report: IO[bytes],
        stop: tuple[signal.Signals, float],
    ) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self._name = name
        self._argv = argv
        self._warden = warden
        self._stop_signal, self._stop_seconds = stop
        self._report = report
        self._reading = anyio.Lock()

    @property
    def warden_pid(self) -> int:
        return self._warden.pid

    @property
    def running(self) -> bool:
        """Whether the child runs, as far as its warden has told."""
        if self.returncode is not None:
            return False
        reports = select.poll()  # unlike select(), it takes any descriptor number
        reports.register(self._report, select.POLLIN)
        return not reports.poll(0)

    async def wait(self) -> int:
        """Return the child's exit status once it ended; safe to cancel and to call by many.

        The child of a warden that was killed is ended, and its status is then -SIGKILL.
        """
        async with self._reading:
            if self.returncode is None:
                self.returncode = await self._read_status()
        return self.returncode

    async def started(self) -> None:
        """Return once the child runs, with `pid` set; OSError where it could not be started."""
        async with self._reading:
            with anyio.fail_after(WARDEN_START_SECONDS):
                word, rest = await self._read_report()
        if word != "pid":
            self.returncode = self._warden.wait()
            number, _, text = rest.partition(" ")
            raise OSError(int(number or 0), text or "its warden ended", self._argv[0])
        self.pid = int(rest)

    async def stop(self, lifeline: IO[bytes]) -> None:
        """End the child: its stop signal, then SIGKILL when its time is over. Not cancellable."""
        bound_seconds = self._stop_seconds + WARDEN_MARGIN_SECONDS
        with anyio.CancelScope(shield=True):
            lifeline.close()
            if await self._ends_within(SLOW_STOP_SECONDS):
                return
            logger.info("waiting for %s to stop, %g s at most", self._name, self._stop_seconds)
            if not await self._ends_within(bound_seconds - SLOW_STOP_SECONDS):
                self._warden.kill()
                await self.wait()

    async def _ends_within(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self.wait()
        return self.returncode is not None

    async def _read_status(self) -> int:
        word, rest = await self._read_report()
        while word == "pid":  # a start that was cancelled left it unread
            self.pid = int(rest)
            word, rest = await self._read_report()
        self._warden.wait()
        if word == "exit":
            return int(rest)
        await self._end_orphan()
        return -signal.SIGKILL

    async def _read_report(self) -> tuple[str, str]:
        """Return the warden's next word and what follows; empty once the warden is gone."""
        await anyio.wait_readable(self._report)
        line = bytearray()
        while (byte := os.read(self._report.fileno(), 1)) not in (b"", b"\n"):
            line += byte
        word, _, rest = line.decode().partition(" ")
        return word, rest

    async def _end_orphan(self) -> None:
        if self.pid:
            await end_process(
                self.pid,
                self._argv,
                stop_signal=self._stop_signal,
                stop_seconds=self._stop_seconds,
            )


@asynccontextmanager
async def open_child(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    name: str | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    stop_seconds: float = 10.0,
    user: int | None = None,
    pass_fds: Sequence[int] = (),
) -> AsyncIterator[Child]:
    """Run `argv` for as long as the body lasts, and never longer than this process.

    `env` is the child's whole environment. Standard output and error are appended to `log`.
    `name` is what people call it, by default the program's name; a slow stop is logged with it.
    `user` (a uid, needs root) drops to that user and its group, without further groups.
    `pass_fds` stay open in warden and child. On leaving, also by error or cancellation, the
    child gets `stop_signal` and `stop_seconds`, then SIGKILL. Raises OSError where the command
    cannot be executed. A child that ends by itself ends nothing here: see `Child.wait`.
    """
    order = {
        "argv": list(argv),
        "env": dict(env),
        "cwd": str(cwd),
        "stop_signal": int(stop_signal),
        "stop_seconds": stop_seconds,
        "user": user,
        "group": _group_of(user),
        "pass_fds": list(pass_fds),
    }
    with _started_warden(log, pass_fds) as (warden, lifeline, report):
        child = Child(name or Path(argv[0]).name, argv, warden, report, (stop_signal, stop_seconds))
        try:
            _give(order, lifeline)
            await child.started()
            yield child
        finally:
            await child.stop(lifeline)


def _group_of(user: int | None) -> int | None:
    if user is None:
        return None
    try:
        return pwd.getpwuid(user).pw_gid
    except KeyError:
        return user


@contextmanager
def _started_warden(
    log: Path, pass_fds: Sequence[int]
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    log_descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE_MODE)
    try:
        # Isolated and without site-packages: starts at once, and no environment bends it.
        warden = subprocess.Popen(  # noqa: S603
            [sys.executable, "-I", "-S", str(WARDEN)],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_descriptor,
            start_new_session=True,
            pass_fds=pass_fds,
        )
    finally:
        os.close(log_descriptor)
    assert warden.stdin
    assert warden.stdout
    with warden.stdin as lifeline, warden.stdout as report:
        yield warden, lifeline, report


def _give(order: Mapping[str, object], lifeline: IO[bytes]) -> None:
    with suppress(BrokenPipeError):  # a warden that is gone already is noticed by `started`
        lifeline.write(json.dumps(order).encode() + b"\n")
