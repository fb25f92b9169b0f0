"""Answers in the shapes that were observed, and what must hold of all that is read from others."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from collector.core.errors import Code
from collector.core.wallpapers import Rejected, Wallpaper

ITEM: dict[str, Any] = {
    "id": "2169oy",
    "url": "https://wallhaven.cc/w/2169oy",
    "short_url": "https://whvn.cc/2169oy",
    "views": 12,
    "favorites": 0,
    "source": "",
    "purity": "sfw",
    "category": "anime",
    "dimension_x": 1920,
    "dimension_y": 1080,
    "resolution": "1920x1080",
    "ratio": "1.78",
    "file_size": 2_809_677,
    "file_type": "image/png",
    "created_at": "2026-09-23 17:27:56",
    "colors": ["#000000", "#abbcda"],
    "path": "https://w.wallhaven.cc/full/21/wallhaven-2169oy.png",
    "thumbs": {
        "large": "https://th.wallhaven.cc/lg/21/2169oy.jpg",
        "original": "https://th.wallhaven.cc/orig/21/2169oy.jpg",
        "small": "https://th.wallhaven.cc/small/21/2169oy.jpg",
    },
}
META: dict[str, Any] = {
    "current_page": 1,
    "last_page": 9,
    "per_page": 24,
    "total": 195,
    "query": "draenei",
    "seed": None,
}
UPLOADER: dict[str, Any] = {
    "username": "\u81ea\u7531\u4f7f\u7528\u8005",
    "group": "User",
    "avatar": {
        "200px": "https://wallhaven.cc/images/user/avatar/200/11_3339efb2a813.png",
        "128px": "https://wallhaven.cc/images/user/avatar/128/11_3339efb2a813.png",
    },
}
TAG: dict[str, Any] = {
    "id": 1,
    "name": "anime",
    "alias": "Japanese cartoon, \u52d5\u6f2b",
    "category_id": 1,
    "category": "Anime & Manga",
    "purity": "sfw",
    "created_at": "2015-01-16 02:06:45",
}
OTHER_TAG: dict[str, Any] = TAG | {"id": 37, "name": "nature", "alias": ""}
DETAILS: dict[str, Any] = ITEM | {"uploader": UPLOADER, "tags": [TAG, OTHER_TAG]}


def envelope(data: object) -> bytes:
    return json.dumps({"data": data}).encode()


def assert_keepable(item: Rejected) -> None:
    assert isinstance(item, Rejected)
    assert item.code in (Code.INVALID_METADATA, Code.BAD_ID)
    assert 0 < len(item.reason) < 300
    assert "\x00" not in item.reason
    item.reason.encode()
    assert 0 < len(item.raw) <= 4000
    assert item.raw.isascii()
    assert "\x00" not in item.raw


def assert_storable(item: Wallpaper) -> None:
    assert isinstance(item, Wallpaper)
    for name in Wallpaper._fields:
        value = getattr(item, name)
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str):
                assert "\x00" not in text
                text.encode()
    if item.extra is not None:
        assert_jsonb(item.extra)


def assert_jsonb(text: str) -> None:
    """Say what Postgres asks of jsonb: strict JSON, no NUL and no half of a surrogate pair."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    value = json.loads(text, parse_constant=refuse)
    assert isinstance(value, dict)
    plain = json.dumps(value, ensure_ascii=False)
    plain.encode()
    assert "\\u0000" not in plain


texts = st.text(st.characters(), max_size=12) | st.sampled_from(["\x00", "\ud800", "a", "24", ""])
numbers = st.integers() | st.floats() | st.sampled_from([2**31, 2**63, 0, -1, 1.0])
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
