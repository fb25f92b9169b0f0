"""Addresses that people write into settings. No error repeats one: it may hold a password."""

from __future__ import annotations

from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

POSTGRES_PREFIXES = ("postgresql://", "postgres://")


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
