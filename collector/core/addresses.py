"""Addresses: those in settings, and those that images may be fetched from.

No error repeats an address of a setting: it may hold a password.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urljoin, urlsplit

from collector.core.errors import Code, Fault, ItemError

POSTGRES_PREFIXES = ("postgresql://", "postgres://")
_HTTPS_PORT = 443
# Of RFC 9110, section 15.4: those that name another place for the same GET.
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What Python's registry leaves out, or has only since some version: a local translator's prefix
# (RFC 8215), site-local addresses (RFC 3879), and two old forms of IPv4 (RFC 4291, RFC 2765).
_NOT_PUBLIC = tuple(
    map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10", "::/96", "::ffff:0:0:0/96"))
)
# RFC 6052: IPv4 addresses behind a translator.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Resolvers read these as IPv4 addresses without dots (inet_aton): 134744072 is 8.8.8.8.
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.IGNORECASE)


def is_unambiguous_dsn(text: str) -> bool:
    """Say whether user, password and hosts of a Postgres address can be told apart.

    That is postgresql://user:password@host:port,host:port/database?options with nothing ambiguous
    in it: what cannot be told apart cannot be kept out of the logs either.
    """
    try:
        parts = urlsplit(text)
        for place in _places(parts):
            _host(place)
    except ValueError:
        return False
    login = _login(parts)
    return (
        text.startswith(POSTGRES_PREFIXES)
        and login.count(":") <= 1
        and "@" not in login + parts.path + parts.query
        and "/" not in parts.path[1:]
        and "#" not in text
    )


def password_and_hosts(dsn: str) -> tuple[str, list[str]]:
    """Return the password of an unambiguous Postgres address, and its hosts without ports.

    Either may stand in the query; a host that is empty, or a folder, is a socket of this machine.
    """
    parts = urlsplit(dsn)
    options = dict(parse_qsl(parts.query))
    names = [_host(place) for place in _places(parts)]
    if names == [""]:
        names = options.get("host", "").split(",")
    return unquote(_login(parts).partition(":")[2]) or options.get("password", ""), names


def split_address(text: str) -> SplitResult:
    """Return the parts of an address; raises ValueError, without the text, where it has none."""
    try:
        address = urlsplit(text)
        _ = address.port
    except ValueError:  # whose text would repeat what was given
        raise ValueError("must be an address such as http://minio:9000") from None
    return address


def _login(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[0]


def _places(parts: SplitResult) -> list[str]:
    return parts.netloc.rpartition("@")[2].split(",")


def _host(place: str) -> str:
    """Return the host of `host` or `host:port`; raises ValueError for anything else."""
    parts = urlsplit(f"//{place}")
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    if place.lower() != (shown if parts.port is None else f"{shown}:{parts.port}").lower():
        raise ValueError("no host, or no port")
    return host


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


def redirect_target(
    url: str, status: int, headers: Mapping[str, str], hosts: frozenset[str]
) -> str | None:
    """Return where an answer sends us on to, None where it is none that does.

    Raises ItemError(redirect_refused, permanent) where that is not one of ours to fetch.
    """
    location = headers.get("Location")
    if status not in _REDIRECTS or location is None:
        return None
    try:
        target = urljoin(url, location)
    except ValueError:
        problem: str | None = "the address cannot be read"
    else:
        problem = _problem(target, hosts)
    if problem:
        raise ItemError(Code.REDIRECT_REFUSED, problem, fault=Fault.PERMANENT)
    return target


def is_public_name(host: str) -> bool:
    """Say whether `host` is a name of the public internet: it has a dot, and is no address."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return "." in host
    return False


def is_public_address(text: str) -> bool:
    """Say whether an address is one of the public internet, also in the IPv6 forms of IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = _unwrapped(address)
    within = any(address.version == net.version and address in net for net in _NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not within


def _unwrapped(
    address: ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    if address in _NAT64:
        return ipaddress.IPv4Address(address.packed[-4:])
    teredo = address.teredo[1] if address.teredo else None
    return address.ipv4_mapped or address.sixtofour or teredo or address


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
    asked = address.hostname[:100] if port is None else f"{address.hostname[:100]}:{port}"
    return f"{address.scheme}://{asked} is not in WALLHAVEN_IMAGE_HOSTS"


def _is_listed(address: SplitResult, port: int | None, hosts: frozenset[str]) -> bool:
    host = address.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    if address.scheme == "https":
        return port in (None, _HTTPS_PORT) and shown in hosts
    if address.scheme != "http" or not is_local_name(host):
        return False
    return (shown if port is None else f"{shown}:{port}") in hosts
