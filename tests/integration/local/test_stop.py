from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from botocore.exceptions import ClientError

from collector.local import open_local_servers
from collector.local.records import LOOPBACK

# What a whole command has from the signal to its exit.
EXIT_SECONDS = 4
OBJECTS = {f"key-{number}": bytes([number]) * 300_000 for number in range(8)}


async def test_connections_left_open_do_not_hold_the_stop_and_no_acknowledged_object_is_lost(
    home: Path, client: Any
) -> None:
    async with AsyncExitStack() as left_open:
        async with open_local_servers(home, postgres=False) as servers:
            for key, body in OBJECTS.items():
                await client.put(servers.s3, key, body)
            await left_open.enter_async_context(client.half_sent_put(servers.s3, "half"))
            # Parallel uploads leave such behind: opened by the server's own client, never used.
            ports = json.loads((home / "s3" / "ports.json").read_text())
            unused = await anyio.connect_tcp(LOOPBACK, ports["volume.port"])
            await left_open.enter_async_context(unused)
            began = anyio.current_time()
        assert anyio.current_time() - began < EXIT_SECONDS
    async with open_local_servers(home, postgres=False) as again:
        for key, body in OBJECTS.items():
            assert await client.get(again.s3, key) == body
        with pytest.raises(ClientError, match="NoSuchKey"):
            await client.get(again.s3, "half")
