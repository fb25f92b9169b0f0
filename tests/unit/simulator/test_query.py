from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.simulator.parameters import Query, criteria_from, page_from, parse_query, tag_bits


@pytest.mark.parametrize(
    ("text", "query"),
    [
        (None, Query()),
        ("", Query()),
        ("Nature", Query(required=("nature",), echo="Nature")),
        ("-anime", Query(excluded=("anime",), echo="-anime")),
        (
            "+nature -anime",
            Query(required=("nature",), excluded=("anime",), echo="+nature -anime"),
        ),
        ('"fantasy art" x', Query(required=("fantasy art", "x"), echo='"fantasy art" x')),
        ("@Archon", Query(uploader="archon", echo="")),
        ("type:png", Query(file_type="image/png", echo="")),
        ("TYPE:JPEG", Query(file_type="image/jpeg", echo="")),
        ("night type:jpg", Query(required=("night",), file_type="image/jpeg", echo="night")),
        ("type:tiff", Query(echo="")),
        ("id:37", Query(tag_id="37", echo="id:37")),
        ("like:abc123", Query(like="abc123", echo="like:abc123")),
        ("id:37 night", Query(impossible=True, echo="id:37 night")),
        ("night like:abc123", Query(impossible=True, echo="night like:abc123")),
    ],
)
def test_the_grammar_of_q(text: str | None, query: Query) -> None:
    assert parse_query(text) == query


def test_words_find_tags_by_name_alias_and_part() -> None:
    assert tag_bits("draenei") == 1
    assert tag_bits("fantasy") == tag_bits("fantasy art") != 0
    assert tag_bits("warcraft") == tag_bits("wow") != 0
    assert tag_bits("nothing-like-it") == 0


_KEYS = st.sampled_from(
    ["q", "categories", "purity", "sorting", "order", "topRange", "atleast", "ratios", "colors"]
)


@given(st.dictionaries(_KEYS, st.text()), st.booleans())
def test_no_parameter_is_refused(parameters: dict[str, str], keyed: bool) -> None:
    criteria = criteria_from(parameters, keyed=keyed)
    assert keyed or 2 not in criteria.purities
    hash(criteria)


@given(st.text())
def test_any_page_is_a_number(text: str) -> None:
    assert isinstance(page_from(text), int)


def test_pages() -> None:
    assert [page_from(text) for text in (None, "", "abc", "3", "0", "-1")] == [1, 1, 1, 3, 0, -1]
