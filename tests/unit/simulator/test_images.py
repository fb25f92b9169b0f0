"""The image host."""

from __future__ import annotations

import asyncio
import hashlib
import time
from io import BytesIO

import pytest
from aiohttp import ClientPayloadError, ClientSession, web
from PIL import Image

from collector.simulator import Hooks, Simulator, SimulatorOptions, Wallpaper, open_simulator
from collector.simulator.stock import Artwork, Shape, draw


async def test_bytes_and_headers_agree_with_the_listing(
    simulator: Simulator, session: ClientSession
) -> None:
    async with session.get(f"{simulator.api_url}/search") as response:
        items = (await response.json())["data"][:10]
    for item in items:
        wallpaper = simulator.catalogue.find(item["id"])
        assert wallpaper is not None
        async with session.get(item["path"]) as response:
            body = await response.read()
            assert response.status == 200
            assert response.headers["Content-Type"] == item["file_type"]
            assert response.headers["Content-Length"] == str(item["file_size"])
            assert response.headers["Cache-Control"] == "public, max-age=2592000"
            assert response.headers["ETag"].strip('"')
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert "Content-Disposition" not in response.headers
        assert len(body) == item["file_size"]
        assert hashlib.sha256(body).hexdigest() == simulator.catalogue.sha256(wallpaper)


async def test_etags_are_stable_and_differ(simulator: Simulator, session: ClientSession) -> None:
    etags = []
    for wallpaper in [*simulator.catalogue[:5], *simulator.catalogue[:5]]:
        async with session.head(simulator.image_url(wallpaper)) as response:
            assert response.headers["Content-Length"] == str(wallpaper.file_size)
            etags.append(response.headers["ETag"])
    assert etags[:5] == etags[5:]
    assert len(set(etags)) == 5


async def test_wrong_addresses_are_not_found(simulator: Simulator, session: ClientSession) -> None:
    wallpaper = simulator.catalogue[0]
    right = wallpaper.image_path
    other = "png" if wallpaper.extension == "jpg" else "jpg"
    for path in (
        right.replace(wallpaper.extension, other),
        right.replace(f"/full/{wallpaper.id[:2]}/", "/full/zz/"),
        right.replace("/full", ""),
        "/full/00/wallhaven-000000.jpg",
        "/",
    ):
        async with session.get(simulator.url + path) as response:
            assert response.status == 404, path
            assert response.content_type == "text/html"


@pytest.mark.parametrize(("name", "size"), [("small", (300, 200)), ("large", (432, 243))])
async def test_thumbs_are_small_jpegs(
    simulator: Simulator, session: ClientSession, name: str, size: tuple[int, int]
) -> None:
    async with session.get(f"{simulator.api_url}/search") as response:
        item = (await response.json())["data"][0]
    async with session.get(item["thumbs"][name]) as response:
        assert response.content_type == "image/jpeg"
        with Image.open(BytesIO(await response.read())) as image:
            assert image.size == size


async def test_the_original_thumb_keeps_the_ratio(
    simulator: Simulator, session: ClientSession
) -> None:
    wallpaper = next(item for item in simulator.catalogue if item.ratio != "1")
    url = f"{simulator.url}/orig/{wallpaper.id[:2]}/{wallpaper.id}.jpg"
    async with session.get(url) as response, session.get(url.replace("/orig/", "/no/")) as none:
        with Image.open(BytesIO(await response.read())) as image:
            assert max(image.size) == 300
            ratio = wallpaper.dimension_x / wallpaper.dimension_y
            assert image.width / image.height == pytest.approx(ratio, rel=0.02)
        assert none.status == 404


async def test_throttled_bodies_take_their_time_on_each_connection(
    session: ClientSession,
) -> None:
    rate = 4_000_000
    options = SimulatorOptions(wallpapers=200, image_bytes_per_second=rate)
    async with open_simulator(options) as simulator:
        wallpaper = min(simulator.catalogue, key=lambda item: abs(item.file_size - rate // 4))

        async def fetch() -> bytes:
            async with session.get(simulator.image_url(wallpaper)) as response:
                return await response.read()

        simulator.catalogue.load(wallpaper)
        started = time.monotonic()
        bodies = await asyncio.gather(fetch(), fetch(), fetch())
        seconds = time.monotonic() - started
    expected = wallpaper.file_size / rate
    assert expected <= seconds < expected * 2.5  # one after the other would be three times
    assert {hashlib.sha256(body).hexdigest() for body in bodies} == {
        simulator.catalogue.sha256(wallpaper)
    }


async def test_latency_comes_before_the_answer(session: ClientSession) -> None:
    options = SimulatorOptions(wallpapers=3, latency_seconds=0.15, image_latency_seconds=0.25)
    async with open_simulator(options) as simulator:
        await asyncio.to_thread(simulator.catalogue.load, simulator.catalogue[0])
        for url, expected in (
            (f"{simulator.api_url}/search", 0.15),
            (simulator.image_url(simulator.catalogue[0]), 0.25),
        ):
            started = time.monotonic()
            async with session.get(url):
                assert time.monotonic() - started >= expected


async def test_a_hook_may_answer_in_place_of_the_host(session: ClientSession) -> None:
    async def second_is_gone(
        request: web.Request, wallpaper: Wallpaper
    ) -> web.StreamResponse | None:
        return web.Response(status=503, text="out") if wallpaper.index == 1 else None

    hooks = Hooks(image=second_is_gone)
    async with open_simulator(SimulatorOptions(wallpapers=3), hooks) as simulator:
        statuses = []
        for wallpaper in simulator.catalogue:
            async with session.get(simulator.image_url(wallpaper)) as response:
                statuses.append(response.status)
    assert statuses == [200, 503, 200]


async def test_a_hook_may_cut_a_body(session: ClientSession) -> None:
    async def cut(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(wallpaper.file_size)})
        await response.prepare(request)
        await response.write(b"x" * 1_000)
        assert request.transport is not None
        request.transport.close()
        return response

    async with (
        open_simulator(SimulatorOptions(wallpapers=3), Hooks(image=cut)) as simulator,
        session.get(simulator.image_url(simulator.catalogue[0])) as response,
    ):
        with pytest.raises(ClientPayloadError):
            await response.read()


async def test_an_image_is_drawn_once_for_all_waiting_requests(
    simulator: Simulator, session: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Shape] = []

    def count(artwork: Artwork, shape: Shape) -> bytes:
        drawn.append(shape)
        return draw(artwork, shape)

    monkeypatch.setattr("collector.simulator.stock.draw", count)
    wallpaper = simulator.catalogue[0]

    async def fetch() -> int:
        async with session.get(simulator.image_url(wallpaper)) as response:
            return len(await response.read())

    sizes = await asyncio.gather(*(fetch() for _ in range(6)))
    assert sizes == [wallpaper.file_size] * 6
    assert len(drawn) == 1
