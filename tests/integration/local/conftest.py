from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from homes import passable_home

from collector.local import LocalPostgres, LocalS3

BUCKET = "bucket"
LINE_BYTES = 65536
UPLOAD_BYTES = 1_000_000
S3_CONFIG = AioConfig(
    s3={"addressing_style": "path"},
    retries={"total_max_attempts": 1},
    connect_timeout=5,
    read_timeout=10,
)

# Opens the servers that its arguments name, prints how to reach them, and leaves when its standard
# input ends.
OPENER = """
import json, sys
from dataclasses import asdict
from pathlib import Path
import anyio
from collector.local import open_local_servers

async def main():
    wanted = {"postgres": "postgres" in sys.argv[2:], "s3": "s3" in sys.argv[2:]}
    async with open_local_servers(Path(sys.argv[1]), **wanted) as servers:
        opened = {name: asdict(getattr(servers, name)) for name in sys.argv[2:]}
        print(json.dumps(opened, default=str), flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)

anyio.run(main)
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that other users may pass through, which pytest's own folders forbid them."""
    with passable_home() as folder:
        yield folder


class Client:
    """What a user of the embedded servers does with them."""

    async def query(self, postgres: LocalPostgres | None, statement: str) -> Any:
        assert postgres is not None
        connection = await asyncpg.connect(postgres.dsn, timeout=5)
        try:
            return await connection.fetchval(statement, timeout=10)
        finally:
            await connection.close(timeout=5)

    async def put(self, s3: LocalS3 | None, key: str, body: bytes) -> None:
        async with self._s3(s3) as session:
            found = await session.list_buckets()
            if BUCKET not in [bucket["Name"] for bucket in found["Buckets"]]:
                await session.create_bucket(Bucket=BUCKET)
            await session.put_object(Bucket=BUCKET, Key=key, Body=body)

    async def get(self, s3: LocalS3 | None, key: str) -> bytes:
        async with self._s3(s3) as session:
            answer = await session.get_object(Bucket=BUCKET, Key=key)
            async with answer["Body"] as body:
                content: bytes = await body.read()
        return content

    @asynccontextmanager
    async def half_sent_put(self, s3: LocalS3 | None, key: str) -> AsyncIterator[None]:
        """Hold an upload open during the body: admitted, and half of its bytes sent."""
        async with self._s3(s3) as session:
            where = {"Bucket": BUCKET, "Key": key}
            url = urlsplit(await session.generate_presigned_url("put_object", Params=where))
        assert url.hostname
        assert url.port
        async with await anyio.connect_tcp(url.hostname, url.port) as connection:
            # The server asks for the body only once it has admitted the request.
            head = (
                f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n"
                f"Content-Length: {UPLOAD_BYTES}\r\nExpect: 100-continue\r\n\r\n"
            )
            await connection.send(head.encode())
            answer = await BufferedByteReceiveStream(connection).receive_until(b"\r\n", LINE_BYTES)
            assert answer == b"HTTP/1.1 100 Continue"
            await connection.send(bytes(UPLOAD_BYTES // 2))
            yield

    @asynccontextmanager
    async def _s3(self, s3: LocalS3 | None) -> AsyncIterator[Any]:
        assert s3 is not None
        async with get_session().create_client(
            "s3",
            endpoint_url=s3.endpoint_url,
            aws_access_key_id=s3.access_key,
            aws_secret_access_key=s3.secret_key,
            region_name=s3.region,
            config=S3_CONFIG,
        ) as session:
            yield session


@pytest.fixture
def client() -> Client:
    return Client()


@dataclass
class Opener:
    """Another process that opened servers of the same home, and what it got."""

    process: Process
    opened: dict[str, Any]

    async def leave(self) -> None:
        """Make it leave its servers, without waiting for that."""
        assert self.process.stdin
        await self.process.stdin.aclose()


@pytest.fixture
async def open_elsewhere(home: Path) -> AsyncIterator[Callable[..., Awaitable[Opener]]]:
    async with AsyncExitStack() as stack:

        async def open_there(*servers: str, **options: Any) -> Opener:
            command = [sys.executable, "-c", OPENER, str(home), *servers]
            process = await anyio.open_process(command, stderr=None, **options)
            await stack.enter_async_context(process)
            assert process.stdout
            line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", LINE_BYTES)
            opener = Opener(process, json.loads(line))
            stack.push_async_callback(process.wait)
            stack.push_async_callback(opener.leave)
            return opener

        yield open_there
