"""TCP ports on loopback, kept from start to start where they are still free."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from collector.local.files import write_private

LOOPBACK = "127.0.0.1"
ANY_PORT = 0
# A derived port is free nearly always; this many misses in a row mean a machine out of ports.
ALLOCATION_ATTEMPTS = 20

Ports = Mapping[str, int]


def remembered_ports(path: Path) -> dict[str, int]:
    """Return the ports of the last start, or none where `path` is missing or damaged."""
    try:
        ports = json.loads(path.read_text())
        return {str(name): int(port) for name, port in ports.items()}
    except (FileNotFoundError, ValueError, AttributeError, TypeError):
        return {}


def remember_ports(path: Path, ports: Ports) -> None:
    write_private(path, json.dumps(dict(ports)))


def allocate_ports(
    names: Sequence[str],
    remembered: Ports,
    derived: Mapping[str, tuple[str, int]] | None = None,
) -> dict[str, int]:
    """Return a free port for each of `names`, that of `remembered` where it is still free.

    `derived` adds names whose port lies at a fixed distance from another's: name to (base,
    distance). All are held at once, so that they differ, and released on return; the server
    started next may still find one taken, which its caller answers with another try. Raises
    OSError where the machine has no such ports.
    """
    for _ in range(ALLOCATION_ATTEMPTS - 1):
        with suppress(OSError):
            return _allocate(names, remembered, derived or {})
        remembered = {}
    return _allocate(names, {}, derived or {})


def _allocate(
    names: Sequence[str], remembered: Ports, derived: Mapping[str, tuple[str, int]]
) -> dict[str, int]:
    with ExitStack() as held:
        ports = {name: _hold(held, remembered.get(name, ANY_PORT)) for name in names}
        for name, (base, distance) in derived.items():
            ports[name] = held.enter_context(_listener(ports[base] + distance)).getsockname()[1]
        return ports


def _hold(held: ExitStack, port: int) -> int:
    try:
        listener = _listener(port)
    except OSError:
        listener = _listener(ANY_PORT)
    bound: int = held.enter_context(listener).getsockname()[1]
    return bound


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A server that just left has connections in TIME_WAIT; its port is free all the same.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        # A port that is only bound could be bound twice.
        listener.listen()
    except BaseException:
        listener.close()
        raise
    return listener
