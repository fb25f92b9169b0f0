"""Addresses: which are unambiguous, and no error quotes one."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from collector.core.addresses import (
    is_local_name,
    is_public_address,
    is_public_name,
    is_unambiguous_dsn,
    password_and_hosts,
    redirect_target,
    require_allowed,
    split_address,
)
from collector.core.errors import Code, Fault, ItemError

SECRET = "hunter2-secret"
HOSTS = frozenset(
    [
        *("w.wallhaven.cc", "localhost:8080", "127.0.0.1:9000", "[::1]:9000", "simulator:8000"),
        *("minio", "203.0.113.7:8000", "example.org:80", "[2001:db8::1]"),
    ]
)

ALLOWED = [
    "https://w.wallhaven.cc/full/21/wallhaven-2169oy.png",
    "https://w.wallhaven.cc",
    "https://w.wallhaven.cc/?a=b#c",
    "https://w.wallhaven.cc:443/x.jpg",
    "https://w.wallhaven.cc:/x.jpg",
    "HTTPS://W.Wallhaven.CC/x.jpg",
    "https://w.wallhaven.cc/@evil.example/x.jpg",
    "https://w.wallhaven.cc/x.jpg?to=https://evil.example",
    "https://[2001:db8::1]/x.jpg",
    "http://localhost:8080/x.jpg",
    "http://LOCALHOST:8080/x.jpg",
    "http://127.0.0.1:9000/x.jpg",
    "http://[::1]:9000/x.jpg",
    "http://simulator:8000/x.jpg",
    "http://minio/x.jpg",
]

REFUSED = [
    # Another host, however much it looks like ours.
    "https://evil.example/x.jpg",
    "https://wallhaven.cc/x.jpg",
    "https://th.wallhaven.cc/x.jpg",
    "https://w.wallhaven.cc.evil.example/x.jpg",
    "https://evil.example/w.wallhaven.cc/x.jpg",
    "https://evil.example?w.wallhaven.cc",
    "https://evil.example#@w.wallhaven.cc",
    "https://w.wallhaven.cc./x.jpg",
    "https://w.wallhaven.cc%2eevil.example/x.jpg",
    "https://w.wallhaven.cc%00.evil.example/x.jpg",
    "https://w.wallhaven\u3002cc/x.jpg",
    "https://\uff57.wallhaven.cc/x.jpg",
    "https://w.wallh\u0430ven.cc/x.jpg",
    "https://xn--w-wallhaven.cc/x.jpg",
    # A user in front of the host.
    "https://user@w.wallhaven.cc/x.jpg",
    "https://user:secret@w.wallhaven.cc/x.jpg",
    "https://:secret@w.wallhaven.cc/x.jpg",
    "https://@w.wallhaven.cc/x.jpg",
    "https://w.wallhaven.cc@evil.example/x.jpg",
    "https://w.wallhaven.cc:443@evil.example/x.jpg",
    "https://w.wallhaven.cc\\@evil.example/x.jpg",
    "https://evil.example\\@w.wallhaven.cc/x.jpg",
    # Another scheme or port.
    "http://w.wallhaven.cc/x.jpg",
    "http://w.wallhaven.cc:443/x.jpg",
    "https://w.wallhaven.cc:80/x.jpg",
    "https://w.wallhaven.cc:8443/x.jpg",
    "https://w.wallhaven.cc:0/x.jpg",
    "https://w.wallhaven.cc:99999/x.jpg",
    "https://w.wallhaven.cc:44a/x.jpg",
    "https://w.wallhaven.cc:-443/x.jpg",
    "http://example.org:80/x.jpg",
    "http://203.0.113.7:8000/x.jpg",
    "ftp://w.wallhaven.cc/x.jpg",
    "file://w.wallhaven.cc/etc/passwd",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "javascript://w.wallhaven.cc/%0aalert(1)",
    "data:image/png;base64,AAAA",
    # No scheme, or no host.
    "//w.wallhaven.cc/x.jpg",
    "w.wallhaven.cc/x.jpg",
    "/full/x.jpg",
    "https:w.wallhaven.cc/x.jpg",
    "https:/w.wallhaven.cc/x.jpg",
    "https:///w.wallhaven.cc/x.jpg",
    "https:\\\\w.wallhaven.cc\\x.jpg",
    "https://",
    "https://:443/x.jpg",
    "",
    "\x00",
    # Ourselves and our neighbours, where they are not listed.
    "http://localhost/x.jpg",
    "http://localhost:8081/x.jpg",
    "http://localhost.:8080/x.jpg",
    "https://localhost:8080/x.jpg",
    "http://127.0.0.1:22/x.jpg",
    "http://127.1:9000/x.jpg",
    "http://2130706433:9000/x.jpg",
    "http://0x7f000001:9000/x.jpg",
    "http://0177.0.0.1:9000/x.jpg",
    "http://169.254.169.254/latest/meta-data",
    "http://[::ffff:127.0.0.1]:9000/x.jpg",
    "http://[0:0:0:0:0:0:0:1]:9000/x.jpg",
    "http://[::1%25eth0]:9000/x.jpg",
    "https://[::ffff:203.0.113.7]/x.jpg",
    "http://simulator/x.jpg",
    "http://[::1/x.jpg",
    "https://[w.wallhaven.cc]/x.jpg",
    "https://a\u2100b/x.jpg",
]


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
        ("postgresql://me:p%40ss@[::1]:5,Host:5432/db", "p@ss", ["::1", "host"]),
        ("postgresql://me@/db?host=/run/pg,10.0.0.1&password=p", "p", ["/run/pg", "10.0.0.1"]),
        ("postgresql://?host=2001:db8::1", "", ["2001:db8::1"]),
        ("postgresql:///db", "", [""]),
    ],
)
def test_password_and_hosts(dsn: str, password: str, hosts: list[str]) -> None:
    assert is_unambiguous_dsn(dsn)
    assert password_and_hosts(dsn) == (password, hosts)


def test_brackets_after_another_host_are_taken_where_python_reads_them() -> None:
    # Python reads no such address since CVE-2025-0938, and neither does asyncpg, which asks it.
    dsn = "postgresql://me@host:5432,[::1]:5/db"
    try:
        urlsplit(dsn)
    except ValueError:
        assert not is_unambiguous_dsn(dsn)
    else:
        assert password_and_hosts(dsn) == ("", ["host", "::1"])


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


def refusal(url: str) -> ItemError | None:
    try:
        require_allowed(url, HOSTS)
    except ItemError as error:
        return error
    return None


@pytest.mark.parametrize("url", ALLOWED)
def test_allowed(url: str) -> None:
    require_allowed(url, HOSTS)


@pytest.mark.parametrize("url", REFUSED, ids=ascii)
def test_refused(url: str) -> None:
    error = refusal(url)
    assert error is not None
    assert error.code is Code.HOST_REFUSED
    assert error.fault is Fault.PERMANENT
    assert "secret" not in error.reason


def test_nothing_is_listed() -> None:
    with pytest.raises(ItemError, match="WALLHAVEN_IMAGE_HOSTS"):
        require_allowed(ALLOWED[0], frozenset())


def test_a_listed_number_is_no_name() -> None:
    with pytest.raises(ItemError, match="host_refused"):
        require_allowed("http://134744072:80/x.jpg", frozenset(["134744072:80"]))


hosts = ["w.wallhaven.cc", "evil.example", "localhost", "8080", "443", "[::1]", "9000", "user"]
pieces = st.sampled_from([*"/\\:@#?.\t\n\x00 ", "//", "%2e", "https", "http", *hosts])
spelled = st.lists(pieces, max_size=8).map("".join)
around = st.builds("{}{}{}".format, spelled, st.sampled_from(ALLOWED), spelled)


@given(spelled | around | st.text())
def test_what_is_allowed_reaches_a_listed_host_for_the_http_client_too(url: str) -> None:
    error = refusal(url)
    if error is not None:
        assert error.code is Code.HOST_REFUSED
        return
    reached = URL(url)
    shown = f"[{reached.host}]" if ":" in (reached.host or "") else reached.host
    assert reached.user is None
    assert shown in HOSTS or f"{shown}:{reached.port}" in HOSTS


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_loopback_is_local(host: str) -> None:
    assert is_local_name(host)
    assert is_local_name(host, loopback_only=True)


@pytest.mark.parametrize("host", ["simulator", "minio", "s3-server"])
def test_a_name_without_a_dot_is_local_but_not_loopback(host: str) -> None:
    assert is_local_name(host)
    assert not is_local_name(host, loopback_only=True)


@pytest.mark.parametrize(
    "host",
    [
        *(None, "", "wallhaven.cc", "localhost.", "a.localhost", "10.0.0.1", "0.0.0.0"),
        *("::ffff:8.8.8.8", "2001:db8::1", "fe80::1%eth0"),
        *("127.1", "134744072", "0x08080808", "0X8080808", "010"),
    ],
)
def test_the_rest_of_the_world_is_not_local(host: str | None) -> None:
    assert not is_local_name(host)
    assert not is_local_name(host, loopback_only=True)


PUBLIC = ("8.8.8.8", "104.18.0.1", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808")
PRIVATE = (
    *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
    *("0.0.0.0", "255.255.255.255", "224.0.0.1", "::1", "::", "fe80::1%eth0", "fc00::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::"),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address(address: str) -> None:
    assert is_public_address(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_in_any_spelling(address: str) -> None:
    assert not is_public_address(address)


@pytest.mark.parametrize(
    ("host", "is_public"),
    [("w.wallhaven.cc", True), ("localhost", False), ("127.0.0.1", False), ("[::1]", False)],
)
def test_a_public_name_has_a_dot_and_is_no_address(host: str, is_public: bool) -> None:
    assert is_public_name(host) is is_public


def test_a_redirect_is_resolved_against_where_it_came_from() -> None:
    hosts = frozenset({"w.wallhaven.cc"})
    url = "https://w.wallhaven.cc/full/ab/wallhaven-abc123.jpg"
    found = redirect_target(url, 302, {"Location": "../cd/wallhaven-cd.jpg"}, hosts)
    assert found == "https://w.wallhaven.cc/full/cd/wallhaven-cd.jpg"
    assert redirect_target(url, 200, {"Location": "/x"}, hosts) is None
    assert redirect_target(url, 302, {}, hosts) is None
