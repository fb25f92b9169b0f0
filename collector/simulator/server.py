"""Puts API and image host on one port."""

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
from anyio import CancelScope, to_thread

from collector.simulator import answers
from collector.simulator.api import Api
from collector.simulator.catalogue import Catalogue
from collector.simulator.images import ImageHost
from collector.simulator.inventory import Inventory
from collector.simulator.journal import Journal
from collector.simulator.limits import NUMBER, RateLimit
from collector.simulator.options import Hooks, SimulatorOptions
from collector.simulator.outages import Outages
from collector.simulator.population import Wallpaper

_API_PATH = "/api/v1"
# What a request in progress gets at the end before its connection is cut.
_SHUTDOWN_SECONDS = 0.2

_DEFAULT_OPTIONS = SimulatorOptions()
_NO_HOOKS = Hooks()


@dataclass(frozen=True, slots=True)
class Simulator:
    """A Wallhaven that is being served."""

    url: str
    catalogue: Catalogue
    inventory: Inventory
    journal: Journal

    @property
    def api_url(self) -> str:
        """Where the API is, without a slash at the end."""
        return self.url + _API_PATH

    @property
    def image_host(self) -> str:
        """The `host:port` of pictures and thumbs."""
        return self.url.removeprefix("http://")

    def image_url(self, wallpaper: Wallpaper) -> str:
        """Return where the full picture is: the `path` of the listing."""
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
    """Serve a simulated Wallhaven, on loopback unless told otherwise: API and pictures on one port.

    It answers when the context is entered. Leaving it, on whatever way, stops it within half a
    second and leaves no task and no socket behind; answers under way are cut off.
    `clock` counts seconds for rate limit, profile and journal; `now` is for X-RateLimit-Reset and
    for a Retry-After that is a date.

    Raises OSError if the port is taken or the host is not this machine, and EmptyFolderError if
    the folder has no picture.
    """
    catalogue = await to_thread.run_sync(_open_catalogue, options)
    with socket.create_server((options.host, options.port)) as listener:
        port = listener.getsockname()[1]
        inventory = Inventory(catalogue, options.profile.drift, options.seed, clock)
        url = f"http://{options.host}:{port}"
        simulator = Simulator(url, catalogue, inventory, Journal(clock))
        limit = RateLimit(options.limit, clock, now) if options.limit.requests else None
        outages = Outages(options.profile.outages, clock)
        api_gate = gate(options.latency_seconds, outages, limit, inventory)
        application = _application(simulator, options, hooks, api_gate)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
        try:
            await runner.setup()
            await web.SockSite(runner, listener).start()
            yield simulator
        finally:
            with CancelScope(shield=True):
                await runner.cleanup()


def _open_catalogue(options: SimulatorOptions) -> Catalogue:
    catalogue = Catalogue(options)
    _ = catalogue.columns  # so that the first search is as fast as the second
    return catalogue


def _application(
    simulator: Simulator, options: SimulatorOptions, hooks: Hooks, api_gate: Middleware
) -> web.Application:
    catalogue, inventory = simulator.catalogue, simulator.inventory
    api = web.Application(middlewares=[api_gate])
    api.add_routes(Api(catalogue, inventory, options, hooks, simulator.url).routes())
    application = web.Application(middlewares=[_keep(simulator.journal)])
    application.add_subapp(_API_PATH, api)
    application.add_routes(ImageHost(catalogue, inventory, options, hooks).routes())
    application.on_response_prepare.append(_behind_cloudflare)
    return application


# What nginx logs for it; nobody ever sees this status.
_CLIENT_LEFT = 499


def _keep(journal: Journal) -> Middleware:
    """Return the middleware that writes the journal."""

    @web.middleware
    async def keep_journal(request: web.Request, handler: Handler) -> web.StreamResponse:
        with journal.attend(request) as visit:
            try:
                response = await handler(request)
            except web.HTTPException:
                response = answers.missing_file()
            except ConnectionResetError:
                # The client left in the middle, as clients do: nobody is there to be answered.
                return web.Response(status=_CLIENT_LEFT)
            visit.status = response.status
            if isinstance(response, web.Response) and isinstance(response.body, bytes):
                visit.bytes_sent += len(response.body)
            visit.completed = True
            return response

    return keep_journal


async def _behind_cloudflare(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "cloudflare"


# A query that begins like this, in any case, meets the firewall's challenge; q elsewhere not.
_CHALLENGED_QUERY = "q=like"


def gate(
    latency_seconds: float, outages: Outages, limit: RateLimit | None, inventory: Inventory
) -> Middleware:
    """Return the middleware of the API. Without a limit no refusals and no headers of it.

    Numbers requests in order of arrival, refused ones too, and moves the inventory on with them.
    """
    numbers = count(1)

    @web.middleware
    async def pass_gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if latency_seconds:
            await anyio.sleep(latency_seconds)
        request[NUMBER] = number = next(numbers)
        inventory.advance(number)
        stopped = _stopped(request, number, outages)
        if stopped is not None:
            return stopped
        if limit is None:
            return await _shaped(request, handler)
        grant = limit.ask(request)
        if not grant.allowed:
            return answers.too_many_requests(limit.refusal_headers(grant))
        response = await _shaped(request, handler)
        response.headers.update(limit.headers(grant))
        return response

    return pass_gate


def _stopped(request: web.Request, number: int, outages: Outages) -> web.Response | None:
    if request.raw_path.partition("?")[2].lower().startswith(_CHALLENGED_QUERY):
        return answers.challenge()
    return outages.answer(request, number)


async def _shaped(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with the API's own errors where no route or method fits."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return answers.not_found()
    except web.HTTPMethodNotAllowed:
        return answers.error(405, "Method Not Allowed")
