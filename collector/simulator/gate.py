"""What every API request passes first: latency, the firewall and the rate limit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from collector.simulator import replies
from collector.simulator.limiter import FixedWindow, Grant

# A query that begins like this, in any case, meets the firewall's challenge; q elsewhere not.
_CHALLENGED_QUERY = "q=like"


def gate(
    latency_seconds: float, limiter: FixedWindow | None, now: Callable[[], datetime]
) -> Middleware:
    """Return the middleware of the API. Without a limiter no limit and no headers of it."""

    @web.middleware
    async def pass_gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if latency_seconds:
            await anyio.sleep(latency_seconds)
        if request.raw_path.partition("?")[2].lower().startswith(_CHALLENGED_QUERY):
            return replies.challenge()
        if limiter is None:
            return await _shaped(request, handler)
        grant = limiter.ask(request.remote or "")
        if not grant.allowed:
            return replies.too_many_requests(_refusal_headers(grant, now()))
        response = await _shaped(request, handler)
        response.headers.update(_limit_headers(grant))
        return response

    return pass_gate


async def _shaped(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with the API's own errors where no route or method fits."""
    try:
        return await handler(request)
    except web.HTTPNotFound:
        return replies.not_found()
    except web.HTTPMethodNotAllowed:
        return replies.error(405, "Method Not Allowed")


def _limit_headers(grant: Grant) -> dict[str, str]:
    return {
        "X-RateLimit-Limit": str(grant.limit),
        "X-RateLimit-Remaining": str(grant.remaining),
    }


def _refusal_headers(grant: Grant, now: datetime) -> dict[str, str]:
    return _limit_headers(grant) | {
        "Retry-After": str(grant.retry_after_seconds),
        "X-RateLimit-Reset": str(int(now.timestamp()) + grant.retry_after_seconds),
    }
