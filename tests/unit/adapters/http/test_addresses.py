"""A public name leads to public addresses, or nowhere: also when it answers otherwise later."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from collector.adapters.http import open_http
from collector.adapters.http.addresses import PrivateAddress, PublicResolver, require_public
from collector.core.errors import Fault, ItemError, Outage

NAME = "w.wallhaven.cc"


def test_all_addresses_of_an_answer_count() -> None:
    require_public(NAME, ["104.18.0.1", "2606:4700::1"])
    with pytest.raises(PrivateAddress):
        require_public(NAME, ["104.18.0.1", "10.0.0.1"])


@pytest.mark.parametrize("host", ["localhost", "minio", "127.0.0.1", "[::1]"])
def test_names_of_this_network_may_lead_into_it(host: str) -> None:
    require_public(host, ["127.0.0.1"])


class _Canary(asyncio.Protocol):
    connections = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _Canary.connections += 1


@pytest.mark.case("SEC-01")
@pytest.mark.parametrize("fast_lane", [True, False])
async def test_a_name_that_answers_with_a_private_address_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, fast_lane: bool
) -> None:
    loop = asyncio.get_running_loop()
    canary = await loop.create_server(_Canary, "127.0.0.1", 0)
    port = canary.sockets[0].getsockname()[1]

    async def rebound(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def resolved(*_: Any) -> Any:
        return [
            {
                "hostname": NAME,
                "host": "127.0.0.1",
                "port": port,
                "family": socket.AF_INET,
                "proto": 6,
                "flags": 0,
            }
        ]

    monkeypatch.setattr(loop, "getaddrinfo", rebound, raising=False)
    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", lambda *_: resolved())
    opening = open_http(
        image_hosts=frozenset({NAME}), user_agent="test", connections=1, fast_lane=fast_lane
    )
    async with opening as http:
        with pytest.raises(ItemError) as caught:
            async with http.open(f"https://{NAME}/full/ab/wallhaven-abc123.jpg"):
                pass
        # Not the image's fault: whoever answers for the name has gone mad, or bad.
        assert caught.value.fault is Fault.SYSTEMIC
        with pytest.raises(Outage):
            await http.get(f"https://{NAME}/api/v1/search", {})
    canary.close()
    assert _Canary.connections == 0


async def test_the_resolver_answers_for_this_machine() -> None:
    resolver = PublicResolver()
    found = await resolver.resolve("localhost", 80)
    assert {result["host"] for result in found} <= {"127.0.0.1", "::1"}
    await resolver.close()
