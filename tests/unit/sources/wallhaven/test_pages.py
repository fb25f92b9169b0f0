"""Pages of a listing: answers of any kind are read without a surprise.

A page of the documented shape is read in one step, any other item by item. Both must agree.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from unit.sources.wallhaven.shapes import (
    ITEM,
    META,
    assert_jsonb,
    assert_keepable,
    assert_storable,
    json_values,
    texts,
)

from collector.core.errors import Code, PayloadError
from collector.core.wallpapers import Page, Rejected, Wallpaper
from collector.sources.wallhaven import parse_page
from collector.sources.wallhaven.pages import parse_any_page, parse_documented_page
from collector.sources.wallhaven.payload import MAX_NESTING


def body(*items: object, **meta: object) -> bytes:
    return json.dumps({"data": items, "meta": META | meta}).encode()


def parse(*items: object, **meta: object) -> Page:
    return parse_page(body(*items, **meta), 1)


def row(**changes: object) -> Wallpaper:
    (item,) = parse(ITEM | changes).items
    assert isinstance(item, Wallpaper), item
    return item


def rejection(**changes: object) -> Rejected:
    """Parse a bad item between two good ones, which load."""
    first, item, last = parse(ITEM, ITEM | changes, ITEM).items
    assert isinstance(first, Wallpaper)
    assert isinstance(last, Wallpaper)
    assert isinstance(item, Rejected), item
    return item


# --- Answers of the known shapes ----------------------------------------------------------------


def test_an_item_becomes_a_row() -> None:
    assert row() == Wallpaper(
        wallhaven_id="2169oy",
        url="https://w.wallhaven.cc/full/21/wallhaven-2169oy.png",
        page_url="https://wallhaven.cc/w/2169oy",
        short_url="https://whvn.cc/2169oy",
        source="",
        category="anime",
        purity="sfw",
        dimension_x=1920,
        dimension_y=1080,
        resolution="1920x1080",
        ratio="1.78",
        file_size=2_809_677,
        file_type="image/png",
        source_created_at=datetime(2026, 9, 23, 17, 27, 56, tzinfo=UTC),
        colors=["#000000", "#abbcda"],
        thumb_large="https://th.wallhaven.cc/lg/21/2169oy.jpg",
        thumb_original="https://th.wallhaven.cc/orig/21/2169oy.jpg",
        thumb_small="https://th.wallhaven.cc/small/21/2169oy.jpg",
        extra=None,
        views=12,
        favorites=0,
    )


def test_an_item_needs_an_id_and_an_address_only() -> None:
    (item,) = parse({"id": "a", "path": "http://host/a.jpg"}).items
    assert isinstance(item, Wallpaper)
    given_fields = {"wallhaven_id": "a", "url": "http://host/a.jpg"}
    nothing = dict.fromkeys(Wallpaper._fields)
    assert {name: getattr(item, name) for name in Wallpaper._fields} == nothing | given_fields


@pytest.mark.parametrize("name", sorted(ITEM.keys() - {"id", "path"}))
def test_any_other_field_may_be_null(name: str) -> None:
    assert row(**{name: None}).wallhaven_id == "2169oy"


@pytest.mark.parametrize(
    "meta",
    [
        {"per_page": "24"},
        {"last_page": "9", "total": "195"},
        {"query": None},
        {"query": ""},
        {"query": {"id": 123, "tag": "draenei"}},
        {"seed": "abc123"},
        {"current_page": "x", "later": [1]},
    ],
    ids=str,
)
def test_the_shapes_of_meta(meta: dict[str, object]) -> None:
    page = parse(ITEM, **meta)
    assert (page.number, page.last_page, page.total, page.per_page) == (1, 9, 195, 24)


def test_a_collection_has_less_meta() -> None:
    short = {"data": [], "meta": {"last_page": 1, "total": 0}}
    page = parse_page(json.dumps(short).encode(), 7)
    assert page == Page(7, (), 1, 0, 24)


@pytest.mark.parametrize(
    ("query", "echo"),
    [
        *((None, None), ("", ""), ("+nature -anime", "+nature -anime")),
        *(({"id": 123, "tag": "draenei"}, "id:123"), ({"id": "123"}, ""), ({}, ""), (5, "")),
        *(([], ""), ("x" * 2000, "x" * 1000)),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_what_the_site_repeats_of_the_question(query: object, echo: str | None) -> None:
    assert parse(ITEM, query=query).echo == echo


@pytest.mark.parametrize(
    ("given", "found"),
    [(3, 3), ("3", 3), (None, None), ("x", None), (True, None), (1.5, None), ("-1", None)],
)
def test_the_page_that_it_says_it_is(given: object, found: int | None) -> None:
    assert parse(ITEM, current_page=given).current_page == found


@pytest.mark.parametrize(
    ("given", "found"), [("aBc123", "aBc123"), (None, None), ("abc12", None), ("abc12\n", None)]
)
def test_the_seed_of_a_random_order(given: object, found: str | None) -> None:
    assert parse(ITEM, seed=given).seed == found


def test_unknown_fields_are_kept_and_counted() -> None:
    thumbs = ITEM["thumbs"] | {"huge": "https://th.wallhaven.cc/x.jpg"}
    page = parse(ITEM, ITEM | {"ai": True, "thumbs": thumbs}, ITEM | {"ai": False}, cursor="x")
    assert page.unknown_fields == {"ai": 2, "thumbs": 1, "meta.cursor": 1}
    kept = [json.loads(item.extra) for item in page.wallpapers if item.extra]
    assert kept == [
        {"ai": True, "thumbs": {"huge": "https://th.wallhaven.cc/x.jpg"}},
        {"ai": False},
    ]
    assert parse(ITEM).unknown_fields == {}


def test_names_of_unknown_fields_are_bounded() -> None:
    page = parse(ITEM | {f"{n:03}{'x' * 500}": n for n in range(100)})
    assert len(page.unknown_fields) == 20
    assert max(map(len, page.unknown_fields)) == 60


def test_the_order_and_duplicates_of_the_page_are_kept() -> None:
    page = parse(*({**ITEM, "id": found} for found in ("b", "a", "b")), {"id": "../x"})
    assert page.ids == ["b", "a", "b"]
    assert len(page.items) == 4


def test_what_has_no_column_is_kept_as_json() -> None:
    extra = row(uploader={"username": "\u81ea\u7531"}, tags=[1, 2.5, None, True]).extra
    assert extra is not None
    assert extra.isascii()
    assert json.loads(extra) == {
        "uploader": {"username": "\u81ea\u7531"},
        "tags": [1, 2.5, None, True],
    }


# --- Items that cannot become rows --------------------------------------------------------------


BAD_IDS = ["x" * 10_240, "../x", "a/b", "A%2e", "2169o\u0443", "abc\n", "abc\x00", " ", "\ud800"]


@pytest.mark.parametrize("found", BAD_IDS, ids=lambda text: ascii(text)[:12])
def test_a_bad_id(found: str) -> None:
    rejected = rejection(id=found)
    assert rejected.code is Code.BAD_ID
    assert rejected.wallhaven_id is None
    assert rejected.reason.startswith("id: ")


@pytest.mark.parametrize("found", [None, 5, True, 1.5, [], {}, ""], ids=repr)
def test_no_usable_id(found: object) -> None:
    rejected = rejection(id=found)
    assert rejected.code in (Code.INVALID_METADATA, Code.BAD_ID)
    assert rejected.wallhaven_id is None


@pytest.mark.parametrize(
    "path",
    [
        *(None, "", 5, [], "w.wallhaven.cc/x.jpg", "javascript:alert(1)", "file:///etc/passwd"),
        *("https://", "https://w/a b.jpg", "https://w/a.jpg\n", "https://w/\x00"),
        *("https://w/\ud800", f"https://w/{'x' * 2000}"),
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_no_usable_image_address(path: object) -> None:
    rejected = rejection(path=path)
    assert rejected.code is Code.INVALID_METADATA
    assert rejected.wallhaven_id == "2169oy"
    assert rejected.reason.startswith("path: ")


WRONG: dict[str, list[object]] = {
    "file_size": [-1, 0, "123", 1.5, 1.0, True, 2**63, 2**40 + 1, 10**4000, [], {}],
    "dimension_x": [-1, 0, "1920", 1.0, True, 2**31],
    "dimension_y": [-1, 0, False, 2**31],
    "views": [-1, "1", True, 1.0, 2**31],
    "favorites": [-1, "1", True, 2**31],
    "ratio": [1.78, 2, ["1.78"], True, "x" * 10_001],
    "resolution": [1080, {"x": 1}],
    "category": [1, ["anime"], "a\x00b", "\ud800", "\udc00\ud800"],
    "source": ["\x00", "a\udfffb", 5],
    "colors": ["#000000", {"a": 1}, [1], ["\x00"], ["\ud800"], ["#000000"] * 101],
    "thumbs": ["x", [], {"large": 5}, {"small": "\x00"}, {"original": "\ud800"}],
    "created_at": [
        *("", "yesterday", "2026-09-23", "2026-13-01 00:00:00", 1_790_000_000, "x" * 9999),
        *("2026-09-23 17:27:56 ", "2026-09-23 17:27:61", "2026-09-23 17:27:56\x00", "\ud800"),
    ],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in WRONG.items() for value in values],
    ids=lambda value: ascii(value)[:24] if not isinstance(value, int) else hex(value)[:12],
)
def test_a_field_of_a_wrong_type_or_size(name: str, value: object) -> None:
    rejected = rejection(**{name: value})
    assert rejected.code is Code.INVALID_METADATA
    assert rejected.wallhaven_id == "2169oy"
    assert rejected.reason.startswith((f"{name}: ", f"{name}.", f"{name}["))
    assert len(rejected.reason) < 200
    assert rejected.raw.startswith('{"id": "2169oy"')


@pytest.mark.parametrize("item", [None, "text", 5, True, [], [ITEM]], ids=ascii)
def test_an_item_that_is_no_object(item: object) -> None:
    page = parse(ITEM, item)
    rejected = page.items[1]
    assert isinstance(rejected, Rejected)
    assert rejected.code is Code.INVALID_METADATA
    assert rejected.wallhaven_id is None
    assert json.loads(rejected.raw) == item


def test_an_unknown_name_that_is_no_text_rejects_its_item_alone() -> None:
    rejected = rejection(**{"\ud800": 1})
    assert rejected.code is Code.INVALID_METADATA
    assert "\ud800" not in rejected.reason


def test_the_reason_counts_the_problems_and_never_repeats_the_value() -> None:
    rejected = rejection(file_size="hostile" * 50, views=-1, created_at="hostile" * 1000)
    assert rejected.reason.endswith("(and 2 more)")
    assert "hostile" not in rejected.reason
    for name in ("id", "created_at", "path"):
        assert "hostile" not in rejection(**{name: "hostile hostile hostile"}).reason


def test_the_raw_item_is_ascii_and_bounded() -> None:
    rejected = rejection(id=5, source="\u00fc\x00\ud800" * 10_000)
    assert rejected.raw.isascii()
    assert "\x00" not in rejected.raw
    assert len(rejected.raw) == 4000


# --- Answers that cannot be understood ----------------------------------------------------------


def whole(text: str) -> bytes:
    """Put the text where an unknown field of an item stands."""
    return body(ITEM | {"later": 4711}).replace(b"4711", text.encode("utf-8", "surrogatepass"))


NOT_JSON: dict[str, bytes] = {
    "empty": b"",
    "html": b"<!DOCTYPE html><title>It broke</title>",
    "byte order mark": b"\xef\xbb\xbf" + body(ITEM),
    "utf-16": body(ITEM).decode().encode("utf-16"),
    "latin-1": whole('"') + b"\xfc",
    "cut": body(ITEM)[:-1],
    "trailing garbage": body(ITEM) + b"x",
    "two answers": body(ITEM) * 2,
    "NaN": whole("NaN"),
    "Infinity": whole("Infinity"),
    "-Infinity": whole("-Infinity"),
    "1e400": whole("1e400"),
    "-1e400": whole("-1e400"),
    "5000 digits": whole("9" * 5000),
    "same key twice": whole('{"a": 1, "a": 2}'),
    "same id twice": body(ITEM).replace(b'"url"', b'"id"', 1),
    "data twice": body(ITEM).replace(b'"meta"', b'"data"', 1),
    "encoded surrogate": whole('"\ud800"'),
    "control character": whole('"\x01"'),
    "single quotes": b"{'data': []}",
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_an_answer_that_is_not_strict_json(name: str) -> None:
    with pytest.raises(PayloadError, match="not strict JSON") as caught:
        parse_page(NOT_JSON[name], 1)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    "answer",
    [
        *(None, [], "x", 5, {}, {"error": "Nothing here"}),
        *({"data": data, "meta": META} for data in ({}, None, "x", 5)),
        {"meta": META},
    ],
    ids=ascii,
)
def test_an_answer_without_a_list_of_data(answer: object) -> None:
    with pytest.raises(PayloadError, match="list `data`"):
        parse_page(json.dumps(answer).encode(), 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("last_page", value) for value in (None, -1, 2**31, "x", "-1", 1.5, [], "9" * 5000)),
        *(("total", value) for value in (None, -1, "", "1.5", {}, "\u0661")),
        *(("per_page", value) for value in (0, "0", None, False)),
    ],
    ids=lambda value: ascii(value)[:12],
)
def test_an_answer_with_other_meta(name: str, value: object) -> None:
    with pytest.raises(PayloadError, match=f"meta: {name}: ") as caught:
        parse(ITEM, **{name: value})
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("meta", [None, [], "x", 5])
def test_an_answer_without_meta(meta: object) -> None:
    with pytest.raises(PayloadError, match="meta: "):
        parse_page(json.dumps({"data": [], "meta": meta}).encode(), 1)


@pytest.mark.parametrize("depth", [10, 90, 100, 1300, 5000, 100_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_deep_nesting_is_read_or_refused(depth: int, opening: str) -> None:
    closing = "]" if opening == "[" else "}"
    nested = opening * depth + "1" + closing * depth
    for answer in (
        whole(nested),
        whole(nested).replace(b'"2169oy"', b"5"),
        whole(f"1}},{nested},{{"),
        nested.encode(),
    ):
        assert_page_or_payload_error(answer)


def test_nesting_is_read_up_to_a_limit_that_no_text_reaches() -> None:
    above = 3  # the answer, its list, the item
    deepest = MAX_NESTING - above
    page = parse_page(whole("[" * deepest + "]" * deepest), 1)
    assert isinstance(page.items[0], Wallpaper)
    with pytest.raises(PayloadError, match="nested more than 100 levels deep"):
        parse_page(whole("[" * (deepest + 1) + "]" * (deepest + 1)), 1)
    for text in ("[" * 500, r"\"" + "[" * 500, "\\\\" + "{" * 500):
        assert isinstance(parse_page(whole(f'"{text}"'), 1).items[0], Wallpaper)


@pytest.mark.parametrize("text", [r"\"" * 500_000, r"\"" * 500_000 + "\\"])
def test_a_long_text_that_is_cut_off_is_refused_at_once(text: str) -> None:
    began = time.process_time()
    with pytest.raises(PayloadError, match="not strict JSON"):
        parse_page(f'{{"data": "{text}'.encode(), 1)
    assert time.process_time() - began < 2  # about 0.05 s; a quadratic scan takes hours


# --- Whatever comes -----------------------------------------------------------------------------


def assert_page_or_payload_error(answer: bytes) -> None:
    try:
        page = parse_page(answer, 1)
    except PayloadError:
        return
    for item in page.items:
        if isinstance(item, Rejected):
            assert_keepable(item)
        else:
            assert_storable(item)


items = st.builds(
    lambda base, changes, missing: {
        name: value for name, value in (base | changes).items() if name not in missing
    },
    st.sampled_from([ITEM, {}]),
    st.dictionaries(st.sampled_from(sorted(ITEM)) | texts, json_values, max_size=4),
    st.sets(st.sampled_from(sorted(ITEM)), max_size=2),
)
metas = st.just(META) | st.dictionaries(st.sampled_from(sorted(META)), json_values) | json_values
answers = st.fixed_dictionaries(
    {"data": st.lists(items | json_values, max_size=4) | json_values, "meta": metas}
)


@given(answers | json_values)
def test_any_json_is_a_page_or_a_payload_error(answer: object) -> None:
    assert_page_or_payload_error(json.dumps(answer).encode())


@given(st.lists(items | json_values, max_size=4))
def test_every_item_of_a_page_is_a_row_or_a_rejection(found: list[object]) -> None:
    try:
        page = parse(*found)
    except PayloadError:
        # json.dumps writes NaN and Infinity, which are not JSON.
        with pytest.raises(ValueError, match="JSON compliant"):
            json.dumps(found, allow_nan=False)
        return
    assert len(page.items) == len(found)
    assert_page_or_payload_error(body(*found))


@given(json_values)
def test_an_unknown_field_of_any_kind_is_kept(value: object) -> None:
    try:
        kept = row(later=value).extra
    except PayloadError:
        with pytest.raises(ValueError, match="JSON compliant"):
            json.dumps(value, allow_nan=False)
        return
    assert kept is not None
    assert_jsonb(kept)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_page_or_a_payload_error(answer: bytes) -> None:
    assert_page_or_payload_error(answer)


@given(st.integers(0, 2000), st.binary(max_size=3))
def test_a_damaged_answer_is_a_page_or_a_payload_error(position: int, damage: bytes) -> None:
    good = body(ITEM, ITEM | {"tags": ["\ud83d\ude00"]})
    position %= len(good)
    assert_page_or_payload_error(good[:position] + damage + good[position + len(damage) :])
    assert_page_or_payload_error(good[:position] + damage)


# --- Read in one step, or item by item ----------------------------------------------------------


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
        *(body(ITEM, ITEM | {name: None}) for name in ("thumbs", "created_at")),
    ],
)
def test_the_documented_shape_is_read_in_one_step(answer: bytes) -> None:
    assert parse_documented_page(answer, 1) is not None
    assert_agreed(answer)


def changed(name: str, value: object) -> bytes:
    return body(ITEM, ITEM | {name: value})


@pytest.mark.parametrize(
    "answer",
    [
        *(changed(name, None) for name in ("id", "path")),
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
def test_any_other_shape_is_read_item_by_item(answer: bytes) -> None:
    assert parse_documented_page(answer, 1) is None
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
def test_a_repeated_key_is_refused(found: bytes, put: bytes) -> None:
    answer = body(ITEM).replace(found, put, 1)
    assert answer != body(ITEM)
    assert outcome(parse_page, answer) is PayloadError
    assert_agreed(answer)


def test_a_missing_key_does_not_make_up_for_a_repeated_one() -> None:
    answer = body(ITEM | {"thumbs": None}, ITEM)
    for name in (b"large", b"original", b"small"):
        answer = answer.replace(b'"%b":' % name, b'"%b": "x", "%b":' % (name, name))
    assert parse_documented_page(answer, 1) is None
    assert_agreed(answer)


@pytest.mark.parametrize("name", ["thumbs", "id", "created_at", "colors", "views"])
def test_half_of_a_surrogate_pair_rejects_its_item_alone(name: str) -> None:
    assert rejection(**{name: "\ud800"}).reason.startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["current_page", "query", "seed"])
@pytest.mark.parametrize("value", ["\x00", "\ud800", {"\ud800": 1}], ids=ascii)
def test_no_page_is_refused_for_what_it_says_beside(name: str, value: object) -> None:
    assert parse(ITEM, **{name: value}).total == 195


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
def test_both_readings_agree_on_an_answer_with_more_of_its_own_syntax(
    position: int, sign: bytes
) -> None:
    good = body(ITEM, ITEM)
    position %= len(good)
    assert_agreed(good[:position] + sign + good[position:])
