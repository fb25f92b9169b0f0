"""Public host names may only resolve to public addresses; and what network errors mean.

The server that resolves a name, a captive portal or an attacker, could otherwise direct requests
into the local network. All addresses of an answer count: any of them may be the one that is used.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from collector.core.addresses import is_public_address, is_public_name
from collector.core.errors import Code, Fault, ItemError
from collector.logs import connect_problem


class PrivateAddress(OSError):
    """A public name resolves to an address that is not public."""


def require_public(host: str, addresses: Iterable[str]) -> None:
    """Raise PrivateAddress if `host` is a public name and one of `addresses` is not public."""
    if is_public_name(host) and not all(map(is_public_address, addresses)):
        raise PrivateAddress(f"{host} resolves to an address that is not public")


class PublicResolver(AbstractResolver):
    """aiohttp's resolver, with `require_public`."""

    def __init__(self) -> None:
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of `host`. Raises OSError."""
        found = await self._resolver.resolve(host, port, family)
        require_public(host, (result["host"] for result in found))
        return found

    async def close(self) -> None:
        await self._resolver.close()


def describe(error: BaseException) -> str:
    """Return the kind of a network error and its host; never an address with its query."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return _cannot_connect(error.host, error.port, error.os_error)
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__


def source_error(error: BaseException) -> ItemError:
    """Return why an image did not arrive: systemic if no connection could be made."""
    unreachable = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    fault = Fault.SYSTEMIC if unreachable else Fault.TRANSIENT
    return ItemError(Code.SOURCE_ERROR, describe(error), fault=fault)


def connect_error(host: str, port: int, error: Exception) -> ItemError:
    """Return why the fast client could not connect."""
    timed_out = isinstance(error, TimeoutError)
    problem = "no answer in time" if timed_out else _cannot_connect(host, port, error)
    return ItemError(Code.SOURCE_ERROR, problem, fault=Fault.SYSTEMIC)


def _cannot_connect(host: str, port: int | None, error: Exception) -> str:
    reason = connect_problem(error)
    if isinstance(error, PrivateAddress):
        reason = "the name resolves to an address that is not public"
    return f"cannot connect to {host}:{port} ({reason})"
