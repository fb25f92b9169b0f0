"""Finds and orders the items of a catalogue. Pure; tens of milliseconds for 100,000 items."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from collector.simulator.artwork import ARTWORKS, Shape
from collector.simulator.catalogue import Catalogue
from collector.simulator.draws import generator_of
from collector.simulator.parameters import Criteria, Query, Size, tag_bits
from collector.simulator.population import CATEGORIES, PURITIES, TAGS, UPLOADERS

# Width by height of what the site files under 21x9 and 7x3, rounded as it compares ratios.
_ULTRAWIDE = {(21, 9), (7, 3)}
_ULTRAWIDE_RATIOS = {2.33, 2.37, 2.39}
# Two items are alike if they share this many tags; the first tag is shared by all.
_ALIKE_TAGS = 4


def search(catalogue: Catalogue, criteria: Criteria) -> Sequence[int]:
    """Return the indexes of all items that meet the criteria, in their order.

    A sorting of None orders by date. Computes `catalogue.columns` if that was not done before.
    """
    found = _filtered(catalogue, criteria)
    if criteria.sorting == "random":
        shuffled = list(found)
        generator_of(criteria.seed).shuffle(shuffled)
        return array("I", shuffled)
    key = _sort_key(catalogue, criteria.sorting)
    if key is not None:
        found = array("I", sorted(found, key=key, reverse=True))
    return found if criteria.descending else found[::-1]


def _filtered(catalogue: Catalogue, criteria: Criteria) -> Sequence[int]:
    columns = catalogue.columns
    found = _within_top_range(catalogue, criteria)
    found = _narrow(found, columns.category, criteria.categories, len(CATEGORIES))
    found = _narrow(found, columns.purity, criteria.purities, len(PURITIES))
    shapes = {n for n, shape in enumerate(catalogue.shapes) if _fits(shape, criteria)}
    found = _narrow(found, columns.shape, shapes, len(catalogue.shapes))
    if criteria.color is not None:
        artworks = {n for n, artwork in enumerate(ARTWORKS) if criteria.color in artwork.colors}
        found = _narrow(found, columns.artwork, artworks, len(ARTWORKS))
    return _queried(catalogue, criteria.query, found)


def _within_top_range(catalogue: Catalogue, criteria: Criteria) -> Sequence[int]:
    """Return all indexes; of a toplist only those uploaded in its days before the newest."""
    everything = range(len(catalogue))
    if criteria.sorting != "toplist":
        return everything
    oldest = timedelta(days=criteria.top_days)
    return everything[
        : bisect_right(everything, oldest, key=lambda i: catalogue.newest - catalogue.created_at(i))
    ]


def _narrow(
    found: Sequence[int], column: Sequence[int], allowed: Collection[int], kinds: int
) -> Sequence[int]:
    """Keep what has an allowed value, of `kinds` that there are."""
    if len(allowed) == kinds:
        return found
    return array("I", [index for index in found if column[index] in allowed])


def _fits(shape: Shape, criteria: Criteria) -> bool:
    size = (shape.width, shape.height)
    atleast = criteria.atleast or (0, 0)
    return (
        criteria.query.file_type in (None, shape.file_type)
        and size[0] >= atleast[0]
        and size[1] >= atleast[1]
        and (not criteria.resolutions or size in criteria.resolutions)
        and (not criteria.ratios or any(_has_ratio(size, ratio) for ratio in criteria.ratios))
    )


def _has_ratio(size: Size, wanted: str | Size) -> bool:
    width, height = size
    if wanted == "landscape":
        return width > height
    if wanted == "portrait":
        return width < height
    ratio = round(width / height, 2)
    if wanted in _ULTRAWIDE:
        return ratio in _ULTRAWIDE_RATIOS
    return not isinstance(wanted, str) and ratio == round(wanted[0] / wanted[1], 2)


def _queried(catalogue: Catalogue, query: Query, found: Sequence[int]) -> Sequence[int]:
    if query.impossible:
        return ()
    tags = catalogue.columns.tags
    if query.like is not None:
        return _alike(catalogue, query.like, found)
    if query.tag_id is not None:
        bits = sum(1 << bit for bit, tag in enumerate(TAGS) if str(tag.id) == query.tag_id)
        return _with_any(found, tags, bits)
    for word in query.required:
        found = _with_any(found, tags, tag_bits(word))
    for word in query.excluded:
        bits = tag_bits(word)
        found = array("I", [index for index in found if not tags[index] & bits])
    if query.uploader is not None:
        users = {n for n, user in enumerate(UPLOADERS) if user.username.lower() == query.uploader}
        found = _narrow(found, catalogue.columns.uploader, users, len(UPLOADERS))
    return found


def _with_any(found: Sequence[int], tags: Sequence[int], bits: int) -> Sequence[int]:
    if bits & 1:  # the first tag is on every item
        return found
    return array("I", [index for index in found if tags[index] & bits])


def _alike(catalogue: Catalogue, wallhaven_id: str, found: Sequence[int]) -> Sequence[int]:
    item = catalogue.find(wallhaven_id)
    if item is None:
        return ()
    tags = catalogue.columns.tags
    bits = tags[item.index]
    least = min(_ALIKE_TAGS, bits.bit_count())
    return array("I", [index for index in found if (tags[index] & bits).bit_count() >= least])


def _sort_key(catalogue: Catalogue, sorting: str | None) -> Callable[[int], int] | None:
    """Return what the largest of comes first; None for the newest."""
    columns = catalogue.columns
    if sorting in ("views", "hot"):
        return columns.views.__getitem__
    if sorting in ("favorites", "toplist"):
        return columns.favorites.__getitem__
    if sorting == "relevance":  # few tags: each says more about the item
        return lambda index: -columns.tags[index].bit_count()
    return None
