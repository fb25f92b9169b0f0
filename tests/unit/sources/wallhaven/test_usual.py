"""What is read in one step is what the careful reading says, and the rest is left to it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.sources.wallhaven.shapes import ITEM, META, json_values

from collector.core.errors import PayloadError
from collector.core.wallpapers import Page
from collector.sources.wallhaven.pages import parse_any_page, parse_page
from collector.sources.wallhaven.usual import read_usual_listing


def body(*items: object, **meta: object) -> bytes:
    return json.dumps({"data": items, "meta": META | meta}).encode()


def outcome(parse: Any, answer: bytes) -> Page | type[PayloadError]:
    try:
        found = parse(answer, 1)
    except PayloadError:
        return PayloadError
    assert isinstance(found, Page)
    return found


def assert_agreed(answer: bytes) -> None:
    assert outcome(parse_page, answer) == outcome(parse_any_page, answer)


COMPACT = json.dumps({"data": [ITEM], "meta": META}, separators=(",", ":")).encode()
# As the site's PHP writes it.
ESCAPED = COMPACT.replace(b"/", rb"\/")
INDENTED = json.dumps({"data": [ITEM], "meta": META}, indent=2).encode()


@pytest.mark.parametrize(
    "answer",
    [
        *(body(), body(ITEM), body(ITEM, ITEM), COMPACT, ESCAPED, INDENTED),
        body(ITEM, query={"id": 1, "tag": 'x": "y'}),
        body(ITEM | {"id": "a", "source": "\u81ea \ud83d\ude00 \x7f", "views": 2**31 - 1}),
        *(body(ITEM | {name: None}) for name in ("url", "views", "colors", "file_size")),
    ],
)
def test_the_documented_shape_is_read_in_one_step(answer: bytes) -> None:
    assert read_usual_listing(answer) is not None
    assert_agreed(answer)


def changed(name: str, value: object) -> bytes:
    return body(ITEM, ITEM | {name: value})


@pytest.mark.parametrize(
    "answer",
    [
        *(changed(name, None) for name in ("id", "path", "thumbs", "created_at")),
        *(changed("id", value) for value in ("", "a/b", "a\n", "a" * 17, "\u0430", 5, True)),
        *(changed("path", value) for value in ("", "ftp://a", "http://a b", "http://a\n")),
        *(changed("views", value) for value in (-1, 1.0, True, "1", 2**31)),
        *(changed("dimension_x", value) for value in (0, 1.5, 2**31)),
        *(changed("file_size", value) for value in (0, 2**40 + 1)),
        *(changed("created_at", at) for at in ("2026-13-01 00:00:00", "2026-W35-1 11:55:33", "")),
        *(changed("source", value) for value in ("a\x00", "x" * 10_001, 'a": b', "\ud800")),
        *(changed("colors", value) for value in (["#000000"] * 101, [5], "#000000")),
        changed("later", 1),
        changed("thumbs", ITEM["thumbs"] | {"huge": "x"}),
        changed("thumbs", {"large": "x"}),
        body({name: value for name, value in ITEM.items() if name != "source"}),
        json.dumps({"data": [ITEM], "meta": META, "later": 1}).encode(),
        json.dumps({"data": [ITEM]}).encode(),
    ],
    ids=lambda answer: repr(answer[-180:-140]),
)
def test_anything_else_is_left_to_the_careful_reading(answer: bytes) -> None:
    assert read_usual_listing(answer) is None
    assert_agreed(answer)


@pytest.mark.parametrize(
    ("found", "put"),
    [
        *((b'"id":', b'"id": "b", "id":'), (b'"id":', b'"id" : "b", "id":')),
        (b'"id":', b'"id"\n:"b", "id":'),
        *((b'"large":', b'"large": "b", "large":'), (b'"data":', b'"data": [], "data":')),
        *((b'"data":', b'"data" :[], "data":'), (b'"meta":', b'"meta": {}, "meta":')),
        (b'"total":', b'"total": 1, "total":'),
    ],
)
def test_a_key_that_stands_twice_is_refused_as_ever(found: bytes, put: bytes) -> None:
    answer = body(ITEM).replace(found, put, 1)
    assert answer != body(ITEM)
    assert outcome(parse_page, answer) is PayloadError
    assert_agreed(answer)


near = st.dictionaries(st.sampled_from(sorted(ITEM)), json_values, max_size=1)


@given(st.lists(near, max_size=3), st.dictionaries(st.sampled_from(sorted(META)), json_values))
def test_both_readings_agree_on_items_of_nearly_that_shape(
    changes: list[dict[str, object]], meta: dict[str, object]
) -> None:
    assert_agreed(body(*(ITEM | change for change in changes), **meta))


@given(st.integers(0, 2000), st.integers(0, 4), st.binary(max_size=6))
@example(1, 0, b'"data" : [],')
def test_both_readings_agree_on_a_damaged_answer(position: int, cut: int, damage: bytes) -> None:
    good = body(ITEM, ITEM)
    position %= len(good)
    assert_agreed(good[:position] + damage + good[position + cut :])


@given(
    st.integers(0, 2000), st.sampled_from([b'"', b":", b" :", b'"id":', rb"\u0000", b'\\":', b","])
)
def test_both_readings_agree_on_an_answer_with_more_of_its_own_signs(
    position: int, sign: bytes
) -> None:
    good = body(ITEM, ITEM)
    position %= len(good)
    assert_agreed(good[:position] + sign + good[position:])
