"""Which items of a page are staged, and how listings are told apart."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from collector.catalog.staging import ListedBefore, listing_digest, staging_records
from collector.core.errors import Code
from collector.core.wallpapers import Page, Rejected, Wallpaper

NOTHING = Wallpaper(**dict.fromkeys(Wallpaper._fields))  # type: ignore[arg-type]
LISTED = NOTHING._replace(wallhaven_id="a", url="https://w/a.jpg", views=1, favorites=2)
COUNTERS = ("views", "favorites")
LASTING = [name for name in Wallpaper._fields if name not in COUNTERS]


@pytest.mark.parametrize("name", LASTING)
def test_every_lasting_field_tells_listings_apart(name: str) -> None:
    given: list[Any] = [None, "", "None", "1", 1, ["1"], [], datetime(2026, 1, 1, tzinfo=UTC)]
    digests = {listing_digest(LISTED._replace(**{name: value})) for value in given}
    assert len(digests) == len(given)


@pytest.mark.parametrize("name", COUNTERS)
def test_counters_do_not(name: str) -> None:
    assert listing_digest(LISTED._replace(**{name: 7})) == listing_digest(LISTED)


def test_a_value_that_moves_to_another_field_is_another_listing() -> None:
    one, other = (LISTED._replace(**{name: "x"}) for name in ("source", "category"))
    assert listing_digest(one) != listing_digest(other)


def test_the_same_listing_has_the_same_digest_whatever_read_it() -> None:
    twin = LISTED._replace(url="".join(["https://w", "/a.jpg"]), colors=list("ab"))
    assert listing_digest(twin) == listing_digest(LISTED._replace(colors=["a", "b"]))


def staged(item: Wallpaper | Rejected, before: ListedBefore | None) -> dict[str, Any] | None:
    page = Page(3, (item,), last_page=9, total=200, per_page=24)
    records = staging_records(7, page, 2, {"a": before} if before else {})
    if not records:
        return None
    (record,) = records
    assert record[:4] == (7, 3, 2, 0)
    names = ("code", "reason", "rejected", *Wallpaper._fields, "digest")
    return dict(zip(names, record[4:], strict=True))


def test_an_item_is_staged_as_far_as_it_is_new() -> None:
    digest = listing_digest(LISTED)
    whole = {**dict.fromkeys(("code", "reason", "rejected")), **LISTED._asdict(), "digest": digest}
    for before in (None, ListedBefore(None, 1, 2), ListedBefore(b"other", 1, 2)):
        assert staged(LISTED, before) == whole
    counters = dict.fromkeys(whole) | {"wallhaven_id": "a", "views": 1, "favorites": 2}
    assert staged(LISTED, ListedBefore(digest, 1, 1)) == counters
    assert staged(LISTED, ListedBefore(digest, 1, 2)) is None
    assert staged(LISTED._replace(views=None, favorites=None), ListedBefore(digest, 1, 2)) is None


def test_a_rejected_item_is_always_staged() -> None:
    rejected = Rejected("a", Code.BAD_ID, "why", "{}")
    found = staged(rejected, ListedBefore(b"", 1, 2))
    assert found is not None
    assert {name: value for name, value in found.items() if value is not None} == {
        "code": "bad_id",
        "reason": "why",
        "rejected": "{}",
        "wallhaven_id": "a",
    }
