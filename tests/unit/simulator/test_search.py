from __future__ import annotations

import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.simulator import Catalogue, SimulatorOptions, Wallpaper, known_names
from collector.simulator.search import (
    Query,
    criteria_from,
    page_from,
    parse_query,
    search,
    tag_bits,
)

CATALOGUE = Catalogue(SimulatorOptions(wallpapers=1_500, sketchy_share=0.2, nsfw_share=0.1))


def _find(keyed: bool = False, **parameters: str) -> list[Wallpaper]:
    return [CATALOGUE[index] for index in search(CATALOGUE, criteria_from(parameters, keyed=keyed))]


def _names(item: Wallpaper) -> set[str]:
    return {tag.name for tag in item.tags}


SFW = [item for item in CATALOGUE if item.purity == "sfw"]


def test_the_default_is_all_sfw_items_newest_first() -> None:
    assert _find() == SFW
    assert _find(q="draenei", categories="111", purity="100") == SFW
    assert _find(ai_art_filter="1") == SFW


@pytest.mark.parametrize(
    ("bits", "categories"),
    [("100", {"general"}), ("010", {"anime"}), ("001", {"people"}), ("011", {"anime", "people"})],
)
def test_categories_filter(bits: str, categories: set[str]) -> None:
    assert _find(categories=bits) == [item for item in SFW if item.category in categories]


def test_invalid_categories_lift_the_filter() -> None:
    assert _find(categories="abc") == [item for item in CATALOGUE if item.purity != "nsfw"]


@pytest.mark.parametrize(
    ("bits", "keyed", "purities"),
    [
        ("100", False, {"sfw"}),
        ("010", False, {"sketchy"}),
        ("001", False, set()),
        ("111", False, {"sfw", "sketchy"}),
        ("001", True, {"nsfw"}),
        ("111", True, {"sfw", "sketchy", "nsfw"}),
        ("xyz", False, {"sfw"}),
    ],
)
def test_purity_filters_and_drops_nsfw_silently(bits: str, keyed: bool, purities: set[str]) -> None:
    expected = [item for item in CATALOGUE if item.purity in purities]
    assert _find(keyed, purity=bits) == expected


def test_words_must_or_must_not_match() -> None:
    assert _find(q="nature") == [item for item in SFW if "nature" in _names(item)]
    assert _find(q="-nature") == [item for item in SFW if "nature" not in _names(item)]
    both = _find(q="+nature -anime")
    assert both == [i for i in SFW if "nature" in _names(i) and "anime" not in _names(i)]
    assert both
    assert _find(q="no-such-word") == []
    assert _find(q="-draenei") == []


def test_users_types_and_tags_filter_exactly() -> None:
    archon = _find(q="@archon")
    assert archon == [item for item in SFW if item.uploader.username == "Archon"]
    assert archon
    assert _find(q="@nobody") == []
    assert _find(q="type:png") == [item for item in SFW if item.file_type == "image/png"]
    assert _find(q="type:jpg") == [item for item in SFW if item.file_type == "image/jpeg"]
    assert _find(q="id:37") == [item for item in SFW if "nature" in _names(item)]
    assert _find(q="id:999999999") == []
    assert _find(q="id:37 night") == []


def test_like_finds_the_item_itself_and_similar_ones() -> None:
    seed = next(item for item in SFW if len(item.tags) > 5)
    found = _find(q=f"like:{seed.id}")
    assert seed in found
    assert 1 < len(found) < len(SFW)
    assert all(len(_names(item) & _names(seed)) >= 4 for item in found)
    assert _find(q=f"like:{seed.id} night") == []
    assert _find(q="like:000000") == []


def test_sizes_filter() -> None:
    assert _find(atleast="2560x1440") == [
        item for item in SFW if item.dimension_x >= 2560 and item.dimension_y >= 1440
    ]
    assert _find(resolutions="1920x1080,1200x1600") == [
        item for item in SFW if item.resolution in ("1920x1080", "1200x1600")
    ]
    assert _find(atleast="large", resolutions="1080p") == SFW


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ("16x9", {"1.78"}),
        ("1366x768", {"1.78"}),
        ("16x10,3x2", {"1.6", "1.5"}),
        ("21x9", {"2.39"}),
        ("9x16", {"0.56"}),
        ("portrait", {"0.56", "0.75"}),
        ("landscape", {"1.78", "1.6", "2.39", "1.5", "1.33"}),
        ("1x1,16:9", {"1"}),
    ],
)
def test_ratios_compare_with_two_decimals(ratios: str, expected: set[str]) -> None:
    found = _find(ratios=ratios)
    assert found == [item for item in SFW if item.ratio in expected]
    assert {item.ratio for item in found} == expected


@pytest.mark.parametrize("malformed", ["16:9", "1.78", "16x0", "0x0", "wide"])
def test_malformed_ratios_are_ignored(malformed: str) -> None:
    assert _find(ratios=malformed) == SFW


def test_colors_filter() -> None:
    found = _find(colors="660000")
    assert found == [item for item in SFW if "#660000" in item.colors]
    assert 0 < len(found) < len(SFW)
    assert _find(colors="not-a-color") == SFW


@pytest.mark.parametrize("sorting", ["views", "favorites"])
def test_sorting_by_counters(sorting: str) -> None:
    counters = [getattr(item, sorting) for item in _find(sorting=sorting)]
    assert counters == sorted(counters, reverse=True)
    rising = [getattr(item, sorting) for item in _find(sorting=sorting, order="asc")]
    assert rising == sorted(counters)


def test_date_added_ascending_is_the_reverse() -> None:
    assert _find(order="asc") == SFW[::-1]
    assert _find(order="sideways") == SFW


@pytest.mark.parametrize(("name", "days"), [("1M", 30), ("6M", 182), ("1y", 365), ("bad", 30)])
def test_a_toplist_is_limited_to_its_range(name: str, days: int) -> None:
    found = _find(sorting="toplist", topRange=name)
    oldest = CATALOGUE.newest - timedelta(days=days)
    assert {item.id for item in found} == {item.id for item in SFW if item.created_at >= oldest}
    favorites = [item.favorites for item in found]
    assert favorites == sorted(favorites, reverse=True)


def test_the_top_range_counts_for_toplists_alone() -> None:
    assert _find(topRange="1d") == SFW


@pytest.mark.parametrize("sorting", ["relevance", "hot", "random", "no-such-sorting"])
def test_every_sorting_finds_the_same_items(sorting: str) -> None:
    assert sorted(item.index for item in _find(sorting=sorting)) == [item.index for item in SFW]


def test_a_hundred_thousand_items_are_searched_in_no_time() -> None:
    catalogue = Catalogue(SimulatorOptions(wallpapers=100_000))
    assert len(catalogue.columns.purity) == 100_000
    started = time.process_time()
    found = search(catalogue, criteria_from({"q": "draenei"}, keyed=False))
    assert time.process_time() - started < 1  # about 15 ms; garbage may be collected
    assert len(found) == 100_000


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


def test_the_names_that_are_printed_at_the_start_find_something() -> None:
    users, tags, _ = (line.partition(": ")[2].split(", ") for line in known_names())
    for word in (*users, *(tag.split(" ")[0] for tag in tags)):
        assert _find(q=word), word
