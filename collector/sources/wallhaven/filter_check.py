"""The filter check: does an answer honour the filters of its request?

The API answers an invalid filter with 200 and unfiltered data, and an unknown sorting with a total
and no items (observed 2026-10). Missing fields and unknown words in an item contradict nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from collector.core.wallpapers import Contradiction, Page, Wallpaper
from collector.sources.wallhaven.query import CATEGORIES, PURITIES, Query

# The API compares ratios rounded to two decimals; how it rounds halves is not known.
_RATIO_TOLERANCE = 0.011
# The API counts 2.33, 2.37 and 2.39 as 21x9 (observed 2026-09).
_ULTRAWIDE = (2.32, 2.40)
# The list grows by about one part in 10,000 a day (observed 2026-09 and 2026-10), and the
# unfiltered total is up to a day old: a difference below one part in 2,000 does not count. The
# total may also be larger: with wrong categories, the API drops the purity, too (observed 2026-10).
_SAME_TOTAL_PARTS = 2_000
# In a smaller list, every wallpaper may meet a filter; there, only the items are checked.
_MIN_TELLING_TOTAL = 10_000
_SEEN_ON_ITEMS = ("categories", "topRange", "atleast", "resolutions", "ratios")

_Fits = Callable[[Wallpaper], bool]


def check_answer(
    query: Query, page: Page, *, unfiltered_total: int | None = None
) -> tuple[Contradiction, ...]:
    """Return what in the page contradicts the query.

    `unfiltered_total` is the total of `query.unfiltered`, at most a day old; without it, filters
    that items do not show are not checked. The query of a collection holds its purity only.
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
            problem = f"{len(outside)} of {len(wallpapers)} items do not match"
            yield Contradiction(parameter, problem, outside)


def _not_the_page(page: Page) -> Iterator[Contradiction]:
    if page.number == 1 and page.total > 0 and not page.items:
        yield Contradiction("sorting", f"page 1 is empty although the total is {page.total}")
    is_after_the_end = page.number > page.last_page
    if page.current_page not in (None, page.number) and not is_after_the_end:
        problem = f"the answer is page {page.current_page}, not page {page.number}"
        yield Contradiction("page", problem)
    # A reader that believed such a last_page would miss the rest. With a key, a page may be larger
    # than per_page, which the last page does not show.
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
            continue  # the API read it; on a small site every wallpaper may match
        if parameter in _SEEN_ON_ITEMS and page.total < _MIN_TELLING_TOTAL:
            continue
        yield Contradiction(
            parameter, f"the total, {page.total}, is no smaller than without filters"
        )


def _filters(query: Query) -> dict[str, _Fits]:
    """Return the filters that an item shows, by the API's names."""
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
    # How the API counts a square is not known.
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
