"""Check addresses: those in the settings, and those that images may be fetched from.

Errors never quote an address from the settings: it may contain a password.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urljoin, urlsplit

from collector.core.errors import Code, Fault, ItemError

POSTGRES_PREFIXES = ("postgresql://", "postgres://")
_HTTPS_PORT = 443
# RFC 9110, section 15.4: the statuses that repeat the same GET at another address.
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Python's registry lacks these, or lacks them in older versions: the prefix of a local translator
# (RFC 8215), site-local addresses (RFC 3879), and two old forms of IPv4 (RFC 4291, RFC 2765).
_NOT_PUBLIC = tuple(
    map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10", "::/96", "::ffff:0:0:0/96"))
)
# RFC 6052: IPv4 addresses, reached through a translator.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Resolvers read these as IPv4 addresses without dots (inet_aton): 134744072 is 8.8.8.8.
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.IGNORECASE)


def is_unambiguous_dsn(text: str) -> bool:
    """Return whether user, password and hosts of a Postgres address can be told apart.

    The form is postgresql://user:password@host:port,host:port/database?options. A password that
    cannot be told apart from the rest cannot be kept out of the logs.
    """
    try:
        parts = urlsplit(text)
        _hosts(parts)
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

    Both may also come from the query. An empty host, or a path, is a socket of this machine.
    """
    parts = urlsplit(dsn)
    options = dict(parse_qsl(parts.query))
    names = _hosts(parts)
    if names == [""]:
        names = options.get("host", "").split(",")
    return unquote(_login(parts).partition(":")[2]) or options.get("password", ""), names


def split_address(text: str) -> SplitResult:
    """Return the parts of an address; raises ValueError, which does not quote the address."""
    try:
        address = urlsplit(text)
        _ = address.port
    except ValueError:  # its text would quote the address
        raise ValueError("must be an address such as http://minio:9000") from None
    return address


def _login(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[0]


def _hosts(parts: SplitResult) -> list[str]:
    return [_host(text) for text in parts.netloc.rpartition("@")[2].split(",")]


def _host(text: str) -> str:
    """Return the host of `host` or `host:port`; raises ValueError for anything else."""
    parts = urlsplit(f"//{text}")
    host = parts.hostname or ""
    if text.lower() != _host_and_port(host, parts.port).lower():
        raise ValueError("no host, or no port")
    return host


def _host_and_port(host: str, port: int | None) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port is None else f"{host}:{port}"


def is_local_name(host: str | None, *, loopback_only: bool = False) -> bool:
    """Return whether plain http to `host` is allowed.

    Allowed are loopback and, for compose services, names without a dot.
    """
    if not host:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_name = "." not in host and not _NUMBER.fullmatch(host)
        return host == "localhost" or (not loopback_only and is_name)


def require_allowed(url: str, hosts: frozenset[str]) -> None:
    """Raise ItemError(host_refused, permanent) unless images may be fetched from `url`.

    Allowed: https on port 443 of a listed host, or http to a listed `host:port` (or `host`) that
    is loopback or has no dot. An address with a user is never allowed.
    """
    if problem := _problem(url, hosts):
        raise ItemError(Code.HOST_REFUSED, problem, fault=Fault.PERMANENT)


def redirect_target(
    url: str, status: int, headers: Mapping[str, str], hosts: frozenset[str]
) -> str | None:
    """Return the address that an answer redirects to, None if it is not a redirect.

    Raises ItemError(redirect_refused, permanent) if images may not be fetched from there.
    """
    location = headers.get("Location")
    if status not in _REDIRECTS or location is None:
        return None
    try:
        target = urljoin(url, location)
    except ValueError:
        problem: str | None = "the address cannot be parsed"
    else:
        problem = _problem(target, hosts)
    if problem:
        raise ItemError(Code.REDIRECT_REFUSED, problem, fault=Fault.PERMANENT)
    return target


def is_public_name(host: str) -> bool:
    """Return whether `host` is a name of the public internet: with a dot, and not an IP address."""
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return "." in host
    return False


def is_public_address(text: str) -> bool:
    """Return whether an IP address is public; an IPv4 address in IPv6 form counts as IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        address = _unwrapped(address)
    is_excluded = any(address in network for network in _NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not is_excluded


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
        return "the address cannot be parsed"
    if address.username is not None or address.password is not None or not address.hostname:
        return "the address has a user, or no host"
    if _is_listed(address, port, hosts):
        return None
    host = address.hostname[:100] if port is None else f"{address.hostname[:100]}:{port}"
    return f"{address.scheme}://{host} is not in WALLHAVEN_IMAGE_HOSTS"


def _is_listed(address: SplitResult, port: int | None, hosts: frozenset[str]) -> bool:
    host = address.hostname or ""
    if address.scheme == "https":
        return port in (None, _HTTPS_PORT) and _host_and_port(host, None) in hosts
    is_local_http = address.scheme == "http" and is_local_name(host)
    return is_local_http and _host_and_port(host, port) in hosts
