"""What is said of an account: its settings, and collections."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.sources.wallhaven.shapes import (
    ACCOUNT,
    COLLECTION,
    assert_jsonb,
    assert_keepable,
    envelope,
    json_values,
    texts,
)

from collector.core.errors import Code, PayloadError
from collector.core.wallpapers import AccountSettings, Collection, Rejected, field_names
from collector.sources.wallhaven import parse_account_settings, parse_collections


def account(**changes: object) -> AccountSettings:
    return parse_account_settings(envelope(ACCOUNT | changes))


def test_the_settings_of_an_account() -> None:
    assert account() == AccountSettings(
        per_page=24,
        thumb_size="orig",
        purity=("sfw", "sketchy", "nsfw"),
        categories=("general", "anime", "people"),
        resolutions=("1920x1080", "2560x1440"),
        aspect_ratios=("16x9",),
        toplist_range="6M",
        tag_blacklist=("blacklist tag",),
        user_blacklist=(),
        ai_art_filter=1,
        extra=None,
    )


@pytest.mark.parametrize(("given_size", "size"), [("24", 24), (32, 32), ("64", 64)])
def test_the_page_size_is_a_number_or_a_string(given_size: object, size: int) -> None:
    assert account(per_page=given_size).per_page == size


@pytest.mark.parametrize("name", ["resolutions", "aspect_ratios", "tag_blacklist", "purity"])
@pytest.mark.parametrize("value", [None, "", {}, [], [""], 5, False, [None, 5]], ids=repr)
def test_a_list_may_come_as_something_else(name: str, value: object) -> None:
    assert getattr(account(**{name: value}), name) == ()


@pytest.mark.parametrize(
    ("value", "flag"), [(0, 0), (1, 1), ("1", 1), (True, 1), (False, 0), (None, None)]
)
def test_the_filter_of_ai_art(value: object, flag: int | None) -> None:
    assert account(ai_art_filter=value).ai_art_filter == flag


@pytest.mark.parametrize(
    "changes",
    [
        *({"per_page": value} for value in (None, 0, "x", 1.5, [], True)),
        *({"ai_art_filter": value} for value in (2, "yes", [])),
        {"toplist_range": 5},
        {"tag_blacklist": ["a\x00"]},
    ],
    ids=str,
)
def test_settings_that_cannot_be_understood(changes: dict[str, object]) -> None:
    with pytest.raises(PayloadError, match=f"settings: {next(iter(changes))}"):
        account(**changes)


def test_unknown_settings_are_kept() -> None:
    extra = account(theme="dark", later=[1]).extra
    assert extra == '{"theme": "dark", "later": [1]}'
    assert field_names(extra) == ("theme", "later")


# --- Collections --------------------------------------------------------------------------------


def test_collections_in_their_order() -> None:
    private = COLLECTION | {"id": 16, "public": 0, "label": ""}
    assert parse_collections(envelope([COLLECTION, private])) == (
        Collection(15, "Default", 38, True, 10, None),
        Collection(16, "", 38, False, 10, None),
    )


def test_a_user_without_collections() -> None:
    assert parse_collections(envelope([])) == ()


@pytest.mark.parametrize(("value", "public"), [(1, True), (0, False), (True, True), (None, None)])
def test_who_may_see_it(value: object, public: bool | None) -> None:
    (found,) = parse_collections(envelope([COLLECTION | {"public": value}]))
    assert isinstance(found, Collection)
    assert found.is_public is public


def test_unknown_fields_are_kept() -> None:
    (found,) = parse_collections(envelope([COLLECTION | {"later": 1}]))
    assert isinstance(found, Collection)
    assert field_names(found.extra) == ("later",)


@pytest.mark.parametrize(
    "item",
    [
        *(None, "x", 5, [], {}, COLLECTION | {"id": "15"}, COLLECTION | {"id": 0}),
        *(COLLECTION | {"public": 2}, COLLECTION | {"count": -1}, COLLECTION | {"label": None}),
    ],
    ids=ascii,
)
def test_a_bad_collection_is_rejected_alone(item: object) -> None:
    rejected, good = parse_collections(envelope([item, COLLECTION]))
    assert isinstance(good, Collection)
    assert isinstance(rejected, Rejected)
    assert rejected.wallhaven_id is None
    assert rejected.code in (Code.INVALID_METADATA, Code.BAD_ID)
    assert_keepable(rejected)


# --- Whatever comes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"null", b'{"error":"Unauthorized"}', b'{"data":5}'], ids=ascii
)
def test_an_answer_of_another_shape(body: bytes) -> None:
    with pytest.raises(PayloadError):
        parse_collections(body)
    with pytest.raises(PayloadError):
        parse_account_settings(body)


def check(body: bytes) -> None:
    try:
        extra = parse_account_settings(body).extra
        assert extra is None or assert_jsonb(extra) is None
    except PayloadError:
        pass
    try:
        found = parse_collections(body)
    except PayloadError:
        return
    for item in found:
        if isinstance(item, Rejected):
            assert_keepable(item)
        elif item.extra is not None:
            assert_jsonb(item.extra)


@pytest.mark.parametrize("depth", [10, 500, 900, 1100, 1500, 5000, 100_000])
def test_deep_nesting_is_read_or_refused(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    check(envelope(ACCOUNT).replace(b'"orig"', nested))
    check(envelope(ACCOUNT | {"later": "here"}).replace(b'"here"', nested))
    check(envelope([COLLECTION | {"later": "here"}]).replace(b'"here"', nested))


accounts = st.builds(
    lambda changes: ACCOUNT | changes,
    st.dictionaries(st.sampled_from(sorted(ACCOUNT)) | texts, json_values, max_size=3),
)
collections = st.builds(
    lambda changes: COLLECTION | changes,
    st.dictionaries(st.sampled_from(sorted(COLLECTION)) | texts, json_values, max_size=3),
)


@given(accounts | st.lists(collections | json_values, max_size=3) | json_values)
def test_any_answer_is_read_or_refused(data: object) -> None:
    check(envelope(data))


@given(st.binary(max_size=200) | st.builds(lambda value: json.dumps(value).encode(), json_values))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    check(body)
