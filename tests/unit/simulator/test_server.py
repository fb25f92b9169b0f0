"""Opening and closing."""

from __future__ import annotations

import asyncio
import logging
import socket

import anyio
import pytest
from aiohttp import ClientConnectionError, ClientSession, web

from collector.simulator import Hooks, Simulator, SimulatorOptions, Wallpaper, open_simulator


def _other_tasks() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def test_it_serves_on_loopback_while_it_is_open(session: ClientSession) -> None:
    async with open_simulator() as simulator:
        assert simulator.url.startswith("http://127.0.0.1:")
        assert simulator.api_url == f"{simulator.url}/api/v1"
        assert simulator.url == f"http://{simulator.image_host}"
        async with session.get(f"{simulator.api_url}/search") as response:
            assert response.status == 200
    with pytest.raises(ClientConnectionError):
        await session.get(f"{simulator.api_url}/search")


async def test_two_can_be_open_at_once() -> None:
    async with open_simulator() as first, open_simulator() as second:
        assert first.url != second.url


async def test_a_second_start_serves_the_same(session: ClientSession) -> None:
    answers = []
    for _ in range(2):
        async with (
            open_simulator(SimulatorOptions(wallpapers=30)) as simulator,
            session.get(f"{simulator.api_url}/search") as response,
        ):
            answers.append((await response.text()).replace(simulator.image_host, "host"))
    assert answers[0] == answers[1]


async def test_a_port_can_be_given_and_is_free_again(session: ClientSession) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            async with open_simulator(SimulatorOptions(port=port)):
                pass
    for _ in range(2):
        async with open_simulator(SimulatorOptions(port=port)) as simulator:
            assert simulator.image_host == f"127.0.0.1:{port}"
            async with session.get(f"{simulator.api_url}/search") as response:
                assert response.status == 200


async def test_closing_ends_requests_in_flight_and_leaves_no_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stuck = asyncio.Event()

    async def hang(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse | None:
        if wallpaper.index == 1:
            stuck.set()
            await asyncio.Event().wait()
        return None

    before = _other_tasks()
    options = SimulatorOptions(wallpapers=5, image_bytes_per_second=50_000)
    with caplog.at_level(logging.INFO):
        async with open_simulator(options, Hooks(image=hang)) as simulator, asyncio.timeout(5):
            slow, slow_writer = await _request(simulator, simulator.catalogue[0])
            _, stuck_writer = await _request(simulator, simulator.catalogue[1])
            await slow.readexactly(2_000)
            await stuck.wait()
            assert _other_tasks() > before
    assert _other_tasks() == before
    assert not any(simulator.journal.in_flight.values())
    assert not caplog.records
    slow_writer.close()
    stuck_writer.close()


async def _request(
    simulator: Simulator, wallpaper: Wallpaper
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = simulator.image_host.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {wallpaper.image_path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return reader, writer


async def test_cancellation_passes_through_and_closes() -> None:
    opened: asyncio.Future[Simulator] = asyncio.get_running_loop().create_future()

    async def hold() -> None:
        async with open_simulator() as simulator:
            opened.set_result(simulator)
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    simulator = await opened
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not _other_tasks()
    port = int(simulator.image_host.rpartition(":")[2])
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_cancelled_scope_around_it_does_not_stop_it_from_closing() -> None:
    with anyio.CancelScope() as scope:
        async with open_simulator() as simulator:
            _, writer = await _request(simulator, simulator.catalogue[0])
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    writer.close()
    assert not _other_tasks()


async def test_opening_a_large_catalogue_leaves_the_loop_free() -> None:
    longest = 0.0
    loop = asyncio.get_running_loop()

    async def watch() -> None:
        nonlocal longest
        while True:
            before = loop.time()
            await asyncio.sleep(0.01)
            longest = max(longest, loop.time() - before)

    watcher = asyncio.create_task(watch())
    async with open_simulator(SimulatorOptions(wallpapers=60_000)) as simulator:
        assert len(simulator.catalogue) == 60_000
    watcher.cancel()
    assert 0 < longest < 1.0


async def test_a_host_can_be_given_and_is_where_images_are(session: ClientSession) -> None:
    async with open_simulator(SimulatorOptions(host="localhost")) as simulator:
        assert simulator.url.startswith("http://localhost:")
        async with session.get(f"{simulator.api_url}/search") as response:
            (first, *_) = (await response.json())["data"]
        assert first["path"].startswith(f"{simulator.url}/")
