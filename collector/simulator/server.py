"""Serves API and image host on one port, and orders the checks that a request passes."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from collector.simulator import answers
from collector.simulator.admission import NUMBER, Outages, RateLimit
from collector.simulator.api import Api
from collector.simulator.catalogue import Catalogue, Inventory
from collector.simulator.images import ImageHost
from collector.simulator.journal import Journal
from collector.simulator.options import Hooks, SimulatorOptions
from collector.simulator.population import Wallpaper

_API_PATH = "/api/v1"
# How long a request may go on at the end before its connection is closed.
_SHUTDOWN_SECONDS = 0.2

_DEFAULT_OPTIONS = SimulatorOptions()
_NO_HOOKS = Hooks()


@dataclass(frozen=True, slots=True)
class Simulator:
    """A running simulator: its address, its wallpapers, and its record of requests."""

    url: str
    catalogue: Catalogue
    inventory: Inventory
    journal: Journal

    @property
    def api_url(self) -> str:
        """The address of the API, without a trailing slash."""
        return self.url + _API_PATH

    @property
    def image_host(self) -> str:
        """The `host:port` of images and thumbs."""
        return self.url.removeprefix("http://")

    def image_url(self, wallpaper: Wallpaper) -> str:
        """Return the address of the full image, which listings call `path`."""
        return self.url + wallpaper.image_path


def _utc_now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def open_simulator(
    options: SimulatorOptions = _DEFAULT_OPTIONS,
    hooks: Hooks = _NO_HOOKS,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = _utc_now,
) -> AsyncIterator[Simulator]:
    """Serve a simulated Wallhaven, by default on loopback.

    It answers as soon as the context is entered. Leaving the context, also by an error or a
    cancellation, stops it within half a second and leaves no task and no socket; unfinished answers
    are cut off. `clock` counts seconds for rate limit and journal; `now` is for X-RateLimit-Reset
    and for a Retry-After that is a date.

    Raises OSError if the port is taken or the host is not this machine, and EmptyFolderError if
    the folder has no image.
    """
    catalogue = await anyio.to_thread.run_sync(_open_catalogue, options)
    with socket.create_server((options.host, options.port)) as listener:
        inventory = Inventory(catalogue, options.profile.drift, options.seed)
        url = f"http://{options.host}:{listener.getsockname()[1]}"
        simulator = Simulator(url, catalogue, inventory, Journal(clock))
        application = web.Application(middlewares=[simulator.journal.record])
        api = web.Application(middlewares=_api_middlewares(options, inventory, clock, now))
        api.add_routes(Api(catalogue, inventory, options, hooks, url).routes())
        application.add_subapp(_API_PATH, api)
        application.add_routes(ImageHost(catalogue, inventory, options, hooks).routes())
        application.on_response_prepare.append(_add_server_header)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        try:
            await runner.setup()
            await web.SockSite(runner, listener).start()
            yield simulator
        finally:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()


def _open_catalogue(options: SimulatorOptions) -> Catalogue:
    catalogue = Catalogue(options)
    _ = catalogue.columns  # computed here, so that the first search is fast
    return catalogue


def _api_middlewares(
    options: SimulatorOptions,
    inventory: Inventory,
    clock: Callable[[], float],
    now: Callable[[], datetime],
) -> list[Middleware]:
    """Return the middlewares that each API request passes, outermost first."""
    return [
        _arrival(options.latency_seconds, inventory),
        Outages(options.profile.outages).intercept,
        RateLimit(options.limit, clock, now).restrict,
        _with_json_errors,
    ]


def _arrival(latency_seconds: float, inventory: Inventory) -> Middleware:
    """Return the middleware that delays and numbers requests, and lets wallpapers come and go."""
    numbers = count(1)

    @web.middleware
    async def arrive(request: web.Request, handler: Handler) -> web.StreamResponse:
        if latency_seconds:
            await anyio.sleep(latency_seconds)
        request[NUMBER] = number = next(numbers)
        inventory.advance(number)
        return await handler(request)

    return arrive


@web.middleware
async def _with_json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return answers.error(404, "Not Found")
    except web.HTTPMethodNotAllowed:
        return answers.error(405)


async def _add_server_header(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "cloudflare"
