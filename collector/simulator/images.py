"""The image host: full images, streamed without copies, and thumbs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from io import BytesIO

import anyio
from aiohttp import web
from anyio import CapacityLimiter, to_thread
from PIL import Image, ImageOps

from collector.simulator import answers
from collector.simulator.catalogue import Catalogue, Inventory
from collector.simulator.options import Hooks, SimulatorOptions
from collector.simulator.padding import JPEG, Split
from collector.simulator.population import Wallpaper

# Images drawn or read at once. With one, no image is drawn twice, and waiting requests are tasks
# that hold no thread.
_MAX_DRAWING = 1
# How many pieces of a throttled body are sent per second.
_PIECES_PER_SECOND = 20
_MIN_PIECE_BYTES = 512

_CACHE_CONTROL = "public, max-age=2592000"

# Sizes in pixels by folder of the image host, as on the real site. `orig` is not cropped: it keeps
# the ratio within a square.
_CROPS = {"small": (300, 200), "lg": (432, 243)}
_ORIGINAL_RATIO = (300, 300)
_THUMB_QUALITY = 80


class ImageHost:
    """Serves the images and thumbs of existing wallpapers."""

    def __init__(
        self,
        catalogue: Catalogue,
        inventory: Inventory,
        options: SimulatorOptions,
        hooks: Hooks,
    ) -> None:
        self._catalogue = catalogue
        self._inventory = inventory
        self._options = options
        self._hook = hooks.image
        self._drawing = CapacityLimiter(_MAX_DRAWING)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(r"/full/{shard}/wallhaven-{id:[0-9a-z]+}.{extension:[a-z]+}", self.full),
            web.get(r"/{folder:lg|orig|small}/{shard}/{id:[0-9a-z]+}.jpg", self.thumb),
        ]

    async def full(self, request: web.Request) -> web.StreamResponse:
        """Serve a full image; 404 unless shard, id and extension fit together."""
        await anyio.sleep(self._options.image_latency_seconds)
        wallpaper = self._inventory.find_image(request.match_info["id"])
        if wallpaper is None or request.path != wallpaper.image_path:
            return answers.missing_file()
        if self._hook is not None:
            response = await self._hook(request, wallpaper)
            if response is not None:
                return response
        return await self._serve(request, wallpaper)

    async def thumb(self, request: web.Request) -> web.StreamResponse:
        await anyio.sleep(self._options.image_latency_seconds)
        wallpaper = self._inventory.find_image(request.match_info["id"])
        if wallpaper is None or request.match_info["shard"] != wallpaper.id[:2]:
            return answers.missing_file()
        split, size = await self._split(wallpaper), _CROPS.get(request.match_info["folder"])
        body = await to_thread.run_sync(_thumb, split, size, limiter=self._drawing)
        return web.Response(body=body, content_type=JPEG, headers={"Cache-Control": _CACHE_CONTROL})

    async def _serve(self, request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
        response = web.StreamResponse(headers=_headers(wallpaper))
        split = await self._split(wallpaper)
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        async for piece in self._paced(self._catalogue.padded(wallpaper, split)):
            await response.write(piece)
        await response.write_eof()
        return response

    async def _split(self, wallpaper: Wallpaper) -> Split:
        split = self._catalogue.ready(wallpaper)
        if split is not None:
            return split
        return await to_thread.run_sync(self._catalogue.load, wallpaper, limiter=self._drawing)

    async def _paced(
        self, chunks: Iterator[bytes | memoryview]
    ) -> AsyncIterator[bytes | memoryview]:
        """Yield the chunks; with a rate limit, in small pieces, each at its time."""
        rate = self._options.image_bytes_per_second
        if not rate:
            for chunk in chunks:
                yield chunk
            return
        started, sent = time.monotonic(), 0
        step = max(rate // _PIECES_PER_SECOND, _MIN_PIECE_BYTES)
        for chunk in chunks:
            for start in range(0, len(chunk), step):
                piece = chunk[start : start + step]
                sent += len(piece)
                await anyio.sleep(max(0.0, started + sent / rate - time.monotonic()))
                yield piece


def _headers(wallpaper: Wallpaper) -> dict[str, str]:
    return {
        "Content-Type": wallpaper.file_type,
        "Content-Length": str(wallpaper.file_size),
        "ETag": f'"{wallpaper.id}-{wallpaper.file_size:x}"',
        "Cache-Control": _CACHE_CONTROL,
        "Access-Control-Allow-Origin": "*",
    }


def _thumb(split: Split, size: tuple[int, int] | None) -> bytes:
    """Return a small JPEG file: cropped to `size`, or in the ratio of the original.

    Decodes the original: call it in a worker thread. Raises OSError if the original is broken.
    """
    with Image.open(BytesIO(split.head + split.tail)) as original:
        original.draft("RGB", size or _ORIGINAL_RATIO)
        image = original.convert("RGB")
    if size is not None:
        image = ImageOps.fit(image, size)
    image.thumbnail(size or _ORIGINAL_RATIO)
    file = BytesIO()
    image.save(file, "JPEG", quality=_THUMB_QUALITY)
    return file.getvalue()
