"""The two sources: a search and a collection."""

from __future__ import annotations

import json

import pytest
from unit.sources.wallhaven.shapes import ITEM, META

from collector.core.wallpapers import Page
from collector.sources import Source
from collector.sources.wallhaven import (
    CollectionName,
    Query,
    WallhavenCollection,
    WallhavenSearch,
)

API = "https://wallhaven.cc/api/v1"
KEY = "SECRETkey0123456789abcdefghijklm"
SEARCH = WallhavenSearch(API, Query(q="draenei"))
COLLECTION = WallhavenCollection(API, CollectionName("someone", 15), "110", KEY)
BODY = json.dumps({"data": [ITEM], "meta": META}).encode()


def test_a_search_asks_for_its_pages() -> None:
    assert SEARCH.page_request(2).url == (
        f"{API}/search?page=2&categories=111&purity=100&sorting=date_added&order=desc"
        "&resolutions=&ratios=&ai_art_filter=0&q=draenei"
    )


def test_a_collection_asks_for_its_pages() -> None:
    assert COLLECTION.page_request(2).url == f"{API}/collections/someone/15?page=2&purity=110"


def test_equal_questions_have_equal_search_keys() -> None:
    same = WallhavenSearch("http://sim", Query("draenei", ai_art_filter="0"), KEY)
    assert SEARCH.search_key == same.search_key
    queries = (Query(), Query(q="a"), Query(purity="010"), Query(ai_art_filter="1"))
    assert len({WallhavenSearch(API, query).search_key for query in queries}) == 4


def test_the_search_key_is_what_narrows() -> None:
    assert SEARCH.search_key == (
        "wallhaven?categories=111&purity=100&sorting=date_added&order=desc&ai_art_filter=0"
        "&q=draenei"
    )
    assert COLLECTION.search_key == "wallhaven/collections/someone/15?purity=110"


@pytest.mark.parametrize("source", [WallhavenSearch(API, Query(q="a"), KEY), COLLECTION])
def test_the_key_is_not_shown(source: Source) -> None:
    assert source.page_request(1).headers["X-API-Key"] == KEY
    assert KEY not in repr(source) + source.search_key + source.page_request(1).url


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), True),
        (Query(q="a", ratios="1x1"), True),
        (Query(order="asc"), False),
        (Query(sorting="views"), False),
    ],
)
def test_newest_first(query: Query, expected: bool) -> None:
    assert WallhavenSearch(API, query).is_newest_first is expected


def test_a_collection_promises_no_order() -> None:
    assert not COLLECTION.is_newest_first


@pytest.mark.parametrize("source", [SEARCH, COLLECTION])
def test_both_read_pages(source: Source) -> None:
    page = source.parse_page(BODY, 1)
    assert (page.ids, page.last_page, page.total) == (["2169oy"], 9, 195)
    assert source.contradictions(page) == ()


def test_the_unfiltered_search_is_another_search_with_the_same_key() -> None:
    unfiltered = WallhavenSearch(API, Query(q="a", purity="010"), KEY).unfiltered
    assert unfiltered == WallhavenSearch(API, Query(purity="010"), KEY)
    assert unfiltered.unfiltered is None
    assert COLLECTION.unfiltered is None


def test_a_lost_filter_is_told() -> None:
    page = Page(1, SEARCH.parse_page(BODY, 1).items, 20_890, 501_359, 24, echo=None)
    (found,) = SEARCH.contradictions(page, 501_359)
    assert str(found) == "q: the total, 501359, is no smaller than without filters"


@pytest.mark.parametrize("total", [None, 195])
def test_a_collection_has_purity_alone(total: int | None) -> None:
    narrow = WallhavenCollection(API, CollectionName("someone", 15), "010")
    (found,) = narrow.contradictions(narrow.parse_page(BODY, 1), total)
    assert (found.parameter, found.wallhaven_ids) == ("purity", ("2169oy",))
