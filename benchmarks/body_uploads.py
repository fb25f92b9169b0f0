# ruff: noqa: INP001, S603, SLF001 - a script; the SDK client is what it measures
"""Client CPU of three ways to PUT image bodies, against a sink that stores nothing.

    python benchmarks/body_uploads.py > benchmarks/results/body_uploads.json

Each way sends the same bodies, and the ways take turns. Only CPU seconds of the sending process are
counted (user and system), so a busy machine changes them little.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from importlib.metadata import version

import aiohttp
import uvloop
from yarl import URL

from collector.store import S3Options
from collector.store.bodies import Address, BodySender, ChunkPayload, Credentials
from collector.store.client import open_control_calls

# The size of a usual wallpaper, in chunks as aiohttp delivers them, with the default concurrency.
BODY_BYTES = 1_500_000
CHUNK_BYTES = 256 * 1024
IN_FLIGHT = 16
BODIES = 400
ROUNDS = 5

OK = b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: "0"\r\n\r\n'
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Sink(asyncio.Protocol):
    """Answers 200 to each request after its body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.head, self.left = transport, b"", 0

    def data_received(self, data: bytes) -> None:
        if not self.left:
            head, found, data = (self.head + data).partition(b"\r\n\r\n")
            if not found:
                self.head = head
                return
            fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
            self.head, self.left = b"", int(fields[b"content-length"])
            if b"expect" in fields:
                self.transport.write(CONTINUE)
        self.left -= len(data)
        if not self.left:
            self.transport.write(OK)


async def serve_sink() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


async def send_all(send: Callable[[str], Awaitable[object]]) -> float:
    """Return the CPU seconds per gigabyte if `send(key)` sends one body."""
    keys = iter(range(BODIES))

    async def work() -> None:
        for key in keys:
            await send(f"wallpapers/{key:06}.jpg")

    begun = time.process_time()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(work())
    return (time.process_time() - begun) / (BODIES * BODY_BYTES / 1e9)


async def measure(endpoint: str) -> dict[str, list[float]]:
    """Return the CPU seconds per gigabyte of each way, round by round."""
    body = os.urandom(BODY_BYTES)
    chunks = [body[at : at + CHUNK_BYTES] for at in range(0, BODY_BYTES, CHUNK_BYTES)]
    sha256 = hashlib.sha256(body).digest()
    keys = Credentials("access", "secret")
    options = S3Options("null", endpoint, "us-east-1", "access", "secret", connections=IN_FLIGHT)

    async def credentials() -> Credentials:
        return keys

    async with open_control_calls(options) as control, aiohttp.ClientSession() as session:
        address = Address(f"{endpoint}/null/", "us-east-1")
        sender = BodySender(session, address, credentials, grace_seconds=60)

        async def signed_headers(key: str) -> None:
            await sender.put(key, chunks, size_bytes=BODY_BYTES, sha256=sha256, headers={})

        async def presigned_address(key: str) -> None:
            url = await control._client.generate_presigned_url(
                "put_object", Params={"Bucket": "null", "Key": key}
            )
            payload = ChunkPayload(chunks, BODY_BYTES)
            async with session.put(URL(url, encoded=True), data=payload) as reply:
                reply.raise_for_status()

        async def sdk_put_object(key: str) -> None:
            await control.call("put_object", Key=key, Body=b"".join(chunks))

        ways = (signed_headers, presigned_address, sdk_put_object)
        spent: dict[str, list[float]] = {way.__name__: [] for way in ways}
        for _ in range(ROUNDS):
            for way in ways:
                spent[way.__name__].append(round(await send_all(way), 3))
    return spent


def main() -> None:
    """Start the sink as another process, measure, and print one JSON object."""
    with subprocess.Popen(
        [sys.executable, __file__, "sink"], stdout=subprocess.PIPE, text=True
    ) as sink:
        assert sink.stdout is not None
        try:
            endpoint = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
            spent = uvloop.run(measure(endpoint))
        finally:
            sink.terminate()
    result = {
        "command": "python benchmarks/body_uploads.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, shared; {platform.python_implementation()} "
        f"{platform.python_version()}",
        "versions": {name: version(name) for name in ("aiohttp", "aiobotocore", "uvloop")},
        "workload": f"{ROUNDS} rounds of {BODIES} bodies of {BODY_BYTES} bytes each way, "
        f"{IN_FLIGHT} in flight, over plain HTTP to a sink on loopback that stores nothing",
        "unit": "CPU seconds of the client per 1e9 bytes",
        "results": spent,
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    asyncio.run(serve_sink()) if sys.argv[1:] == ["sink"] else main()
