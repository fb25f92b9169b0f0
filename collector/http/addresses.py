"""Names of the public internet lead to public addresses, or nowhere.

Whoever answers for a name, a captive portal or an attacker, could send us into the network that we
stand in. All addresses of an answer count: which one is tried is not ours to say.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from collector.core.addresses import is_public_address, is_public_name
from collector.core.errors import Code, Fault, ItemError


class PrivateAddress(OSError):
    """A public name was answered for with an address that is not."""


def require_public(host: str, addresses: Iterable[str]) -> None:
    """Raise PrivateAddress where a public name leads to an address that is not public."""
    if is_public_name(host) and not all(map(is_public_address, addresses)):
        raise PrivateAddress(f"{host} leads to an address that is not public")


class PublicResolver(AbstractResolver):
    """aiohttp's resolver, held to `require_public`."""

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
        """Close the resolver."""
        await self._resolver.close()


def describe(error: BaseException) -> str:
    """Return the kind of a network error and its host; never an address with its query."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _unreached(error.host, error.port, error.os_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unreached(error.host, error.port, error.os_error)
    return "no answer in time" if isinstance(error, TimeoutError) else type(error).__name__


def source_error(error: BaseException) -> ItemError:
    """Return why an image did not come: systemic where no connection could be made."""
    unreachable = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    fault = Fault.SYSTEMIC if unreachable else Fault.TRANSIENT
    return ItemError(Code.SOURCE_ERROR, describe(error), fault=fault)


def unreached_source(host: str, port: int, error: Exception) -> ItemError:
    """Return the same for a connection of our own."""
    problem = (
        "no answer in time" if isinstance(error, TimeoutError) else _unreached(host, port, error)
    )
    return ItemError(Code.SOURCE_ERROR, problem, fault=Fault.SYSTEMIC)


def _unreached(host: str, port: int | None, error: Exception) -> str:
    unknown = isinstance(error, socket.gaierror)
    reason = "the name is not known here" if unknown else type(error).__name__
    if isinstance(error, PrivateAddress):
        reason = "the name leads to an address that is not public"
    return f"cannot connect to {host}:{port} ({reason})"
