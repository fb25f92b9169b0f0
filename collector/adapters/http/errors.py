"""Errors of the network as ours: whose fault it is that nothing came."""

from __future__ import annotations

import socket

import aiohttp

from collector.adapters.http.addresses import PrivateAddress
from collector.core.errors import Code, Fault, ItemError


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
