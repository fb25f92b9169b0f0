"""The grammar of the search parameter `q`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from collector.simulator.population import TAGS, Tag
from collector.simulator.stock import JPEG, PNG, WEBP

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
