"""The filter check: it finds what does not fit the question, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.sources.wallhaven.shapes import ITEM, META

from collector.core.wallpapers import Page, Rejected, Wallpaper
from collector.sources.wallhaven import Query, check_answer, parse_page

# Of the whole site, all sfw (observed 2026-10).
EVERYTHING = 501_359


def page(*items: dict[str, object], number: int = 1, **changes: object) -> Page:
    """Return a page of the items, each given by what differs from the usual one."""
    listed = [ITEM | {"id": f"a{n}"} | item for n, item in enumerate(items)]
    body = json.dumps({"data": listed, "meta": META | {"current_page": number}}).encode()
    return replace(parse_page(body, number), **changes)  # type: ignore[arg-type]


def told(query: Query, answer: Page, unfiltered_total: int | None = None) -> list[str]:
    return [
        found.parameter for found in check_answer(query, answer, unfiltered_total=unfiltered_total)
    ]


def size(width: int, height: int, ratio: str = "") -> dict[str, object]:
    text = ratio or f"{round(width / height, 2):g}"
    return {"dimension_x": width, "dimension_y": height, "ratio": text}


FULL_HD = size(1920, 1080)

OUTSIDE = [
    (Query(purity="100"), {"purity": "sketchy"}, "purity"),
    (Query(purity="010"), {"purity": "sfw"}, "purity"),
    (Query(purity="110"), {"purity": "nsfw"}, "purity"),
    (Query(categories="110"), {"category": "people"}, "categories"),
    (Query(categories="001"), {"category": "general"}, "categories"),
    (Query(atleast="1920x1080"), size(1919, 1080), "atleast"),
    (Query(atleast="1920x1080"), size(3840, 1079), "atleast"),
    (Query(atleast="1920x1080"), size(1080, 1920), "atleast"),
    (Query(resolutions="1920x1080"), size(1080, 1920), "resolutions"),
    (Query(resolutions="1920x1080,2560x1440"), size(1920, 1440), "resolutions"),
    (Query(ratios="16x9"), size(1920, 1200), "ratios"),
    (Query(ratios="16x10"), FULL_HD, "ratios"),
    (Query(ratios="16x9"), size(1080, 1920), "ratios"),
    (Query(ratios="16x9,16x10"), size(1000, 1000), "ratios"),
    (Query(ratios="21x9"), FULL_HD, "ratios"),
    (Query(ratios="32x9"), size(2560, 1080), "ratios"),
    (Query(ratios="landscape"), size(1080, 1920), "ratios"),
    (Query(ratios="portrait"), FULL_HD, "ratios"),
    (Query(ratios="portrait,16x9"), size(1920, 1200), "ratios"),
]


@pytest.mark.parametrize(("query", "item", "parameter"), OUTSIDE, ids=repr)
def test_an_item_outside_is_told_with_its_parameter(
    query: Query, item: dict[str, object], parameter: str
) -> None:
    inside = {"category": "general", "purity": "sfw"}
    (found,) = [
        contradiction
        for contradiction in check_answer(query, page(item, inside, item))
        if "a0" in contradiction.wallhaven_ids
    ]
    assert found.parameter == parameter
    assert {"a0", "a2"} <= set(found.wallhaven_ids)
    assert str(found) == (f"{parameter}: {len(found.wallhaven_ids)} of 3 items do not match")


INSIDE = [
    (Query(purity="110"), {"purity": "sketchy"}),
    # The nsfw digit is lost without a key; what comes is still what was asked for.
    (Query(purity="111"), {"purity": "sfw"}),
    (Query(categories="010"), {"category": "anime"}),
    (Query(purity="100", categories="100"), {"purity": "mild", "category": "games"}),
    (Query(purity="100", categories="100"), {"purity": None, "category": None}),
    (Query(atleast="1920x1080"), FULL_HD),
    (Query(atleast="1x1"), size(1, 1)),
    (Query(atleast="9999x9999"), {"dimension_x": None, "dimension_y": None}),
    (Query(resolutions="1280x720,1920x1080"), FULL_HD),
    (Query(resolutions="1x1"), {"dimension_x": None}),
    (Query(ratios="16x9"), size(1366, 768)),
    (Query(ratios="16x9"), size(1360, 765)),
    (Query(ratios="10x16"), size(1200, 1920, "0.63")),
    (Query(ratios="10x16"), size(800, 1280, "0.62")),
    (Query(ratios="1x1"), size(1000, 1004)),
    (Query(ratios="2x1"), size(2000, 1000, "2")),
    (Query(ratios="16x10"), size(1920, 1200, "1.6")),
    (Query(ratios="21x9"), size(2560, 1080)),
    (Query(ratios="21x9"), size(3440, 1440)),
    (Query(ratios="21x9"), size(5120, 2160)),
    (Query(ratios="7x3"), size(2560, 1070)),
    (Query(ratios="9x18,landscape"), FULL_HD),
    (Query(ratios="landscape"), size(1000, 1000)),
    (Query(ratios="portrait"), size(1000, 1000)),
    (Query(ratios="9x16"), {"dimension_y": None}),
]


@pytest.mark.parametrize(("query", "item"), INSIDE, ids=repr)
def test_an_item_that_fits_is_no_alarm(query: Query, item: dict[str, object]) -> None:
    assert told(query, page({"purity": "sfw", "category": "anime"} | item)) == []


def test_what_cannot_become_a_row_is_not_judged() -> None:
    answer = page({"purity": "nsfw", "file_size": "x"})
    assert isinstance(answer.items[0], Rejected)
    assert told(Query(), answer) == []


def test_each_parameter_is_told_once() -> None:
    answer = page(*[{"purity": "nsfw", "category": "people"} | size(100, 200)] * 24)
    query = Query(categories="110", atleast="1920x1080", ratios="16x9", resolutions="1920x1080")
    assert told(query, answer) == ["purity", "categories", "atleast", "resolutions", "ratios"]


# --- Pages --------------------------------------------------------------------------------------


def test_a_first_page_without_what_it_counts() -> None:
    (found,) = check_answer(Query(), page(total=EVERYTHING, last_page=20_890))
    assert str(found) == "sorting: page 1 is empty although the total is 501359"


@pytest.mark.parametrize(
    "answer",
    [
        page(total=0, last_page=1),
        page(number=2),
        page(ITEM, total=0),
        page(*[ITEM] * 2, total=EVERYTHING, last_page=20_890),
    ],
    ids=["nothing found", "a later page", "an item too many", "a short page"],
)
def test_an_empty_or_short_page_is_no_alarm(answer: Page) -> None:
    assert told(Query(categories="111"), answer) == []


def test_another_page_than_was_asked_for() -> None:
    answer = page(ITEM, number=5, current_page=1, last_page=9)
    assert [str(found) for found in check_answer(Query(), answer)] == [
        "page: the answer is page 1, not page 5"
    ]


@pytest.mark.parametrize(("current", "last"), [(None, 9), (5, 9), (5, 4), (4, 4), (1, 4)])
def test_the_page_or_one_after_the_end_is_no_alarm(current: int | None, last: int) -> None:
    answer = page(ITEM, number=5, current_page=current, last_page=last, total=24 * last)
    assert told(Query(), answer) == []


@pytest.mark.parametrize(
    ("total", "last", "items", "names"),
    [
        (96, 4, 1, []),
        (119, 4, 1, []),
        (120, 4, 1, ["last_page"]),
        (24, 0, 1, ["last_page"]),
        (0, 1, 0, []),
        # With a key, a page may hold 64, whatever it says of itself.
        (128, 2, 64, []),
    ],
)
def test_a_last_page_that_leaves_out_a_whole_page(
    total: int, last: int, items: int, names: list[str]
) -> None:
    answer = page(*[ITEM] * items, number=1, total=total, last_page=last)
    assert told(Query(categories="111"), answer) == names


# --- Totals -------------------------------------------------------------------------------------


def listing(total: int, echo: str | None = None) -> Page:
    return page(*[{"category": "anime"}] * 24, total=total, last_page=total // 24, echo=echo)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        (Query(q="elf"), ["q"]),
        (Query(colors="660000"), ["colors"]),
        (Query(atleast="640x480"), ["atleast"]),
        (Query(sorting="toplist"), ["topRange"]),
        (Query(categories="010", ratios="16x9"), ["categories", "ratios"]),
        (Query(resolutions="1920x1080"), ["resolutions"]),
    ],
    ids=repr,
)
@pytest.mark.parametrize("grown_by", [-250, 0, 58, 626_058 - EVERYTHING])
def test_the_total_of_everything_tells_which_filters_are_lost(
    query: Query, names: list[str], grown_by: int
) -> None:
    assert told(query, listing(EVERYTHING + grown_by), EVERYTHING) == names


@pytest.mark.parametrize(
    ("query", "answer", "unfiltered_total"),
    [
        (Query(), listing(EVERYTHING), EVERYTHING),
        (Query(purity="110", sorting="views"), listing(EVERYTHING), EVERYTHING),
        (Query(q="elf"), listing(195), EVERYTHING),
        (Query(q="elf"), listing(EVERYTHING), None),
        (Query(atleast="640x480"), listing(EVERYTHING - 1000), EVERYTHING),
        # The site repeats what it has read: on a small site a word may be true of everything.
        (Query(q="elf"), listing(200, echo="elf"), 200),
        (Query(q="@someone"), listing(200, echo=""), 200),
        # What is seen on the items needs no other proof while the list is short.
        (Query(atleast="640x480"), listing(200), 200),
        (Query(sorting="toplist"), listing(200), 200),
        # The whole list is on the page.
        (Query(colors="660000"), listing(24), 24),
        (Query(q="elf"), page(total=0), 0),
    ],
    ids=repr,
)
def test_a_total_that_proves_nothing(
    query: Query, answer: Page, unfiltered_total: int | None
) -> None:
    assert told(query, answer, unfiltered_total) == []


def test_a_filter_that_items_do_not_show_is_told_on_a_small_site_too() -> None:
    assert told(Query(colors="660000"), listing(200), 200) == ["colors"]
    assert told(Query(q="elf"), listing(200), 200) == ["q"]


# --- No false alarm -----------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))


def item_of(width: int, height: int) -> Wallpaper:
    (item,) = page(size(width, height)).items
    assert isinstance(item, Wallpaper)
    return item


@given(sizes, sizes)
def test_what_the_site_would_find_is_no_alarm(
    asked: tuple[int, int], found: tuple[int, int]
) -> None:
    item = item_of(*found)
    answer = Page(1, (item,), 1, 1, 24)
    text = f"{asked[0]}x{asked[1]}"
    if found[0] >= asked[0] and found[1] >= asked[1]:
        assert told(Query(atleast=text), answer) == []
    if round(asked[0] / asked[1], 2) == round(found[0] / found[1], 2):
        assert told(Query(ratios=text), answer) == []
    assert told(Query(resolutions=f"{text},{found[0]}x{found[1]}"), answer) == []
    oriented = "landscape" if found[0] > found[1] else "portrait"
    assert told(Query(ratios=oriented), answer) == []
