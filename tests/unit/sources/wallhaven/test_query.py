"""A search as a value: what the API would ignore without a word is refused before the call."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.errors import SettingsError
from collector.sources.wallhaven import Query, QueryError
from collector.sources.wallhaven.query import COLORS, SORTINGS, TOP_RANGES

GOOD: dict[str, list[str]] = {
    "categories": ["111", "100", "010", "001", "011"],
    "purity": ["100", "010", "001", "111"],
    "sorting": list(SORTINGS),
    "order": ["asc", "desc"],
    "atleast": ["", "1x1", "1920x1080", "99999x99999"],
    "resolutions": ["", "1920x1080", "1920x1080,2560x1440,3840x2160"],
    "ratios": ["", "16x9", "16x9,16x10", "landscape", "portrait,1x1", "9x18", "48x9"],
    "colors": ["", *COLORS],
    "ai_art_filter": ["", "0", "1"],
}
# By field: the name in the API, and what it does not take.
BAD: dict[str, tuple[str, list[str]]] = {
    "categories": ("categories", ["", "abc", "11", "1111", "112", "000", " 111", "111\n", "-11"]),
    "purity": ("purity", ["", "sfw", "1", "000", "100,010", "\u0661\u0660\u0660"]),
    "sorting": ("sorting", ["", "hot", "date", "Date_added", "date_added\n", "views,favorites"]),
    "order": ("order", ["", "DESC", "descending"]),
    "top_range": ("topRange", ["1m", "2d", "1M\n", "month", "7d"]),
    "atleast": ("atleast", ["1920", "1920*1080", "1920X1080", "1920x1080,1x1", "0x0", "01x1"]),
    "resolutions": ("resolutions", ["1920x1080,", ",1x1", "1x1, 2x2", "1x1;2x2", "0x1080", "16:9"]),
    "ratios": ("ratios", ["16:9", "1.78", "16x9,", "16x9 16x10", "square", "Landscape", "16x0"]),
    "colors": ("colors", ["#660000", "EA4C88", "660001", "abbcda", "660000,990000", "red"]),
    "ai_art_filter": ("ai_art_filter", ["2", "true", "01", "-1"]),
    "seed": ("seed", ["abc12", "abc1234", "abc-12", "abc12\n", "\u00e4bc123"]),
}
SORTED_FOR = {"top_range": "toplist", "seed": "random"}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in GOOD.items() for value in values]
)
def test_a_good_value(name: str, value: str) -> None:
    assert getattr(Query(**{name: value}), name) == value


@pytest.mark.parametrize("value", TOP_RANGES)
def test_a_good_top_range(value: str) -> None:
    assert Query(sorting="toplist", top_range=value).parameters()["topRange"] == value


@pytest.mark.parametrize("value", ["abc123", "ZZZZZZ", "000000"])
def test_a_good_seed(value: str) -> None:
    assert Query(sorting="random", seed=value).parameters()["seed"] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, (_, values) in BAD.items() for value in values],
    ids=lambda text: ascii(text)[:24],
)
def test_a_bad_value_is_refused_with_an_example_that_is_a_good_one(name: str, value: str) -> None:
    sorting = {"sorting": SORTED_FOR[name]} if name in SORTED_FOR else {}
    with pytest.raises(QueryError, match=r"such as \w+") as caught:
        Query(**{name: value, **sorting})
    error, parameter = caught.value, BAD[name][0]
    assert isinstance(error, SettingsError)
    assert (error.parameter, error.setting) == (parameter, parameter)
    line = str(error)
    assert line.startswith(f"{parameter}: ")
    assert "\n" not in line
    assert len(line) < 280
    example = re.split(r" |$", line.partition("such as ")[2])[0]
    assert Query(**{name: example, **sorting})


@pytest.mark.parametrize(
    ("given_fields", "line"),
    [
        ({"sorting": "hot"}, "sorting: must be date_added, relevance, random, views, favorites or"),
        (
            {"categories": "2"},
            "categories: must be three digits, 0 or 1 for each of general, anime",
        ),
        ({"purity": "000"}, "purity: asks for nothing: at least one digit must be 1, such as 001"),
        ({"top_range": "1M"}, "topRange: only works with the sorting toplist; leave it empty"),
        ({"top_range": "1M", "sorting": "views"}, "topRange: only works with the sorting toplist"),
        ({"seed": "abc123"}, "seed: only works with the sorting random; leave it empty"),
        ({"colors": "red"}, "colors: must be 660000, 990000, cc0000, "),
    ],
    ids=str,
)
def test_the_line(given_fields: dict[str, str], line: str) -> None:
    with pytest.raises(QueryError, match=f"^{re.escape(line)}"):
        Query(**given_fields)


@given(st.sampled_from(sorted(BAD)), st.text(max_size=12))
def test_any_text_is_a_value_that_is_sent_as_it_is_or_refused(name: str, value: str) -> None:
    sorting = {"sorting": SORTED_FOR[name]} if name in SORTED_FOR else {}
    with suppress(QueryError):
        sent = Query(**{name: value, **sorting}).parameters()
        assert value == "" or sent[BAD[name][0]] == value


def test_the_palette_has_29_colours() -> None:
    assert len(set(COLORS)) == 29


# --- What is sent -------------------------------------------------------------------------------


def test_what_an_account_may_have_a_default_for_is_always_sent() -> None:
    assert list(Query().parameters().items()) == [
        ("categories", "111"),
        ("purity", "100"),
        ("sorting", "date_added"),
        ("order", "desc"),
        ("resolutions", ""),
        ("ratios", ""),
        ("ai_art_filter", "0"),
    ]


def test_the_order_is_fixed_and_q_comes_last() -> None:
    every = Query(
        q="a",
        sorting="toplist",
        atleast="1x1",
        resolutions="1x1",
        ratios="1x1",
        colors="000000",
        ai_art_filter="1",
    )
    assert list(every.parameters()) == [
        *("categories", "purity", "sorting", "order", "topRange", "atleast", "resolutions"),
        *("ratios", "colors", "ai_art_filter", "q"),
    ]
    assert every.parameters()["topRange"] == "1M"


@pytest.mark.parametrize("everything", ["", " ", "  ", "*", " * "])
def test_a_blank_q_and_a_star_ask_for_everything(everything: str) -> None:
    assert "q" not in Query(q=everything).parameters()
    assert Query(q=everything).narrowing == ()


@pytest.mark.parametrize(
    ("given_fields", "names"),
    [
        ({}, ()),
        ({"purity": "110", "ai_art_filter": "1", "sorting": "views", "order": "asc"}, ()),
        ({"q": "elf"}, ("q",)),
        ({"sorting": "toplist"}, ("topRange",)),
        (
            {"categories": "110", "colors": "000000", "ratios": "1x1", "atleast": "1x1"},
            ("categories", "atleast", "ratios", "colors"),
        ),
        ({"resolutions": "1x1"}, ("resolutions",)),
    ],
    ids=str,
)
def test_which_filters_leave_something_out(
    given_fields: dict[str, str], names: tuple[str, ...]
) -> None:
    assert Query(**given_fields).narrowing == names


def test_the_unfiltered_question_keeps_what_it_may_see() -> None:
    asked = Query(
        q="elf",
        categories="010",
        purity="110",
        sorting="toplist",
        top_range="1d",
        ratios="1x1",
        ai_art_filter="1",
    )
    assert asked.unfiltered == Query(purity="110", ai_art_filter="1")
    assert asked.unfiltered.narrowing == ()


# --- The grammar of `q` --------------------------------------------------------------------------


GOOD_Q = [
    *("", "draenei", "night elf", "+nature -anime", "-anime", '+a -"night elf"', "\u52d5\u6f2b"),
    *("@someone", "@\u81ea\u7531\u4f7f\u7528\u8005", "@a.b-c_1", "elf @someone type:png -anime"),
    *("id:1", "id:4294967295", " id:1 ", "like:2169oy", "type:png", "type:jpg", "type:jpeg elf"),
    *("re:zero", "c++", "spider-man", "a@b", "12:30", '"id: x"', '"like:this" elf', "key:value"),
    *('5"', "\U0001f600", "x" * 500),
    *("*", " * ", "elf*", "c**", "** elf", '"*" elf'),
]
BAD_Q = [
    *("id:", "id:abc", "id:0", "id:-1", "id:12345678901", "id: 1", "id:1,2", "id:\u0661", "ID:1"),
    *("id:1 elf", "elf id:1", "id:1 id:2", "id:1 like:abc", "+id:1", "-id:1", 'id:1 "a b"'),
    *("like:", "like:../x", "like:2169oy elf", "like:x type:png", "-like:abc", "Like:abc"),
    *("like:abcdefghijklmnopq", "like:https://wallhaven.cc/w/2169oy"),
    *(
        "type:",
        "type:gif",
        "type:PNG",
        "Type:png",
        "type:png,jpg",
        "type:png type:jpg",
        "-type:png",
    ),
    *("@", "@ user", "-@user", "+@user", "@a/b", "@a @b", "@@a"),
    *("+", "-", "a + b", "elf -", "+-", "-- elf"),
    *("* elf", "-elf *", "* *", "-*", "+*", "id:1 *"),
    *("a\x00b", "a\nb", "a\tb", "\ud800", "\x7f", "x" * 501),
]


@pytest.mark.parametrize("q", GOOD_Q, ids=lambda text: ascii(text)[:24])
def test_a_good_question(q: str) -> None:
    assert Query(q=q).q == q


@pytest.mark.parametrize("q", BAD_Q, ids=lambda text: ascii(text)[:24])
def test_a_question_that_would_be_misread(q: str) -> None:
    with pytest.raises(QueryError, match=r"^q: must .*, such as \S+$") as caught:
        Query(q=q)
    assert caught.value.parameter == "q"
    line = str(caught.value)
    assert len(line) < 120
    assert Query(q=line.partition("such as ")[2])


@pytest.mark.parametrize(
    ("q", "line"),
    [
        ("id:abc", "q: must have a tag's number after id: and no sign before it, such as id:1"),
        ("id:1 elf", "q: must have id: alone, without other terms, such as id:1"),
        ("@a @b", "q: must have at most one @, such as @someone"),
        ("* -elf", "q: must have * alone, without other terms, such as *"),
        ("elf -", "q: must have a word right after each + and -, such as -elf"),
    ],
)
def test_the_line_about_q(q: str, line: str) -> None:
    with pytest.raises(QueryError) as caught:
        Query(q=q)
    assert str(caught.value) == line


@given(st.text(max_size=40) | st.text('+-@:"* idtypelkjng123', max_size=30))
def test_any_text_is_a_question_or_refused(q: str) -> None:
    with suppress(QueryError):
        sent = Query(q=q).parameters().get("q", "")
        assert sent == ("" if q.strip() == "*" else q.strip())
        assert "*" not in sent.split()
