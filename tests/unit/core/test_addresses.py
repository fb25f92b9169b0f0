"""Addresses: what can be told apart, and no error that repeats one."""

from __future__ import annotations

import pytest

from collector.core.addresses import is_unambiguous_dsn, password_and_hosts, split_address

SECRET = "hunter2-secret"


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://host/db",
        "postgres://user:p%40ss@host:5432/db?sslmode=disable",
        "postgresql://user@a:1,b:2/db",
        "postgresql://[::1]:5432/db",
        "postgresql://Host.Example/db?application_name=a?b",
        "postgresql:///db?host=/run/postgresql",
        "postgresql://me@:5432/db",
        "postgresql://%2Frun%2Fpostgresql/db",
        "postgresql://",
    ],
)
def test_a_dsn_whose_parts_can_be_told_apart(dsn: str) -> None:
    assert is_unambiguous_dsn(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        *("postgresql://user:p@ss@host/db", "postgresql://user:p/ss@host/db", "mysql://host/db"),
        *("postgresql://user:p?ss@host/db", "postgresql://user:p#ss@host/db"),
        *("postgresql://user:p:ss@host/db", "postgresql://user:p[ss@host/db"),
        *("postgresql://user:12/ss@host/db", "postgresql://host/d/b", "postgresql://host/db?a=b@c"),
        *("postgresql://host:${PORT}/db", "postgresql://host:*/db", "postgresql://host:/db"),
        *("postgresql://host:99999/db", "postgresql://a:1:2/db", "postgresql://a:1,b:x/db"),
        *("postgresql://::1/db", "postgresql://[::1/db", "postgresql://[::1]x/db"),
        *("postgresql://x[::1]/db", "postgresql://[host]/db", " postgresql://host/db", ""),
    ],
)
def test_a_dsn_whose_parts_cannot(dsn: str) -> None:
    assert not is_unambiguous_dsn(dsn)


@pytest.mark.parametrize(
    ("dsn", "password", "hosts"),
    [
        ("postgresql://me:p%40ss@Host:5432,[::1]:5/db", "p@ss", ["host", "::1"]),
        ("postgresql://me@/db?host=/run/pg,10.0.0.1&password=p", "p", ["/run/pg", "10.0.0.1"]),
        ("postgresql://?host=2001:db8::1", "", ["2001:db8::1"]),
        ("postgresql:///db", "", [""]),
    ],
)
def test_password_and_hosts(dsn: str, password: str, hosts: list[str]) -> None:
    assert is_unambiguous_dsn(dsn)
    assert password_and_hosts(dsn) == (password, hosts)


def test_an_address_is_split() -> None:
    address = split_address("http://minio:9000/x?y=z")
    assert (address.hostname, address.port, address.query) == ("minio", 9000, "y=z")


@pytest.mark.parametrize(
    "text", [f"http://[{SECRET}", f"http://host:{SECRET}", "http://host:99999"]
)
def test_no_error_repeats_the_address(text: str) -> None:
    with pytest.raises(ValueError, match="must be an address such as") as caught:
        split_address(text)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
