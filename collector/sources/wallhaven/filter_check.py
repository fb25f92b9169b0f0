"""The filter check: did an answer honour the question?

The API answers a filter that it does not understand with 200 and unfiltered data, and a sorting
that it does not know with a total and no items (observed 2026-10). A field that an item lacks, and
a word that the API may yet invent, contradict nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from collector.core.wallpapers import Contradiction, Page, Wallpaper
from collector.sources.wallhaven.query import CATEGORIES, PURITIES, Query

# The API compares ratios rounded to two decimals; how it rounds a half is not known.
_RATIO_TOLERANCE = 0.011
# What it files under 21x9: 2.33, 2.37 and 2.39 (observed 2026-09).
_ULTRAWIDE = (2.32, 2.40)
# The list grows by about one part in 10,000 a day (observed 2026-09 and 2026-10), and the
# unfiltered total is up to a day old: within one part in 2,000 it is the same. It may also be
# larger: with wrong categories, the API forgets the purity, too (observed 2026-10).
_SAME_TOTAL_PARTS = 2_000
# Of fewer wallpapers every one may meet a filter; whether they do is seen on the items.
_MIN_TELLING_TOTAL = 10_000
_SEEN_ON_ITEMS = ("categories", "topRange", "atleast", "resolutions", "ratios")

_Fits = Callable[[Wallpaper], bool]


def check_answer(
    query: Query, page: Page, *, unfiltered_total: int | None = None
) -> tuple[Contradiction, ...]:
    """Return what in the page contradicts the question.

    `unfiltered_total` is what `query.unfiltered` found within the last day; without it, a filter
    that cannot be seen on items is not checked. For a page of a collection, the query holds its
    purity and nothing else.
    """
    found = [*_items_outside(query, page), *_not_the_page(page)]
    if unfiltered_total is not None:
        found += _filters_lost(query, page, unfiltered_total)
    return tuple(found)


def _items_outside(query: Query, page: Page) -> Iterator[Contradiction]:
    wallpapers = page.wallpapers
    for parameter, fits in _filters(query).items():
        outside = tuple(item.wallhaven_id for item in wallpapers if not fits(item))
        if outside:
            problem = f"{len(outside)} of {len(wallpapers)} items are not what was asked for"
            yield Contradiction(parameter, problem, outside)


def _not_the_page(page: Page) -> Iterator[Contradiction]:
    if page.number == 1 and page.total > 0 and not page.items:
        yield Contradiction("sorting", f"page 1 is empty although the total is {page.total}")
    is_after_the_end = page.number > page.last_page
    if page.current_page not in (None, page.number) and not is_after_the_end:
        problem = f"page {page.current_page} came instead of page {page.number}"
        yield Contradiction("page", problem)
    # A reader who believed it would never come to the rest. A page asked for with a key may be
    # larger than it says, which the last page does not show.
    size = max(page.per_page, len(page.items))
    is_full = page.number == 1 or page.number < page.last_page
    if is_full and (page.last_page + 1) * size <= page.total:
        problem = f"{page.last_page} pages of {size} do not hold {page.total} wallpapers"
        yield Contradiction("last_page", problem)


def _filters_lost(query: Query, page: Page, unfiltered_total: int) -> Iterator[Contradiction]:
    left_out = unfiltered_total - page.total
    if left_out * _SAME_TOTAL_PARTS > unfiltered_total or page.total <= len(page.items):
        return
    for parameter in query.narrowing:
        if parameter == "q" and page.echo is not None:
            continue  # it was read; on a small site it may be true of everything
        if parameter in _SEEN_ON_ITEMS and page.total < _MIN_TELLING_TOTAL:
            continue
        yield Contradiction(parameter, f"the total, {page.total}, is not less than without filters")


def _filters(query: Query) -> dict[str, _Fits]:
    """Return, by the API's name, the filters that can be seen on an item."""
    found: dict[str, _Fits] = {
        "purity": lambda item: _is_asked_for(item.purity, PURITIES, query.purity),
        "categories": lambda item: _is_asked_for(item.category, CATEGORIES, query.categories),
    }
    if query.atleast:
        minimum = _size(query.atleast)
        found["atleast"] = lambda item: _is_at_least(item, minimum)
    if query.resolutions:
        sizes = {_size(text) for text in query.resolutions.split(",")}
        found["resolutions"] = lambda item: _has_one_of(item, sizes)
    if query.ratios:
        ratios = query.ratios.split(",")
        found["ratios"] = lambda item: any(_has_ratio(item, ratio) for ratio in ratios)
    return found


def _is_asked_for(word: str | None, words: tuple[str, ...], bits: str) -> bool:
    return word not in words or bits[words.index(word)] == "1"


def _is_at_least(item: Wallpaper, minimum: tuple[int, int]) -> bool:
    width, height = item.dimension_x, item.dimension_y
    return (width is None or width >= minimum[0]) and (height is None or height >= minimum[1])


def _has_one_of(item: Wallpaper, sizes: set[tuple[int, int]]) -> bool:
    width, height = item.dimension_x, item.dimension_y
    return width is None or height is None or (width, height) in sizes


def _has_ratio(item: Wallpaper, wanted: str) -> bool:
    width, height = item.dimension_x, item.dimension_y
    if width is None or height is None:
        return True
    # Which of the two a square belongs to is not known.
    if wanted == "landscape":
        return width >= height
    if wanted == "portrait":
        return width <= height
    wanted_width, wanted_height = _size(wanted)
    asked, found = wanted_width / wanted_height, width / height
    narrowest, widest = _ULTRAWIDE
    if narrowest <= asked <= widest and narrowest <= found <= widest:
        return True
    return abs(asked - found) <= _RATIO_TOLERANCE


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)
