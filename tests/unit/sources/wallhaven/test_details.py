"""What is said of one wallpaper and of one tag."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.sources.wallhaven.shapes import (
    DETAILS,
    ITEM,
    META,
    OTHER_TAG,
    TAG,
    UPLOADER,
    assert_jsonb,
    assert_keepable,
    assert_storable,
    envelope,
    json_values,
    texts,
)

from collector.core.errors import Code, PayloadError
from collector.core.wallpapers import Rejected, Tag, Uploader, WallpaperDetails
from collector.sources.wallhaven import WallhavenDetails, parse_details, parse_page

GUEST = WallhavenDetails("https://wallhaven.cc/api/v1")
KEYED = WallhavenDetails("https://wallhaven.cc/api/v1", "SECRETkey")
ANIME = Tag(
    tag_id=1,
    name="anime",
    alias="Japanese cartoon, \u52d5\u6f2b",
    category_id=1,
    category="Anime & Manga",
    purity="sfw",
    source_created_at=datetime(2015, 1, 16, 2, 6, 45, tzinfo=UTC),
    extra=None,
)


def details(**changes: object) -> WallpaperDetails:
    found = parse_details(envelope(DETAILS | changes), "2169oy")
    assert isinstance(found, WallpaperDetails), found
    return found


def test_a_wallpaper_with_uploader_and_tags() -> None:
    found = details()
    assert found.uploader == Uploader(
        username="\u81ea\u7531\u4f7f\u7528\u8005",
        group="User",
        avatars=UPLOADER["avatar"],
        extra=None,
    )
    assert found.tags[0] == ANIME
    assert [(tag.tag_id, tag.name, tag.alias) for tag in found.tags[1:]] == [(37, "nature", "")]
    assert (found.wallpaper.views, found.wallpaper.favorites) == (12, 0)
    assert found.rejected_tags == ()
    assert found.unknown_fields == {}


def test_its_wallpaper_is_the_listed_one() -> None:
    listed = parse_page(json.dumps({"data": [ITEM], "meta": META}).encode(), 1)
    assert details().wallpaper == listed.items[0]


@pytest.mark.parametrize("changes", [{"uploader": None, "tags": None}, {"tags": []}], ids=str)
def test_there_may_be_neither_uploader_nor_tags(changes: dict[str, object]) -> None:
    assert details(**changes).tags == ()


def test_a_listed_item_may_come_without_them() -> None:
    found = parse_details(envelope(ITEM), "2169oy")
    assert isinstance(found, WallpaperDetails)
    assert (found.uploader, found.tags) == (None, ())


def test_a_tag_stands_there_once() -> None:
    assert [tag.tag_id for tag in details(tags=[TAG, OTHER_TAG, TAG]).tags] == [1, 37]


@pytest.mark.parametrize(
    "tag",
    [
        *(None, "anime", 5, [], {}, {"id": 1}, {"name": "anime"}, TAG | {"id": "1"}),
        *(TAG | {"id": 0}, TAG | {"id": True}, TAG | {"name": ""}, TAG | {"name": "a\x00"}),
        *(TAG | {"created_at": "once"}, TAG | {"category_id": -1}, TAG | {"purity": 1}),
    ],
    ids=lambda tag: ascii(tag)[:30],
)
def test_a_bad_tag_is_rejected_alone(tag: object) -> None:
    found = details(tags=[tag, OTHER_TAG])
    assert [tag.name for tag in found.tags] == ["nature"]
    (rejected,) = found.rejected_tags
    assert (rejected.wallhaven_id, rejected.code) == ("2169oy", Code.INVALID_METADATA)
    assert json.loads(rejected.raw) == tag
    assert_keepable(rejected)


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"id": "../x"}, Code.BAD_ID, "id: "),
        ({"path": None}, Code.INVALID_METADATA, "path: "),
        ({"file_size": "1"}, Code.INVALID_METADATA, "file_size: "),
        ({"tags": "anime"}, Code.INVALID_METADATA, "tags: "),
        ({"uploader": {}}, Code.INVALID_METADATA, "uploader.username: "),
        ({"uploader": "someone"}, Code.INVALID_METADATA, "uploader: "),
        ({"uploader": UPLOADER | {"avatar": {"32px": 5}}}, Code.INVALID_METADATA, "uploader.avat"),
    ],
    ids=str,
)
def test_a_bad_wallpaper_is_rejected(changes: dict[str, Any], code: Code, reason: str) -> None:
    found = parse_details(envelope(DETAILS | changes), "2169oy")
    assert isinstance(found, Rejected)
    assert (found.code, found.reason[: len(reason)]) == (code, reason)
    assert_keepable(found)


def test_avatars_of_another_size_are_kept() -> None:
    uploader = details(
        uploader=UPLOADER | {"avatar": {"32px": "a", "20px": None, "64px": 5}}
    ).uploader
    assert uploader
    assert uploader.avatars == {"32px": "a"}
    assert uploader.extra == '{"avatar": {"64px": 5}}'


@pytest.mark.parametrize("name", ["\x00", "hostile" * 1000])
def test_no_reason_repeats_a_name_that_was_received(name: str) -> None:
    assert details(uploader=UPLOADER | {"avatar": {name: None}}).rejected_tags == ()
    found = parse_details(envelope(DETAILS | {"uploader": {name: 1}}), "2169oy")
    assert isinstance(found, Rejected)
    assert name not in found.reason


def test_unknown_fields_are_kept_and_counted() -> None:
    found = details(
        ai=True,
        uploader=UPLOADER | {"id": 11},
        tags=[TAG | {"count": 5}, OTHER_TAG | {"count": 6}],
    )
    assert found.unknown_fields == {"ai": 1, "uploader.id": 1, "tags.count": 2}
    assert found.wallpaper.extra == '{"ai": true}'
    assert found.uploader
    assert found.uploader.extra == '{"id": 11}'
    assert [tag.extra for tag in found.tags] == ['{"count": 5}', '{"count": 6}']


# --- Who asks -----------------------------------------------------------------------------------


def test_the_key_travels_as_a_header_and_makes_us_no_guest() -> None:
    assert (GUEST.is_guest, KEYED.is_guest) == (True, False)
    guest, keyed = GUEST.details_request("94x38z"), KEYED.details_request("94x38z")
    assert guest.url == keyed.url == "https://wallhaven.cc/api/v1/w/94x38z"
    assert "X-API-Key" not in guest.headers
    assert keyed.headers["X-API-Key"] == "SECRETkey"
    assert "SECRETkey" not in repr(KEYED)


def test_an_answer_about_another_wallpaper_is_refused() -> None:
    body = b'{"data": {"id": "2169oy", "path": "https://w.wallhaven.cc/a.png"}}'
    with pytest.raises(PayloadError, match="not about 94x38z"):
        GUEST.parse_details(body, "94x38z")


# --- Whatever comes -----------------------------------------------------------------------------

ANOTHER_SHAPE = [
    *(b"", b"<html>", b'{"error":"Nothing here"}', b"[]", b"null", b'{"data":[]}', b'{"data":"x"}'),
    *(b'{"data":{},"data":{}}', b'{"data":{"x":NaN}}', b'{"data":' + b"[" * 100_000),
]


@pytest.mark.parametrize("body", ANOTHER_SHAPE, ids=lambda body: ascii(body)[:24])
def test_an_answer_of_another_shape(body: bytes) -> None:
    with pytest.raises(PayloadError, match=r"not strict JSON|an object `data`"):
        parse_details(body, "2169oy")


def test_an_answer_about_something_else() -> None:
    with pytest.raises(PayloadError, match="not about 94x38z"):
        parse_details(envelope(DETAILS), "94x38z")


@pytest.mark.parametrize("depth", [10, 500, 900, 1100, 1500, 5000, 100_000])
def test_deep_nesting_is_read_or_refused(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    for place in (b'"later"', b'"tags"', b'"uploader"'):
        body = envelope(ITEM).replace(b'"views": 12', place + b": " + nested)
        check_details(body)


def check_details(body: bytes) -> None:
    try:
        found = parse_details(body, "2169oy")
    except PayloadError:
        return
    if isinstance(found, Rejected):
        assert_keepable(found)
        return
    assert_storable(found.wallpaper)
    for tag in found.tags:
        check_storable_tag(tag)
    for rejected in found.rejected_tags:
        assert_keepable(rejected)
    if found.uploader and found.uploader.extra:
        assert_jsonb(found.uploader.extra)
    assert all(isinstance(name, str) for name in found.unknown_fields)


def check_storable_tag(tag: Tag) -> None:
    for text in (tag.name, tag.alias, tag.category, tag.purity):
        assert "\x00" not in (text or "")
        (text or "").encode()
    assert 1 <= tag.tag_id < 2**31
    if tag.extra is not None:
        assert_jsonb(tag.extra)


tags = st.builds(
    lambda changes: TAG | changes,
    st.dictionaries(st.sampled_from(sorted(TAG)) | texts, json_values),
)
uploaders = st.builds(
    lambda changes: UPLOADER | changes,
    st.dictionaries(st.sampled_from(sorted(UPLOADER)) | texts, json_values, max_size=2),
)
answers = st.builds(
    lambda changes, tags, uploader: DETAILS | {"tags": tags, "uploader": uploader} | changes,
    st.dictionaries(st.sampled_from(sorted(DETAILS)) | texts, json_values, max_size=2),
    st.lists(tags | json_values, max_size=3) | json_values,
    uploaders | json_values,
)


@given(answers | json_values)
def test_any_details_are_read_or_refused(data: object) -> None:
    check_details(envelope(data))


@given(st.binary(max_size=200) | st.builds(lambda value: json.dumps(value).encode(), json_values))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    check_details(body)
