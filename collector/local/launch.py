"""Start a server on free ports of loopback and wait until it answers.

The ports of the last start are kept where they are still free.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from collector.local.process import Child, Options, open_child
from collector.local.records import LocalServerError, write_private
from collector.local.sharing import Running, users_of

LOOPBACK = "127.0.0.1"
ANY_PORT = 0
# A derived port is free nearly always; this many misses in a row mean a machine out of ports.
ALLOCATION_ATTEMPTS = 20
# PostgreSQL replays its log after a crash: 6 s were seen for 0.7 GB.
READY_SECONDS = 60.0
# Each question costs CPU that the server needs to start.
READY_POLL_SECONDS = 0.05
# Between allocation and start another process may take a port; twice in a row is unheard of.
START_ATTEMPTS = 3
# A log above this size is set aside when its server starts: one old log is enough to look back.
LOG_KEPT_BYTES = 16 * 1024 * 1024
# What a log says about a failed start fits in here.
LOG_TAIL_BYTES = 8 * 1024
LOG_TAIL_LINES = 12

Ports = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started: everything but its ports, which are allocated for each attempt.

    `ports` are the names of its ports, `derived_ports` those at a fixed distance from another
    one: name to (base, distance). `port_taken` is what the server's log says of a port that is
    not free, in lower case. `litter` are files to remove after its end.
    """

    folder: Path
    options: Options
    argv: Callable[[Ports], list[str]]
    answers: Callable[[Ports], Awaitable[bool]]
    port_taken: str
    ports: Sequence[str]
    derived_ports: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    litter: Callable[[Ports], list[Path]] = lambda _: []

    def error(self, problem: str, log_begin_bytes: int) -> LocalServerError:
        log = self.options["log"]
        tail = log_tail(log, log_begin_bytes)
        return LocalServerError(self.options["name"], problem, log=log, tail=tail)


async def launch(server: Launch, running: Running, seat: ExitStack) -> tuple[int, Ports]:
    """Start the server, which runs until `seat` is closed; return pid and ports once it answers.

    Raises LocalServerError, with the end of the log, if the server ends or stays silent for
    READY_SECONDS.
    """
    ports_file = server.folder / "ports.json"
    remembered = remembered_ports(ports_file)
    for attempts_left in reversed(range(START_ATTEMPTS)):
        ports = allocate_ports(server.ports, remembered, server.derived_ports)
        try:
            pid = await _start(server, running, seat, ports)
            break
        except LocalServerError as error:
            if not attempts_left or server.port_taken not in "\n".join(error.tail).lower():
                raise
            remembered = {}
    write_private(ports_file, json.dumps(ports))
    return pid, ports


async def _start(server: Launch, running: Running, seat: ExitStack, ports: Ports) -> int:
    log_begin_bytes = begin_log(server.options["log"])
    litter = [server.folder / "server.json", *server.litter(ports)]
    options: Options = {**server.options, "pass_fds": [running.descriptor], "litter": litter}
    child = Child(server.argv(ports), options)
    await child.start(users_of(server.folder), seat)
    with closing(child):
        running.name(child.pid)
        with anyio.move_on_after(READY_SECONDS):
            while child.running:
                if await server.answers(ports):
                    return child.pid
                await anyio.sleep(READY_POLL_SECONDS)
            problem = f"ended with status {await child.wait()} before it was ready"
            raise server.error(problem, log_begin_bytes)
    raise server.error(f"did not answer within {READY_SECONDS:.0f} s", log_begin_bytes)


async def run_tool(
    server: Launch, argv: list[str], running: Running, *, env: Mapping[str, str] | None = None
) -> None:
    """Run a command like the server, but to its end, and with `env` beside the server's.

    It holds the server's lock, too, so that no other server starts beside it. Raises
    LocalServerError with the end of the log if it fails.
    """
    log_begin_bytes = begin_log(server.options["log"])
    options: Options = {**server.options, "name": argv[0], "pass_fds": [running.descriptor]}
    options["env"] = {**options["env"], **(env or {})}
    async with open_child(argv, **options) as child:
        status = await child.wait()
    if status != 0:
        raise server.error(f"{Path(argv[0]).name} ended with status {status}", log_begin_bytes)


def begin_log(log: Path) -> int:
    """Make room in `log` and return the offset in bytes where this start's lines begin."""
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

    All are held at once, so that they differ, and released on return; the server started next
    may still find one taken. Raises OSError if the machine has no such ports.
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
    # With SO_REUSEADDR, for a server that just left has connections in TIME_WAIT. Listening, for
    # a port that is only bound could be bound twice.
    listener = held.enter_context(socket.create_server((LOOPBACK, port)))
    bound: int = listener.getsockname()[1]
    return bound
