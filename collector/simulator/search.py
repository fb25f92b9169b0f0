"""Searches: reads parameters as the real site does, then finds and sorts the items.

Invalid parts of parameters are dropped. Pure; takes tens of milliseconds for 100,000 items.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from operator import or_

from collector.simulator.catalogue import Catalogue, Columns
from collector.simulator.draws import generator_of
from collector.simulator.padding import JPEG, PNG, WEBP
from collector.simulator.population import CATEGORIES, PURITIES, TAGS, UPLOADERS, Tag
from collector.simulator.stock import ARTWORKS, Shape

_SORTINGS = ("date_added", "relevance", "random", "views", "favorites", "toplist", "hot")
_TOP_RANGE_DAYS = {"1d": 1, "3d": 3, "1w": 7, "1M": 30, "3M": 91, "6M": 182, "1y": 365}
_DEFAULT_CATEGORIES = "111"
_DEFAULT_PURITY = "100"
_EVERY_PURITY = "111"
_UNFILTERED = {"categories": _DEFAULT_CATEGORIES, "purity": _EVERY_PURITY}
_NSFW = PURITIES.index("nsfw")
_ORIENTATIONS = ("landscape", "portrait")
_BITS = re.compile(r"[01]{3}")
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
_COLOR = re.compile(r"#?([0-9a-f]{6})", re.IGNORECASE)

_TERM = re.compile(r'([+-]?)(?:"([^"]+)"|(\S+))')
_FILE_TYPES = {"png": PNG, "jpg": JPEG, "jpeg": JPEG, "webp": WEBP}
_ALONE = ("id:", "like:")  # terms that cannot be combined with others
# The rounded ratios that the site counts as 21x9 and 7x3.
_ULTRAWIDE = {(21, 9), (7, 3)}
_ULTRAWIDE_RATIOS = {2.33, 2.37, 2.39}
# Two items are alike if they share this many tags; all items share the first tag.
_ALIKE_TAGS = 4

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed `q`: each of `required` must match a tag of the item, none of `excluded` may."""

    required: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    uploader: str | None = None
    file_type: str | None = None
    tag_id: str | None = None
    like: str | None = None
    impossible: bool = False  # id: or like: was combined with other terms
    echo: str | None = None  # the text that meta.query repeats


@dataclass(frozen=True, slots=True)
class Criteria:
    """A parsed search. Sets of numbers refer to CATEGORIES and PURITIES.

    `sorting` is None for an unknown value: the site then gives the full total and no items.
    """

    query: Query
    categories: frozenset[int]
    purities: frozenset[int]
    sorting: str | None
    descending: bool
    top_days: int
    atleast: Size | None
    resolutions: tuple[Size, ...]
    ratios: tuple[str | Size, ...]
    color: str | None
    seed: str | None = None  # of a random order


def criteria_from(parameters: Mapping[str, str], *, keyed: bool) -> Criteria:
    """Read the parameters. Without a key, the nsfw bit is dropped silently."""
    categories = _bits(parameters.get("categories") or _DEFAULT_CATEGORIES)
    purity = parameters.get("purity")
    if categories is None:
        # The site's total then exceeds that of all sfw items: it drops the purity filter, too.
        categories, purity = frozenset(range(len(CATEGORIES))), _EVERY_PURITY
    sorting = parameters.get("sorting") or "date_added"
    return Criteria(
        query=parse_query(parameters.get("q")),
        categories=categories,
        purities=purities_from(purity, keyed=keyed),
        sorting=sorting if sorting in _SORTINGS else None,
        descending=parameters.get("order") != "asc",
        top_days=_TOP_RANGE_DAYS.get(parameters.get("topRange", ""), _TOP_RANGE_DAYS["1M"]),
        atleast=next(iter(_sizes(parameters.get("atleast", ""))), None),
        resolutions=_sizes(parameters.get("resolutions", "")),
        ratios=_ratios(parameters.get("ratios", "")),
        color=_color(parameters.get("colors", "")),
    )


def without(parameters: Mapping[str, str], ignored: Collection[str]) -> dict[str, str]:
    """Return the parameters without the ignored filters."""
    kept = {name: value for name, value in parameters.items() if name not in ignored}
    return kept | {name: all_of for name, all_of in _UNFILTERED.items() if name in ignored}


def purities_from(text: str | None, *, keyed: bool) -> frozenset[int]:
    """Read `purity`: sfw if absent or malformed. Without a key, nsfw is dropped."""
    purities = _bits(text or _DEFAULT_PURITY) or _bits(_DEFAULT_PURITY) or frozenset()
    return purities if keyed else purities - {_NSFW}


def page_from(text: str | None) -> int:
    """Read `page`; anything but a number counts as 1."""
    try:
        return int(text or 1)
    except ValueError:
        return 1


def parse_query(text: str | None) -> Query:
    """Read `q`: words, `-word`, `+word`, `"a phrase"`, `@user`, `type:`, `id:` and `like:`."""
    if not text:
        return Query()
    terms = [(match[0], match[1], (match[2] or match[3]).lower()) for match in _TERM.finditer(text)]
    if any(word.startswith(_ALONE) for _, _, word in terms):
        return _single(text, [word for _, _, word in terms])
    words = [term for term in terms if not term[2].startswith(("@", "type:"))]
    users = [word[1:] for _, _, word in terms if word.startswith("@")]
    types = [word[5:] for _, _, word in terms if word.startswith("type:")]
    return Query(
        required=tuple(word for _, sign, word in words if sign != "-"),
        excluded=tuple(word for _, sign, word in words if sign == "-"),
        uploader=next(iter(users), None),
        file_type=next((_FILE_TYPES[name] for name in types if name in _FILE_TYPES), None),
        echo=text if words == terms else " ".join(whole for whole, _, _ in words),
    )


