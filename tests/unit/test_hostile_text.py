"""Long hostile text holds up no parser: it is read, or refused, in time linear in its length."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.catalog.database import describe_dsn
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
from collector.core.errors import CollectorError
from collector.core.keys import expected_type, is_wallhaven_id
from collector.core.pacing import announced, pause_seconds, retry_date_seconds
from collector.http.connection import MAX_HEAD_BYTES, read_head
from collector.http.fast_client import _ADDRESS
from collector.settings import Settings, load_settings
from collector.settings.loading import MAX_FILE_BYTES
from collector.simulator.profile import read_profile
from collector.simulator.search import criteria_from, page_from, parse_query
from collector.sources.wallhaven import (
    CollectionName,
    Query,
    parse_details,
    parse_page,
)
from collector.store.failures import read_refusal

# An environment variable may be this long; no server sends a header of a tenth of it.
CHARACTERS = 100_000
# What is linear takes a hundredth of it; what squares the length takes minutes.
CPU_SECONDS = 2.0

HOSTS = frozenset({"w.wallhaven.cc"})
TEXT_SETTINGS = sorted(Settings.model_fields)
QUERY_FIELDS = sorted(Query.__dataclass_fields__)
SEARCHED = ("q", "categories", "purity", "sorting", "atleast", "resolutions", "ratios", "colors")

Parser = Callable[[str], object]


def _setting(name: str) -> Parser:
    return lambda text: Settings(_env_file=None, **{name: text})


def _query(name: str) -> Parser:
    return lambda text: Query(**{name: text})


def _dsn(text: str) -> object:
    return is_unambiguous_dsn(text) and (password_and_hosts(text), describe_dsn(text))


def _headers(text: str) -> object:
    names = ("Retry-After", "Date", "X-RateLimit-Limit", "X-RateLimit-Remaining")
    headers = dict.fromkeys((*names, "X-RateLimit-Reset", "Location"), text)
    announced(headers)
    pause_seconds(headers, 0.0)
    retry_date_seconds(headers)
    return redirect_target("https://w.wallhaven.cc/a.jpg", 302, headers, HOSTS)


def _head(text: str) -> object:
    line = text[:MAX_HEAD_BYTES].encode("utf-8", "replace")
    return [
        read_head(head)
        for head in (
            line,
            b"HTTP/1.1 200 " + line,
            b"HTTP/1.1 200 OK\r\n" + line,
            b"HTTP/1.1 200 OK\r\nName: " + line + b"\r\n\r\n",
        )
    ]


def _hosts(text: str) -> object:
    with suppress(ValueError):
        is_public_address(text)
    return is_local_name(text), is_public_name(text), _ADDRESS.fullmatch(f"http://{text}")


def _answers(text: str) -> object:
    item = {"id": text, "path": text, "created_at": text, "colors": [text], "file_type": text}
    meta = {"last_page": text, "total": text, "per_page": text, "query": text, "seed": text}
    for body in (text.encode("utf-8", "replace"), json.dumps({"data": [item], "meta": meta})):
        for parse in (
            lambda sent: parse_page(sent, 1),
            lambda sent: parse_details(sent, "abc123"),
        ):
            with suppress(CollectorError):
                parse(body if isinstance(body, bytes) else body.encode())
    return read_refusal(400, b"<Code>" + text.encode("utf-8", "replace"), None)


def _file(parse: Callable[[Path], object], before: str = "") -> Parser:
    def parse_file(text: str) -> object:
        path = Path("file.toml")
        path.write_text((before + text)[:MAX_FILE_BYTES], encoding="utf-8")
        return parse(path)

    return parse_file


PARSERS: dict[str, Parser] = {
    **{f"setting {name}": _setting(name) for name in TEXT_SETTINGS},
    **{f"query {name}": _query(name) for name in QUERY_FIELDS},
    "collection": CollectionName.parse,
    "postgres address": _dsn,
    "address": split_address,
    "image address": lambda text: require_allowed(text, HOSTS),
    "host": _hosts,
    "key": lambda text: (is_wallhaven_id(text), expected_type(text, text)),
    "headers": _headers,
    "head": _head,
    "answers": _answers,
    "simulated query": parse_query,
    "simulated search": lambda text: (
        criteria_from(dict.fromkeys(SEARCHED, text), keyed=True),
        page_from(text),
    ),
    "name of a profile": read_profile,
    "simulated profile": _file(lambda path: read_profile(str(path))),
    "settings file": _file(load_settings),
    "value in a settings file": _file(load_settings, "WALLHAVEN_QUERY="),
    "quoted value in a settings file": _file(load_settings, 'WALLHAVEN_QUERY="'),
}


class TooSlow(BaseException):
    """The time is up; no parser catches this."""


@contextmanager
def within(cpu_seconds: float) -> Iterator[None]:
    """Raise TooSlow where the body takes more of the processor."""

    def stop(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def read(parse: Parser, text: str) -> None:
    """Let a parser read or refuse a text in time."""
    with within(CPU_SECONDS), suppress(ValueError, OSError, CollectorError):
        parse(text)


def repeated(before: str, piece: str, behind: str) -> str:
    """Return a text of about CHARACTERS that repeats a piece."""
    return f"{before}{piece * (CHARACTERS // len(piece))}{behind}"


NASTY = {
    "digits": ("", "9", "x"),
    "zeros": ("0x", "0", "g"),
    "blanks": ("x", " ", "y"),
    "lines": ("x", "\n", "y"),
    "quotes": ("", '"', ""),
    "open quotes": ('"', '" "', "a"),
    "signs": ("", "+-", "a"),
    "commas": ("", ",", ""),
    "dots": ("a", ".", "a"),
    "colons": ("", ":", ""),
    "slashes": ("http://", "/", ""),
    "ats": ("http://", "a@", ""),
    "percents": ("http://h/", "%", ""),
    "escapes": ("http://h/", "%2F", "%"),
    "brackets": ("http://[", ":", "]"),
    "open brackets": ("", "[", ""),
    "braces": ("", "${", ""),
    "host": ("postgresql://", "a", ":*/db"),
    "port": ("postgresql://user:secret@", "database.example.", "com:${PORT}/db"),
    "password": ("postgresql://user:a/", "b", "@host/db"),
    "hosts": ("postgresql://", "a:1,", "b:*/db"),
    "empty hosts": ("postgresql://", ",", "*"),
    "options": ("postgresql://host/db?", "a=b&", "@"),
    "sizes": ("", "1x1,", "x"),
    "names": ("", "w.wallhaven.cc:443,", "*"),
    "date": ("Mon, 01 Jan 2024 00:00:00 ", "GMT ", "+"),
    "header": ("", "a \t", "\x00"),
    "code": ("", "<Code> ", "<"),
    "not latin": ("", "\u00e9\u0130", "\x00"),
    "nested": ("", "[", "]"),
    "nested value": ("a = ", "[", "]"),
    "nested lines": ("a = ", "[\n", "]"),
    "objects": ('{"data":', '{"a":', "}"),
    "table": ("a", ".a", " = 1"),
}
# What means something to one of the parsers.
SYNTAX = st.text("aZ09.:/@?#[],%&=+-*'\"\\ \t\r\n{}$<>_\x00\u00e9", min_size=1, max_size=6)


@pytest.fixture(autouse=True)
def _an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", PARSERS)
def test_nasty_text_is_read_or_refused_in_time(name: str) -> None:
    for pieces in NASTY.values():
        read(PARSERS[name], repeated(*pieces))


@pytest.mark.parametrize("name", PARSERS)
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(before=SYNTAX, piece=SYNTAX, behind=SYNTAX)
def test_any_repetition_is_read_or_refused_in_time(
    name: str, before: str, piece: str, behind: str
) -> None:
    read(PARSERS[name], repeated(before, piece, behind))
