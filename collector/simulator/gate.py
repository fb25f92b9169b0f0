"""What every API request passes first: latency, the firewall, outages and the rate limit."""

from __future__ import annotations

from itertools import count

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from collector.simulator import replies
from collector.simulator.callers import NUMBER
from collector.simulator.inventory import Inventory
from collector.simulator.outages import Outages
from collector.simulator.rate_limit import RateLimit

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
            return replies.too_many_requests(limit.refusal_headers(grant))
        response = await _shaped(request, handler)
        response.headers.update(limit.headers(grant))
        return response

    return pass_gate


def _stopped(request: web.Request, number: int, outages: Outages) -> web.Response | None:
    if request.raw_path.partition("?")[2].lower().startswith(_CHALLENGED_QUERY):
        return replies.challenge()
    return outages.answer(request, number)


async def _shaped(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with the API's own errors where no route or method fits."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return replies.not_found()
    except web.HTTPMethodNotAllowed:
        return replies.error(405, "Method Not Allowed")
