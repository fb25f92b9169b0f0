"""Start a server on free ports and wait until it answers."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from collector.local.errors import LocalServerError
from collector.local.files import begin_log, log_tail
from collector.local.polling import POLL_SECONDS
from collector.local.ports import Ports, remember_ports, remembered_ports
from collector.local.process import Child, open_child
from collector.local.sharing import Running

# PostgreSQL replays its log after a crash: 6 s were seen for 0.7 GB.
READY_SECONDS = 60.0
# Between allocation and start another process may take a port; twice in a row is unheard of.
START_ATTEMPTS = 3


class PortTakenError(LocalServerError):
    """A port that was free at allocation was taken before the server could listen on it."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started: everything but its ports, which are allocated for each try.

    `port_taken` is what the server's log says when a port is not free, in lower case.
    """

    name: str
    folder: Path
    argv: Callable[[Ports], list[str]]
    answers: Callable[[Ports], Awaitable[bool]]
    allocate: Callable[[Ports], dict[str, int]]
    env: Mapping[str, str]
    cwd: Path
    user: int | None
    stop_signal: signal.Signals
    stop_seconds: float
    port_taken: str

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def ports_file(self) -> Path:
        return self.folder / "ports.json"


@asynccontextmanager
async def launched(launch: Launch, running: Running) -> AsyncIterator[tuple[int, Ports]]:
    """Run the server during the body; yields its pid and ports once it answers.

    The ports of the last start are kept where they are free. Raises LocalServerError, with the
    end of the log, where the server ends or stays silent for READY_SECONDS.
    """
    async with AsyncExitStack() as stack:
        remembered = remembered_ports(launch.ports_file)
        for attempts_left in reversed(range(START_ATTEMPTS)):
            ports = launch.allocate(remembered)
            try:
                pid = await _start(stack, launch, running, ports)
                break
            except PortTakenError:
                if not attempts_left:
                    raise
                remembered = {}
        remember_ports(launch.ports_file, ports)
        yield pid, ports


async def _start(stack: AsyncExitStack, launch: Launch, running: Running, ports: Ports) -> int:
    argv = launch.argv(ports)
    log_begin_bytes = begin_log(launch.log)
    async with AsyncExitStack() as attempt:
        child = await attempt.enter_async_context(
            open_child(
                argv,
                env=launch.env,
                cwd=launch.cwd,
                log=launch.log,
                name=launch.name,
                stop_signal=launch.stop_signal,
                stop_seconds=launch.stop_seconds,
                user=launch.user,
                pass_fds=[running.descriptor],
            )
        )
        running.name(child.pid, argv)
        await _wait_ready(launch, child, ports, log_begin_bytes)
        await stack.enter_async_context(attempt.pop_all())
    return child.pid


async def _wait_ready(launch: Launch, child: Child, ports: Ports, log_begin_bytes: int) -> None:
    with anyio.move_on_after(READY_SECONDS):
        while child.running:
            if await launch.answers(ports):
                return
            await anyio.sleep(POLL_SECONDS)
        raise _ended(launch, await child.wait(), log_begin_bytes)
    tail = log_tail(launch.log, log_begin_bytes)
    problem = f"did not answer within {READY_SECONDS:.0f} s"
    raise LocalServerError(launch.name, problem, log=launch.log, tail=tail)


def _ended(launch: Launch, status: int, log_begin_bytes: int) -> LocalServerError:
    tail = log_tail(launch.log, log_begin_bytes)
    taken = any(launch.port_taken in line.lower() for line in tail)
    kind = PortTakenError if taken else LocalServerError
    problem = f"ended with status {status} before it was ready"
    return kind(launch.name, problem, log=launch.log, tail=tail)


async def run_tool(
    launch_name: str,
    argv: list[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    log: Path,
    user: int | None,
    running: Running,
) -> None:
    """Run a command to its end; LocalServerError with the end of the log where it fails.

    It holds the server's lock like the server itself, so that no second owner starts beside it.
    """
    log_begin_bytes = begin_log(log)
    async with open_child(
        argv, env=env, cwd=cwd, log=log, user=user, pass_fds=[running.descriptor]
    ) as child:
        status = await child.wait()
    if status != 0:
        problem = f"{Path(argv[0]).name} ended with status {status}"
        raise LocalServerError(launch_name, problem, log=log, tail=log_tail(log, log_begin_bytes))
