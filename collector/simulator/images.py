"""The image host: full pictures, streamed without copies, and thumbs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from io import BytesIO

import anyio
from aiohttp import web
from anyio import CapacityLimiter, to_thread
from PIL import Image, ImageOps

from collector.simulator import answers
from collector.simulator.catalogue import Catalogue
from collector.simulator.inventory import Inventory
from collector.simulator.journal import VISIT
from collector.simulator.options import Hooks, SimulatorOptions
from collector.simulator.padding import JPEG, Split
from collector.simulator.population import Wallpaper

# Folder on the image host and size in pixels, as the real site's: two crops, and one that
# keeps the ratio within a square.
CROPS = {"small": (300, 200), "lg": (432, 243)}
_ORIGINAL_RATIO = (300, 300)
_QUALITY = 80


def thumb(split: Split, folder: str) -> bytes:
    """Return the thumb of a picture; decodes the original, so call it in a worker thread.

    Raises OSError if the original cannot be decoded.
    """
    size = CROPS.get(folder)
    with Image.open(BytesIO(split.head + split.tail)) as original:
        original.draft("RGB", size or _ORIGINAL_RATIO)
        picture = original.convert("RGB")
    if size is None:
        picture.thumbnail(_ORIGINAL_RATIO)
    else:
        picture = ImageOps.fit(picture, size)
    file = BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


# Pictures drawn or read at once. One: nothing is drawn twice, and the requests that wait for it
# wait as tasks and hold no thread that someone else may need.
_WORKBENCHES = 1
# A throttled body is sent in pieces this many times a second.
_PIECES_PER_SECOND = 20
_SMALLEST_PIECE_BYTES = 512

_CACHE_CONTROL = "public, max-age=2592000"


class ImageHost:
    """Serves the pictures of what is there."""

    def __init__(
        self,
        catalogue: Catalogue,
        inventory: Inventory,
        options: SimulatorOptions,
        hooks: Hooks,
    ) -> None:
        self._catalogue = catalogue
        self._inventory = inventory
        self._latency_seconds = options.image_latency_seconds
        self._bytes_per_second = options.image_bytes_per_second
        self._hook = hooks.image
        self._workbench = CapacityLimiter(_WORKBENCHES)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of full pictures and thumbs."""
        return [
            web.get(r"/full/{shard}/wallhaven-{id:[0-9a-z]+}.{extension:[a-z]+}", self.full),
            web.get(r"/{folder:lg|orig|small}/{shard}/{id:[0-9a-z]+}.jpg", self.small),
        ]

    async def full(self, request: web.Request) -> web.StreamResponse:
        """Serve a full picture; 404 unless shard, id and extension are those of its path."""
        await anyio.sleep(self._latency_seconds)
        wallpaper = self._inventory.find_picture(request.match_info["id"])
        if wallpaper is None or request.path != wallpaper.image_path:
            return answers.missing_file()
        if self._hook is not None:
            response = await self._hook(request, wallpaper)
            if response is not None:
                return response
        return await self._serve(request, wallpaper)

    async def small(self, request: web.Request) -> web.StreamResponse:
        """Serve a thumb."""
        await anyio.sleep(self._latency_seconds)
        wallpaper = self._inventory.find_picture(request.match_info["id"])
        if wallpaper is None or request.match_info["shard"] != wallpaper.id[:2]:
            return answers.missing_file()
        split = await self._split(wallpaper)
        body = await to_thread.run_sync(
            thumb, split, request.match_info["folder"], limiter=self._workbench
        )
        return web.Response(body=body, content_type=JPEG, headers={"Cache-Control": _CACHE_CONTROL})

    async def _serve(self, request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
        response = web.StreamResponse(headers=_headers(wallpaper))
        split = await self._split(wallpaper)
        await response.prepare(request)
        visit = request[VISIT]
        visit.status = response.status
        if request.method == "HEAD":
            return response
        async for piece in self._paced(self._catalogue.padded(wallpaper, split)):
            await response.write(piece)
            visit.bytes_sent += len(piece)
        await response.write_eof()
        return response

    async def _split(self, wallpaper: Wallpaper) -> Split:
        split = self._catalogue.ready(wallpaper)
        if split is None:
            split = await to_thread.run_sync(
                self._catalogue.load, wallpaper, limiter=self._workbench
            )
        return split

    async def _paced(
        self, chunks: Iterator[bytes | memoryview]
    ) -> AsyncIterator[bytes | memoryview]:
        """Yield the chunks, in small pieces and not before their time if there is a rate."""
        rate = self._bytes_per_second
        if rate is None:
            for chunk in chunks:
                yield chunk
            return
        started, sent = time.monotonic(), 0
        step = max(rate // _PIECES_PER_SECOND, _SMALLEST_PIECE_BYTES)
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
