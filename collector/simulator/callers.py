"""Who asks: told by the API key."""

from __future__ import annotations

from enum import Enum

from aiohttp import web

from collector.simulator.options import SimulatorOptions
from collector.simulator.profile import EVERY_KEY

# The number of a request of the API: 1 for the first one that arrives, whatever its answer.
NUMBER = web.RequestKey("number", int)


class Caller(Enum):
    """Nobody in particular, the holder of a valid key, or one whose key is not valid."""

    ANONYMOUS = "anonymous"
    KEYED = "keyed"
    REFUSED = "refused"


def key_of(request: web.Request) -> str | None:
    """Return the API key that a request carries, in its header or its address."""
    return request.headers.get("X-API-Key") or request.query.get("apikey") or None


class Callers:
    """Tells callers apart, by the keys that are valid."""

    def __init__(self, options: SimulatorOptions) -> None:
        account = options.profile.account
        self._keys = options.api_keys | set(account.keys)
        self._refused_from = account.refused_from_request

    def caller_of(self, request: web.Request) -> Caller:
        """Return who asks."""
        key = key_of(request)
        if key is None:
            return Caller.ANONYMOUS
        revoked = 0 < self._refused_from <= request[NUMBER]
        valid = key in self._keys or EVERY_KEY in self._keys
        return Caller.KEYED if valid and not revoked else Caller.REFUSED
