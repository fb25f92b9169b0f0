"""Addresses that people write into settings. No error repeats one: it may hold a password."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

# postgresql://user:password@host:port,host:port/database?options, nothing ambiguous in it: what
# cannot be told apart cannot be kept out of the logs either.
_POSTGRES = re.compile(
    r"postgres(ql)?://([^/@:?#]*(:[^/@:?#]*)?@)?"
    r"((\[[0-9a-fA-F:]+\]|[^/@:?#,\[\]]*)(:\d{1,5})?,?)*(/[^/@?#]*)?(\?[^@#]*)?"
)
_PORT = re.compile(r":\d+$")


def is_unambiguous_dsn(text: str) -> bool:
    """Say whether user, password and hosts of a Postgres address can be told apart."""
    return _POSTGRES.fullmatch(text) is not None


def password_and_hosts(dsn: str) -> tuple[str, list[str]]:
    """Return the password of an unambiguous Postgres address, and its hosts without ports.

    Either may stand in the query; a host that is empty, or a folder, is a socket of this machine.
    """
    parts = urlsplit(dsn)
    login, _, hosts = parts.netloc.rpartition("@")
    options = dict(parse_qsl(parts.query))
    named = hosts or options.get("host", "")
    names = [_PORT.sub("", host).strip("[]") for host in named.split(",")]
    return unquote(login.partition(":")[2]) or options.get("password", ""), names


def split_address(text: str) -> SplitResult:
    """Return the parts of an address; raises ValueError, without the text, where it has none."""
    try:
        address = urlsplit(text)
        _ = address.port
    except ValueError:  # whose text would repeat what was given
        raise ValueError("must be an address such as http://minio:9000") from None
    return address