def _single(text: str, words: list[str]) -> Query:
    if len(words) > 1:
        return Query(impossible=True, echo=text)
    name, _, value = words[0].partition(":")
    return Query(like=value, echo=text) if name == "like" else Query(tag_id=value, echo=text)


def find_tag(tag_id: str | None) -> Tag | None:
    """Return the tag with this number, None if it is unknown."""
    return next((tag for tag in TAGS if str(tag.id) == tag_id), None)


def tag_bits(word: str) -> int:
    """Return the bits of the tags that a lower-case word or phrase matches, by name or alias."""
    return sum(1 << bit for bit, tag in enumerate(TAGS) if word in _names(tag))


def _names(tag: Tag) -> set[str]:
    """Return the words and phrases that match a tag: its name, its aliases, and their words."""
    phrases = [phrase.strip().lower() for phrase in f"{tag.name},{tag.alias}".split(",")]
    return {name for phrase in phrases for name in (phrase, *phrase.split())}


def _bits(text: str) -> frozenset[int] | None:
    if not _BITS.fullmatch(text):
        return None
    return frozenset(place for place, bit in enumerate(text) if bit == "1")


def _sizes(text: str) -> tuple[Size, ...]:
    matches = [_SIZE.fullmatch(part) for part in text.split(",")]
    return tuple((int(match[1]), int(match[2])) for match in matches if match)


def _ratios(text: str) -> tuple[str | Size, ...]:
    names = tuple(name for name in text.split(",") if name in _ORIENTATIONS)
    return (*names, *(size for size in _sizes(text) if 0 not in size))


def _color(text: str) -> str | None:
    match = _COLOR.fullmatch(text)
    return f"#{match[1].lower()}" if match else None


def search(catalogue: Catalogue, criteria: Criteria) -> Sequence[int]:
    """Return the sorted indexes of all items that meet the criteria; a sorting of None is by date.

    Computes `catalogue.columns` on first use.
    """
    checks = [_check_of(catalogue, criteria), *_query_checks(catalogue, criteria.query)]
    candidates = _within_top_range(catalogue, criteria)
    found = [index for index in candidates if all(check(index) for check in checks)]
    if criteria.sorting == "random":
        generator_of(criteria.seed).shuffle(found)
        return array("I", found)
    rank = _rank(catalogue.columns, criteria.sorting)
    if rank is not None:
        found.sort(key=rank, reverse=True)
    return array("I", found if criteria.descending else found[::-1])


def _rank(columns: Columns, sorting: str | None) -> Callable[[int], int] | None:
    """Return the key to sort by, largest first; None for the newest first."""
    if sorting in ("views", "hot"):
        return columns.views.__getitem__
    if sorting in ("favorites", "toplist"):
        return columns.favorites.__getitem__
    if sorting == "relevance":  # the fewer tags an item has, the more each says about it
        return lambda index: -columns.tags[index].bit_count()
    return None


def _within_top_range(catalogue: Catalogue, criteria: Criteria) -> range:
    """Return all indexes; for a toplist, those uploaded within its range before the newest item."""
    everything = range(len(catalogue))
    if criteria.sorting != "toplist":
        return everything
    oldest = timedelta(days=criteria.top_days)
    return everything[
        : bisect_right(everything, oldest, key=lambda i: catalogue.newest - catalogue.created_at(i))
    ]


def _check_of(catalogue: Catalogue, criteria: Criteria) -> Callable[[int], bool]:
    """Return the check of all filters but `q`."""
    shapes = {number for number, it in enumerate(catalogue.shapes) if _fits(it, criteria)}
    artworks = {n for n, it in enumerate(ARTWORKS) if criteria.color in (None, *it.colors)}
    columns = catalogue.columns
    return lambda index: (
        columns.category[index] in criteria.categories
        and columns.purity[index] in criteria.purities
        and columns.shape[index] in shapes
        and columns.artwork[index] in artworks
    )


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


def _query_checks(catalogue: Catalogue, query: Query) -> Iterator[Callable[[int], bool]]:
    tags, uploaders = catalogue.columns.tags, catalogue.columns.uploader
    if query.impossible:
        yield lambda _: False
    if query.like is not None:
        original = catalogue.find(query.like)
        alike = tags[original.index] if original else 0
        min_shared = min(_ALIKE_TAGS, alike.bit_count()) or 1
        yield lambda index: (tags[index] & alike).bit_count() >= min_shared
    if query.tag_id is not None:
        asked = sum(1 << bit for bit, tag in enumerate(TAGS) if str(tag.id) == query.tag_id)
        yield lambda index: bool(tags[index] & asked)
    if query.required or query.excluded:
        required = [tag_bits(word) for word in query.required]
        excluded = reduce(or_, map(tag_bits, query.excluded), 0)
        yield (
            lambda index: (
                all(tags[index] & bits for bits in required) and not tags[index] & excluded
            )
        )
    if query.uploader is not None:
        yield lambda index: UPLOADERS[uploaders[index]].username.lower() == query.uploader
