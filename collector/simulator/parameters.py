"""The grammar of the search parameter `q`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from collector.simulator.padding import JPEG, PNG, WEBP
from collector.simulator.population import CATEGORIES, PURITIES, TAGS, Tag

_TERM = re.compile(r'([+-]?)(?:"([^"]+)"|(\S+))')
_FILE_TYPES = {"png": PNG, "jpg": JPEG, "jpeg": JPEG, "webp": WEBP}
_ALONE = ("id:", "like:")  # terms that cannot be combined with others


@dataclass(frozen=True, slots=True)
class Query:
    """What `q` asks for: each of `required` must match a tag of the item, none of `excluded`."""

    required: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    uploader: str | None = None
    file_type: str | None = None
    tag_id: str | None = None
    like: str | None = None
    impossible: bool = False  # a term that stands alone was combined with others
    echo: str | None = None  # the text that meta.query repeats


class _Term(NamedTuple):
    text: str
    sign: str
    word: str

    @property
    def is_word(self) -> bool:
        return not self.word.startswith(("@", "type:"))


def parse_query(text: str | None) -> Query:
    """Read `q`: words, `-word`, `+word`, `"a phrase"`, `@user`, `type:`, `id:` and `like:`."""
    if not text:
        return Query()
    terms = [
        _Term(match[0], match[1], (match[2] or match[3]).lower()) for match in _TERM.finditer(text)
    ]
    if any(term.word.startswith(_ALONE) for term in terms):
        return _single(text, terms)
    words = [term for term in terms if term.is_word]
    users = [term.word[1:] for term in terms if term.word.startswith("@")]
    types = [term.word[5:] for term in terms if term.word.startswith("type:")]
    return Query(
        required=tuple(term.word for term in words if term.sign != "-"),
        excluded=tuple(term.word for term in words if term.sign == "-"),
        uploader=next(iter(users), None),
        file_type=next((_FILE_TYPES[name] for name in types if name in _FILE_TYPES), None),
        echo=text if words == terms else " ".join(term.text for term in words),
    )


def find_tag(tag_id: str | None) -> Tag | None:
    """Return the tag with this number, None if there is none."""
    return next((tag for tag in TAGS if str(tag.id) == tag_id), None)


def tag_bits(word: str) -> int:
    """Return the bits of the tags that a lower-case word or phrase finds, by name or alias."""
    return sum(1 << bit for bit, tag in enumerate(TAGS) if word in _names(tag))


def _single(text: str, terms: list[_Term]) -> Query:
    if len(terms) > 1:
        return Query(impossible=True, echo=text)
    name, _, value = terms[0].word.partition(":")
    if name == "like":
        return Query(like=value, echo=text)
    return Query(tag_id=value, echo=text)


def _names(tag: Tag) -> set[str]:
    """Return what a tag answers to: its name, its aliases and each single word of them."""
    phrases = [phrase.strip().lower() for phrase in f"{tag.name},{tag.alias}".split(",")]
    return {name for phrase in phrases for name in (phrase, *phrase.split())}


SORTINGS = ("date_added", "relevance", "random", "views", "favorites", "toplist", "hot")
TOP_RANGE_DAYS = {"1d": 1, "3d": 3, "1w": 7, "1M": 30, "3M": 91, "6M": 182, "1y": 365}

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
