"""The parameters of `/search`, read as the real site reads them: what is invalid is dropped."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from collector.simulator.population import CATEGORIES, PURITIES
from collector.simulator.query import Query, parse_query

SORTINGS = ("date_added", "relevance", "random", "views", "favorites", "toplist", "hot")
TOP_RANGE_DAYS = {"1d": 1, "3d": 3, "1w": 7, "1M": 30, "3M": 91, "6M": 182, "1y": 365}
LARGEST_PAGE = 100_000  # beyond, the real site answers 400; where exactly is not known

_DEFAULT_CATEGORIES = "111"
_DEFAULT_PURITY = "100"
_EVERY_PURITY = "111"
_UNFILTERED = {"categories": _DEFAULT_CATEGORIES, "purity": _EVERY_PURITY}
_NSFW = PURITIES.index("nsfw")
_BITS = re.compile(r"[01]{3}")
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
_COLOR = re.compile(r"#?([0-9a-f]{6})", re.IGNORECASE)
_ORIENTATIONS = ("landscape", "portrait")

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a search asks for. Sets of numbers refer to CATEGORIES and PURITIES.

    `sorting` is None for a value that the site does not know: it then finds the same total but
    shows nothing.
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
    """Read the parameters; `keyed` callers may see nsfw items, others lose that bit silently."""
    categories = _bits(parameters.get("categories") or _DEFAULT_CATEGORIES)
    purity = parameters.get("purity")
    if categories is None:
        # The site's total then exceeds that of all sfw items: the purity filter is lost as well.
        categories, purity = frozenset(range(len(CATEGORIES))), _EVERY_PURITY
    sorting = parameters.get("sorting") or "date_added"
    return Criteria(
        query=parse_query(parameters.get("q")),
        categories=categories,
        purities=purities_from(purity, keyed=keyed),
        sorting=sorting if sorting in SORTINGS else None,
        descending=parameters.get("order") != "asc",
        top_days=TOP_RANGE_DAYS.get(parameters.get("topRange", ""), TOP_RANGE_DAYS["1M"]),
        atleast=next(iter(_sizes(parameters.get("atleast", ""))), None),
        resolutions=_sizes(parameters.get("resolutions", "")),
        ratios=_ratios(parameters.get("ratios", "")),
        color=_color(parameters.get("colors", "")),
    )


def without(parameters: Mapping[str, str], ignored: Collection[str]) -> dict[str, str]:
    """Return parameters in which the ignored ones narrow nothing."""
    kept = {name: value for name, value in parameters.items() if name not in ignored}
    return kept | {name: all_of for name, all_of in _UNFILTERED.items() if name in ignored}


def purities_from(text: str | None, *, keyed: bool) -> frozenset[int]:
    """Read `purity`: sfw if it is absent or malformed; nsfw is for keyed callers alone."""
    purities = _bits(text or _DEFAULT_PURITY) or _bits(_DEFAULT_PURITY) or frozenset()
    return purities if keyed else purities - {_NSFW}


def page_from(text: str | None) -> int:
    """Read `page`: what is no number counts as 1."""
    try:
        return int(text or 1)
    except ValueError:
        return 1


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
