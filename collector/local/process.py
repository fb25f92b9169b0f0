"""A child process that ends with those who need it, however they end.

Between them and the child stands a warden (`warden.py`). It notices their death as the end of a
pipe, which works after kill -9 and on every platform. The child runs in a session of its own, so
a terminal's Ctrl-C does not reach it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any, NotRequired, TypedDict, Unpack

import anyio

from collector.local.records import PRIVATE_FILE_MODE

if TYPE_CHECKING:
    import psutil

logger = logging.getLogger("collector.local")

WARDEN = Path(__file__).with_name("warden.py")
# A warden is up in about 0.05 s; a machine under heavy load deserves more.
WARDEN_START_SECONDS = 20.0
# What the warden needs beyond the child's own time: SIGKILL, reaping, the report.
WARDEN_MARGIN_SECONDS = 5.0
# A good stop of either server takes less; of a longer one a person at a terminal wants to know.
SLOW_STOP_SECONDS = 1.5
# Only the child's own user reads what it writes.
CHILD_UMASK = 0o077


class Options(TypedDict):
    """How a child is run.

    `env` is its whole environment. Standard output and error are appended to `log`. `name` is
    what people call it, by default the program's name; a slow stop is logged with it. On its end
    it gets `stop_signal` (SIGTERM) and `stop_seconds` (10), then SIGKILL. `user` (a uid, needs
    root) drops to that user, without further groups. `pass_fds` stay open in it, and `litter`
    are files that are removed after its end.
    """

    env: Mapping[str, str]
    cwd: Path
    log: Path
    name: NotRequired[str]
    stop_signal: NotRequired[int]
    stop_seconds: NotRequired[float]
    user: NotRequired[int | None]
    pass_fds: NotRequired[Sequence[int]]
    litter: NotRequired[Sequence[Path]]


@dataclass(frozen=True, slots=True)
class Users:
    """The processes that share a child: each of them has the named pipe `pipe` open for writing.

    They join while they hold the lock of the file `door`, so that none joins a child which its
    warden has begun to stop.
    """

    pipe: Path
    door: Path

    def join(self) -> int | None:
        """Return a descriptor that keeps the child running while it is open; None: no child."""
        try:
            return os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENXIO):
                return None
            raise

    def are_there(self) -> bool:
        """Whether any process keeps the child running at this moment."""
        try:
            reader = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            return False
        try:
            return os.read(reader, 1) != b""
        except BlockingIOError:
            return True
        finally:
            os.close(reader)

    def lifeline(self) -> tuple[int, int]:
        """Make the pipe anew, and return its two ends."""
        self.pipe.unlink(missing_ok=True)
        os.mkfifo(self.pipe, PRIVATE_FILE_MODE)
        reader = os.open(self.pipe, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        return reader, os.open(self.pipe, os.O_WRONLY)


class Child:
    """A child process. Whoever starts it closes it, and may then wait for its end.

    Attributes: `pid` of the child itself, `warden_pid` of its warden, and `returncode`, None
    until it was waited for, then its exit status or the negative number of the signal that
    ended it.
    """

    _report: IO[bytes]

    def __init__(self, argv: Sequence[str], options: Options) -> None:
        self.pid = 0
        self.warden_pid = 0
        self.returncode: int | None = None
        self._argv = list(argv)
        self._options = options
        self._stop = (options.get("stop_signal", signal.SIGTERM), options.get("stop_seconds", 10.0))
        self._process: psutil.Process | None = None
        self._reading = anyio.Lock()

    async def start(self, users: Users | None, lifeline: ExitStack) -> None:
        """Start the child; it runs until `lifeline` is closed, and `users` have gone.

        Raises OSError if the command cannot be executed.
        """
        with ExitStack() as ends:
            report, report_end = os.pipe()
            self._report = os.fdopen(report, "rb", buffering=0)
            ends.callback(os.close, report_end)
            reader, writer = users.lifeline() if users else os.pipe()
            ends.callback(os.close, reader)
            lifeline.callback(os.close, writer)
            await self._start_warden(reader, report_end, users)
        async with self._reading:
            with anyio.fail_after(WARDEN_START_SECONDS):
                word, *rest = await self._next_report()
        if word != "pid":
            self.returncode = -signal.SIGKILL
            raise OSError(*rest, self._argv[0])
        self.warden_pid, self.pid = rest
        self._process = _leftovers().find_process(self.pid)

    async def _start_warden(self, reader: int, report_end: int, users: Users | None) -> None:
        options = self._options
        user = options.get("user")
        as_user = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        inherited = list(options.get("pass_fds", ()))
        child = {
            "args": self._argv,
            "env": dict(options["env"]),
            "cwd": str(options["cwd"]),
            "pass_fds": inherited,
            "umask": CHILD_UMASK,
            **as_user,
        }
        litter = [*options.get("litter", ()), *([users.pipe] if users else [])]
        order = {
            "child": child,
            "stop": self._stop,
            "lifeline": (reader, users and users.pipe, users and users.door),
            "litter": litter,
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        with os.fdopen(os.open(options["log"], flags, PRIVATE_FILE_MODE), "ab") as log:
            await anyio.run_process(
                # Isolated and without site-packages: starts at once, and no environment bends it.
                [sys.executable, "-I", "-S", str(WARDEN)],
                input=json.dumps(order, default=str).encode(),
                stdout=report_end,
                stderr=log,
                check=False,  # its report tells as well
                start_new_session=True,
                pass_fds=[reader, *inherited],
            )

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
            while self.returncode is None:
                word, *rest = await self._next_report()
                if word == "exit":
                    self.returncode = rest[0]
                elif word == "error":
                    if self._process:
                        await _leftovers().end_process(self._process, *self._stop)
                    self.returncode = -signal.SIGKILL
        return self.returncode

    async def end(self) -> None:
        """Wait for the child's end, which its closed lifeline brings about. Not cancellable."""
        name = self._options.get("name", Path(self._argv[0]).name)
        if not await ends_within(self._stop[1], name, self.wait) and self.warden_pid:
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
    """Return the module that needs psutil, which the engine does without (extra `local`)."""
    from collector.local import leftovers  # noqa: PLC0415

    return leftovers


async def ends_within(
    stop_seconds: float, name: str, wait: Callable[[], Awaitable[object]]
) -> bool:
    """Whether `wait` returns in the time that a stop may take, and some more. Not cancellable."""
    with anyio.CancelScope(shield=True):
        with anyio.move_on_after(SLOW_STOP_SECONDS):
            await wait()
            return True
        logger.info("waiting for %s to stop, %g s at most", name, stop_seconds)
        with anyio.move_on_after(stop_seconds + WARDEN_MARGIN_SECONDS - SLOW_STOP_SECONDS):
            await wait()
            return True
    return False


@asynccontextmanager
async def open_child(argv: Sequence[str], **options: Unpack[Options]) -> AsyncIterator[Child]:
    """Run `argv` for as long as the body lasts, and never longer than this process.

    Returns when the child has ended, also after an error or cancellation. Raises OSError if the
    command cannot be executed. A child that ends by itself ends nothing here: see `Child.wait`.
    """
    child = Child(argv, options)
    lifeline = ExitStack()
    try:
        await child.start(None, lifeline)
        yield child
    finally:
        lifeline.close()
        await child.end()
        child.close()
