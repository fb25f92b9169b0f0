"""Lower bounds: the work that no such client can avoid. Run by `contenders.py`.

python floor.py sockets < order.json     GET and PUT on bare sockets, 16 threads, no HTTP client
python floor.py sha256 < order.json      SHA-256 of the same number of bytes, in memory
python floor.py both < order.json        sockets, and SHA-256 of the bodies
"""

from __future__ import annotations

import hashlib
import json
import queue
import resource
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from rig import BUCKET

BUFFER_BYTES = 256 * 1024
THREADS = 16
_ZEROS = memoryview(bytes(BUFFER_BYTES))

Digest = Callable[[memoryview], Any]


class _NoDigest:
    def update(self, _: memoryview) -> None:
        pass


def _no_digest(_: memoryview) -> _NoDigest:
    return _NoDigest()


def sockets(order: dict[str, Any], digest: Digest = _no_digest) -> None:
    """Transfer each body; each thread keeps one connection to either end."""
    waiting: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    for body in order["bodies"]:
        waiting.put(body)
    threads = [
        threading.Thread(target=_carry_all, args=(order, waiting, digest)) for _ in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def both(order: dict[str, Any]) -> None:
    """Transfer each body and hash it on the way."""
    sockets(order, hashlib.sha256)


def _carry_all(
    order: dict[str, Any], waiting: queue.SimpleQueue[dict[str, Any]], digest: Digest
) -> None:
    origin, sink = _connect(order["origin_url"], order), _connect(order["sink_url"], order)
    buffer = memoryview(bytearray(BUFFER_BYTES))
    while True:
        try:
            body = waiting.get_nowait()
        except queue.Empty:
            return
        name, size = f"{body['wallhaven_id']}.{body['extension']}", body["size_bytes"]
        origin.sendall(f"GET /{name} HTTP/1.1\r\nHost: o\r\n\r\n".encode())
        sink.sendall(
            f"PUT /{BUCKET}/wallpapers/{name} HTTP/1.1\r\nHost: s\r\n"
            f"Content-Length: {size}\r\n\r\n".encode()
        )
        received = origin.recv_into(buffer)
        start = bytes(buffer[:received]).index(b"\r\n\r\n") + 4
        hashed = digest(buffer[start:received])
        sink.sendall(buffer[start:received])
        left = size - (received - start)
        while left:
            received = origin.recv_into(buffer)
            hashed.update(buffer[:received])
            sink.sendall(buffer[:received])
            left -= received
        while not sink.recv(BUFFER_BYTES).endswith(b"0\r\n\r\n"):
            pass


def _connect(url: str, order: dict[str, Any]) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    if parts.scheme == "http":
        return connection
    context = ssl.create_default_context(cafile=order["certificate"])
    return context.wrap_socket(connection, server_hostname=parts.hostname)


def sha256(order: dict[str, Any]) -> None:
    """Hash each body, a buffer at a time."""
    for body in order["bodies"]:
        digest = hashlib.sha256()
        left = body["size_bytes"]
        while left:
            part = _ZEROS[: min(left, BUFFER_BYTES)]
            digest.update(part)
            left -= len(part)


def main() -> None:
    """Read the order and print the cost."""
    order = json.load(sys.stdin)
    line = {"sockets": sockets, "sha256": sha256, "both": both}[sys.argv[1]]
    before, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    line(order)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)
    json.dump({"wall_seconds": time.perf_counter() - wall, "cpu_seconds": used}, sys.stdout)


if __name__ == "__main__":
    main()
