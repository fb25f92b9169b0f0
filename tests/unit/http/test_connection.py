"""Heads of answers: the strict form is read, and nothing else is guessed at."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collector.http import connection
from collector.http.connection import COALESCE_SECONDS, MIN_CHUNK_BYTES, Head, coalesced, read_head

# A piece, and how long it was waited for.
PIECES = st.lists(
    st.tuples(st.integers(1, 2 * MIN_CHUNK_BYTES), st.sampled_from((0.0, COALESCE_SECONDS))),
    max_size=20,
)


def head(*fields: str, line: str = "HTTP/1.1 200 OK") -> Head | None:
    return read_head("".join(f"{text}\r\n" for text in (line, *fields, "")).encode("latin-1"))


def test_a_usual_head() -> None:
    found = head("Server: nginx", "Content-Type:image/jpeg", "content-LENGTH:  1234 ", "X-Empty:")
    assert found is not None
    assert (found.status, found.length_bytes, found.keeps_alive) == (200, 1234, True)
    assert found.headers["content-type"] == "image/jpeg"
    assert found.headers["x-empty"] == ""
    assert found.headers["Content-Length"] == "1234"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("HTTP/1.1 404 Not Found", 404),
        ("HTTP/1.1 200", 200),
        ("HTTP/1.1 200 ", 200),
        ("HTTP/1.1 599 \xe9", 599),
    ],
)
def test_a_status_line(line: str, status: int) -> None:
    found = head(line=line)
    assert found is not None
    assert found.status == status


@pytest.mark.parametrize(
    "line",
    [
        *("HTTP/1.0 200 OK", "HTTP/2 200 OK", "http/1.1 200 OK", "HTTP/1.1 100 Continue"),
        *("HTTP/1.1 20 OK", "HTTP/1.1 2000 OK", "HTTP/1.1  200 OK", " HTTP/1.1 200 OK", "ICY 200"),
        *("HTTP/1.1 200 a\x00b", "HTTP/1.1 600 OK", ""),
    ],
)
def test_another_status_line_is_refused(line: str) -> None:
    assert head("Content-Length: 1", line=line) is None


@pytest.mark.parametrize(
    "field",
    [
        *("no colon", ": no name", "na me: x", "name : x", " folded", "\tfolded", "X: a\x00b"),
        *("X: a\nb", "X: a\rb", "X:\x7f", "\xe9: x"),
    ],
)
def test_another_field_is_refused(field: str) -> None:
    assert head("Content-Length: 1", field) is None
    assert head(field, "Content-Length: 1") is None


@pytest.mark.parametrize(
    ("fields", "length_bytes"),
    [
        (["Content-Length: 0"], 0),
        ([f"Content-Length: {'9' * 18}"], int("9" * 18)),
        ([], None),
        ([f"Content-Length: {'9' * 19}"], None),
        (["Content-Length: 5", "Content-Length: 5"], None),
        (["Content-Length: 5, 5"], None),
        (["Content-Length: 5", "Transfer-Encoding: chunked"], None),
        (["Content-Length: 5", "Transfer-Encoding: identity"], None),
        *(([f"Content-Length: {text}"], None) for text in ("-1", "+1", "1.0", "0x1", "", "\xb2")),
    ],
)
def test_a_length_that_is_said_plainly(fields: list[str], length_bytes: int | None) -> None:
    found = head(*fields)
    assert found is not None
    assert found.length_bytes == length_bytes


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close"])
def test_a_connection_that_is_about_to_close(value: str) -> None:
    found = head("Content-Length: 1", f"Connection: {value}")
    assert found is not None
    assert not found.keeps_alive


def test_white_space_without_end_is_read_in_no_time() -> None:
    began = time.process_time()
    assert head("X:" + " " * 16_000 + "\x00") is None
    assert time.process_time() - began < 0.5


@given(st.binary(max_size=200))
@example(b"HTTP/1.1 200 OK\r\n")
@example(b"HTTP/1.1 200 OK\r\n\r\n\r\n")
@example(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody\r\n")
def test_any_bytes_are_a_head_or_refused(block: bytes) -> None:
    for given_block in (block, b"HTTP/1.1 200 OK\r\n" + block, b"HTTP/1.1 200 OK\r\nA: " + block):
        found = read_head(given_block)
        assert found is None or given_block.endswith(b"\r\n\r\n")


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,12}", fullmatch=True),
            st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20),
        ),
        max_size=6,
    )
)
def test_what_is_written_strictly_is_read_as_it_stands(fields: list[tuple[str, str]]) -> None:
    found = head(*(f"{name}: {value}" for name, value in fields))
    assert found is not None
    assert list(found.headers.items()) == [(name, value.strip(" ")) for name, value in fields]


async def arriving(
    sizes: list[int], now: list[float], waits: Iterator[float]
) -> AsyncIterator[bytes]:
    for number, size_bytes in enumerate(sizes):
        now[0] += next(waits)
        yield bytes([number]) * size_bytes


@given(PIECES)
async def test_all_come_in_their_order_and_small_ones_together(
    pieces: list[tuple[int, float]],
) -> None:
    now, sizes = [0.0], [size for size, _ in pieces]
    source = arriving(sizes, now, iter([seconds for _, seconds in pieces]))
    chunks = [chunk async for chunk in coalesced(source, lambda: now[0])]
    whole = b"".join(bytes([number]) * size for number, size in enumerate(sizes))
    assert b"".join(chunks) == whole
    crumbs_left = sum(len(chunk) < MIN_CHUNK_BYTES for chunk in chunks)
    assert crumbs_left <= 1 + sum(seconds > 0 for _, seconds in pieces)


async def test_a_large_piece_is_handed_on_as_it_is() -> None:
    piece = bytes(MIN_CHUNK_BYTES)

    async def one() -> AsyncIterator[bytes]:
        yield piece

    assert [chunk is piece async for chunk in coalesced(one(), lambda: 0.0)] == [True]


async def test_what_came_before_a_break_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MIN_CHUNK_BYTES", 10)

    async def breaking() -> AsyncIterator[bytes]:
        yield b"0123456789"
        yield b"crumb"
        raise ConnectionResetError

    chunks = coalesced(breaking(), lambda: 0.0)
    assert await anext(chunks) == b"0123456789"
    with pytest.raises(ConnectionResetError):
        await anext(chunks)
