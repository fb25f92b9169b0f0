"""Which addresses images may be fetched from."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from collector.core.errors import Code, Fault, ItemError

_HTTPS_PORT = 443
# Resolvers read these as IPv4 addresses without dots (inet_aton): 134744072 is 8.8.8.8.
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.IGNORECASE)


def is_local_name(host: str | None, *, loopback_only: bool = False) -> bool:
    """Say whether plain http may go to `host`: loopback, or (compose) a name without a dot."""
    if not host:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_name = "." not in host and not _NUMBER.fullmatch(host)
        return host == "localhost" or (not loopback_only and is_name)


def require_allowed(url: str, hosts: frozenset[str]) -> None:
    """Raise ItemError(host_refused, permanent) unless `url` is one of ours to fetch.

    Allowed: https on port 443 of a listed host, or http to a listed `host:port` (or `host`) that
    is loopback or has no dot. Never an address with a user in it.
    """
    problem = _problem(url, hosts)
    if problem:
        raise ItemError(Code.HOST_REFUSED, problem, fault=Fault.PERMANENT)


def _problem(url: str, hosts: frozenset[str]) -> str | None:
    try:
        address = urlsplit(url)
        port = address.port
    except ValueError:
        return "the address cannot be read"
    if address.username is not None or address.password is not None or not address.hostname:
        return "the address has a user, or no host"
    if _is_listed(address, port, hosts):
        return None
    return f"{address.scheme}://{address.hostname[:100]} is not in WALLHAVEN_IMAGE_HOSTS"


def _is_listed(address: SplitResult, port: int | None, hosts: frozenset[str]) -> bool:
    host = address.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    if address.scheme == "https":
        return port in (None, _HTTPS_PORT) and shown in hosts
    if address.scheme != "http" or not is_local_name(host):
        return False
    return (shown if port is None else f"{shown}:{port}") in hosts
