"""Object keys: any row gives a well-formed key or none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.errors import Code, Fault, ItemError
from collector.core.images import ImageType
from collector.core.keys import expected_type, is_wallhaven_id, object_key

KEY = re.compile(r"^wallpapers/[A-Za-z0-9]{1,16}\.(jpg|png|webp)\Z")
ADDRESS = "https://w.wallhaven.cc/full/21/wallhaven-2169oy"

anything = st.text(st.characters(), max_size=40)
ids = st.from_regex(r"\A[A-Za-z0-9]{1,16}\Z") | anything
extensions = st.sampled_from(["jpg", "jpeg", "png", "webp", "gif", "svg", "", "jpg/", "png\n"])
urls = anything | st.builds("{}.{}".format, st.sampled_from([ADDRESS, "http://["]), extensions)
file_types = st.none() | st.sampled_from([*ImageType, "image/gif", "", "text/html"]) | anything

HOSTILE_IDS = [
    *("", "../x", "a/b", "A%2e", "abc\n", "abc\r", "\nabc", "abc ", " abc", "a.b", "a\\b"),
    *("a\x00b", "a" * 17, "a" * 10_000, "\ud800", "\u0663", "\u00e9", "\u017f"),
    # Cyrillic, full width, and the Kelvin sign: they look like letters that are allowed.
    *("2169o\u0443", "abc\uff11", "\u212a"),
]


def key_or_error(wallhaven_id: str, url: str, file_type: str | None) -> str | ItemError:
    try:
        return object_key(wallhaven_id, expected_type(file_type, url))
    except ItemError as error:
        return error


@pytest.mark.case("SEC-02")
@given(ids, urls, file_types)
def test_a_key_has_our_shape_or_the_item_fails(
    wallhaven_id: str, url: str, file_type: str | None
) -> None:
    found = key_or_error(wallhaven_id, url, file_type)
    if isinstance(found, str):
        assert KEY.match(found)
    else:
        assert found.code in (Code.BAD_ID, Code.TYPE_MISMATCH)
        assert found.fault is Fault.PERMANENT
        assert len(found.reason) < 200


@given(st.from_regex(r"[A-Za-z0-9]{1,16}", fullmatch=True), st.sampled_from(ImageType))
def test_every_good_id_makes_its_own_key(wallhaven_id: str, image_type: ImageType) -> None:
    key = object_key(wallhaven_id, image_type)
    assert key == f"wallpapers/{wallhaven_id}.{image_type.extension}"
    assert KEY.match(key)


@pytest.mark.parametrize("wallhaven_id", HOSTILE_IDS, ids=lambda text: ascii(text)[:20])
def test_hostile_ids_make_no_key(wallhaven_id: str) -> None:
    assert not is_wallhaven_id(wallhaven_id)
    with pytest.raises(ItemError, match="bad_id") as caught:
        object_key(wallhaven_id, ImageType.PNG)
    assert caught.value.code is Code.BAD_ID


@pytest.mark.parametrize("wallhaven_id", ["a", "0", "2169oy", "A1b2C3d4E5f6G7h8"])
def test_good_ids(wallhaven_id: str) -> None:
    assert is_wallhaven_id(wallhaven_id)


@pytest.mark.parametrize(
    ("file_type", "extension", "expected"),
    [
        ("image/png", "jpg", ImageType.PNG),
        ("image/jpeg", "png", ImageType.JPEG),
        ("image/webp", "", ImageType.WEBP),
        (" IMAGE/PNG ", "jpg", ImageType.PNG),
        (None, "jpg", ImageType.JPEG),
        (None, "jpeg", ImageType.JPEG),
        (None, "PNG", ImageType.PNG),
        (None, "webp", ImageType.WEBP),
        (None, "png?x=y.jpg", ImageType.PNG),
        (None, "png#y.jpg", ImageType.PNG),
        ("", "png", ImageType.PNG),
    ],
)
def test_the_file_type_decides_and_the_address_only_without_one(
    file_type: str | None, extension: str, expected: ImageType
) -> None:
    assert expected_type(file_type, f"{ADDRESS}.{extension}") is expected


@pytest.mark.parametrize(
    ("file_type", "url"),
    [
        ("image/gif", f"{ADDRESS}.jpg"),
        ("text/html", f"{ADDRESS}.png"),
        (" ", f"{ADDRESS}.png"),
        ("x" * 10_000, f"{ADDRESS}.png"),
        (None, f"{ADDRESS}.gif"),
        (None, f"{ADDRESS}.jpg/"),
        (None, f"{ADDRESS}.jpg.exe"),
        (None, "https://host.jpg"),
        (None, "https://host/x?y=.jpg"),
        (None, ADDRESS),
        (None, ""),
        (None, "http://[::1/x.jpg"),
        (None, "https://a\u2100b/x.jpg"),
    ],
    ids=lambda value: ascii(value)[:24],
)
def test_a_row_that_names_no_stored_type(file_type: str | None, url: str) -> None:
    with pytest.raises(ItemError) as caught:
        expected_type(file_type, url)
    assert caught.value.code is Code.TYPE_MISMATCH
    assert caught.value.fault is Fault.PERMANENT
    assert len(caught.value.reason) < 200
