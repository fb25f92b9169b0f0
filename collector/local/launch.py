"""Start a server on free ports of loopback and wait until it answers.

The ports of the last start are used again if they are still free.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio

from collector.local.folder import RunningLock, Users, record_path
from collector.local.process import Child, Command, open_child
from collector.local.records import LOOPBACK, LocalServerError, write_private

ANY_PORT = 0
# A derived port is nearly always free; this many misses in a row mean a machine out of ports.
ALLOCATION_ATTEMPTS = 20
# PostgreSQL replays its log after a crash: 6 s were seen for 0.7 GB.
READY_SECONDS = 60.0
# Each probe costs CPU that the server needs to start.
READY_POLL_SECONDS = 0.05
# The longest that one probe of a server waits for its answer.
PROBE_SECONDS = 5.0
# Between allocation and start another process may take a port; twice in a row is unheard of.
START_ATTEMPTS = 3
# A larger log is set aside when its server starts; the log set aside before it is dropped.
LOG_KEPT_BYTES = 16 * 1024 * 1024
# What a log says about a failed start fits in here.
LOG_TAIL_BYTES = 8 * 1024
LOG_TAIL_LINES = 12

Ports = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started on ports that are allocated for each attempt.

    `ports` are the names of its ports, `derived_ports` those at a fixed distance from another
    one: name to (base, distance). `port_taken` is what the server's log says of a port that is
    not free, in lower case.
    """

    folder: Path
    command: Callable[[Ports], Command]
    answers: Callable[[Ports], Awaitable[bool]]
    port_taken: str
    ports: Sequence[str]
    derived_ports: Mapping[str, tuple[str, int]] = field(default_factory=dict)


async def launch(server: Launch, running: RunningLock, lifeline: ExitStack) -> tuple[int, Ports]:
    """Start the server, and return its pid and ports once it answers.

    It runs until `lifeline` is closed. Raises LocalServerError, with the end of the log, if it ends
    or does not answer within READY_SECONDS.
    """
    ports_file = server.folder / "ports.json"
    remembered = remembered_ports(ports_file)
    for attempts_left in reversed(range(START_ATTEMPTS)):
        ports = allocate_ports(server.ports, remembered, server.derived_ports)
        try:
            pid = await _start(server, running, lifeline, ports)
            break
        except LocalServerError as error:
            if not attempts_left or server.port_taken not in "\n".join(error.tail).lower():
                raise
            remembered = {}
    write_private(ports_file, json.dumps(ports))
    return pid, ports


async def _start(server: Launch, running: RunningLock, lifeline: ExitStack, ports: Ports) -> int:
    command = server.command(ports)
    cleanup_files = [record_path(server.folder), *command.cleanup_files]
    child = Child(replace(command, pass_fds=[running.descriptor], cleanup_files=cleanup_files))
    log_begin_bytes = begin_log(command.log)
    await child.start(lifeline, Users(server.folder))
    with closing(child):
        running.write_holder(child.pid)
        with anyio.move_on_after(READY_SECONDS):
            while child.running:
                if await server.answers(ports):
                    return child.pid
                await anyio.sleep(READY_POLL_SECONDS)
            problem = f"ended with status {await child.wait()} before it was ready"
            raise _error(command, problem, log_begin_bytes)
    raise _error(command, f"did not answer within {READY_SECONDS:.0f} s", log_begin_bytes)


async def run_tool(command: Command, running: RunningLock) -> None:
    """Run a tool of the server to its end.

    It holds the server's lock, too, so that no other server starts meanwhile. Raises
    LocalServerError with the end of the log if it fails.
    """
    log_begin_bytes = begin_log(command.log)
    async with open_child(replace(command, pass_fds=[running.descriptor])) as child:
        status = await child.wait()
    if status != 0:
        problem = f"{Path(command.argv[0]).name} ended with status {status}"
        raise _error(command, problem, log_begin_bytes)


def _error(command: Command, problem: str, log_begin_bytes: int) -> LocalServerError:
    tail = log_tail(command.log, log_begin_bytes)
    return LocalServerError(command.name, problem, log=command.log, tail=tail)


def begin_log(log: Path) -> int:
    """Set a large log aside; return the offset in bytes where this start's lines begin."""
    if not log.exists():
        return 0
    size_bytes = log.stat().st_size
    if size_bytes <= LOG_KEPT_BYTES:
        return size_bytes
    log.replace(log.with_name(f"{log.name}.1"))
    return 0


def log_tail(log: Path, since_bytes: int = 0) -> list[str]:
    """Return the last lines of `log` that were written after offset `since_bytes`."""
    if not log.exists():
        return []
    with log.open("rb") as lines:
        end_bytes = lines.seek(0, os.SEEK_END)
        lines.seek(max(since_bytes, end_bytes - LOG_TAIL_BYTES))
        text = lines.read().decode(errors="replace")
    return [line for line in text.splitlines() if line.strip()][-LOG_TAIL_LINES:]


def remembered_ports(path: Path) -> dict[str, int]:
    """Return the ports of the last start, or none if `path` is missing or damaged."""
    try:
        ports = json.loads(path.read_text())
        return {str(name): int(port) for name, port in ports.items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return {}


def allocate_ports(
    names: Sequence[str], remembered: Ports, derived: Mapping[str, tuple[str, int]]
) -> dict[str, int]:
    """Return a free port for each name, that of `remembered` if it is still free.

    All are held at once, so that they differ, and released on return; the server may still find
    one taken when it starts. Raises OSError if the machine has no such ports.
    """
    for _ in range(ALLOCATION_ATTEMPTS - 1):
        with suppress(OSError):
            return _allocate(names, remembered, derived)
        remembered = {}
    return _allocate(names, {}, derived)


def _allocate(
    names: Sequence[str], remembered: Ports, derived: Mapping[str, tuple[str, int]]
) -> dict[str, int]:
    with ExitStack() as held:
        ports = {name: _hold(held, remembered.get(name, ANY_PORT)) for name in names}
        for name, (base, distance) in derived.items():
            ports[name] = _listen(held, ports[base] + distance)
        return ports


def _hold(held: ExitStack, port: int) -> int:
    try:
        return _listen(held, port)
    except OSError:
        return _listen(held, ANY_PORT)


def _listen(held: ExitStack, port: int) -> int:
    # create_server() sets SO_REUSEADDR: a server that just ended has connections in TIME_WAIT.
    # It also listens: a port that is only bound could be bound twice.
    listener = held.enter_context(socket.create_server((LOOPBACK, port)))
    bound: int = listener.getsockname()[1]
    return bound
