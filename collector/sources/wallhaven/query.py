"""A search as a value. Every parameter is checked here, because the API checks none.

The API answers wrong filters with 200 and unfiltered data, or with a total and no items (observed
2026-09 and 2026-10). Parameters and the grammar of `q`: https://wallhaven.cc/help/api (read
2026-11-23).

Words in `q` match tags; `-` before a word excludes, `+` requires. `@user`, `id:`, `type:` and
`like:` match other things. `*` is our own: everything, sent without a `q`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from unicodedata import category

from collector.core.errors import SettingsError

CATEGORIES = ("general", "anime", "people")
PURITIES = ("sfw", "sketchy", "nsfw")
SORTINGS = ("date_added", "relevance", "random", "views", "favorites", "toplist")
ORDERS = ("desc", "asc")
TOP_RANGES = ("1d", "3d", "1w", "1M", "3M", "6M", "1y")
# The colours that can be searched; answers contain three more.
_PALETTE = (
    "660000 990000 cc0000 cc3333 ea4c88 993399 663399 333399 0066cc 0099cc 66cccc 77cc33 669900"
    " 336600 666600 999900 cccc33 ffff00 ffcc33 ff9900 ff6600 cc6633 996633 663300 000000 999999"
    " cccccc ffffff 424153"
)
COLORS = tuple(_PALETTE.split())
SEED = "[A-Za-z0-9]{6}"
_DEFAULT_TOP_RANGE = "1M"
_EVERY_CATEGORY = "111"
_BITS = "[01]{3}"
_SIZE = "[1-9][0-9]{0,4}x[1-9][0-9]{0,4}"
_RATIO = f"(?:{_SIZE}|landscape|portrait)"
# Our limit: a longer one is a mistake.
_MAX_Q_CHARACTERS = 500
_TERM = re.compile(r'(?P<sign>[+-]?)(?:"[^"]+"|(?P<word>\S+))')
_EVERYTHING = "*"
_OPERATOR = re.compile(r"@|(?:id|type|like):|\*\Z", re.IGNORECASE)
# What must follow each operator, as a pattern and in words, and an example of a whole term.
_OPERANDS = {
    "@": (re.compile(r"[^\s/@]+"), "a user's name after @", "@someone"),
    "id:": (re.compile(r"[1-9][0-9]{0,9}"), "a tag's number after id:", "id:1"),
    "type:": (re.compile(r"png|jpe?g"), "png, jpg or jpeg after type:", "type:png"),
    "like:": (re.compile(r"[A-Za-z0-9]{1,16}"), "a wallpaper's id after like:", "like:2169oy"),
    _EVERYTHING: (re.compile(""), "* for everything", _EVERYTHING),
}
# With another term next to id: or like: the API finds nothing; it would search for a * literally.
_ALONE = ("id:", "like:", _EVERYTHING)


class QueryError(SettingsError):
    """A parameter of a request is wrong; `parameter` is its name in the API, or the option's.

    The message is one line: what is allowed, with an example, without the value.
    """

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(parameter, problem)
        self.parameter = parameter


class _Rule(NamedTuple):
    """A pattern for a whole value, and the text of the error if it does not match."""

    parameter: str
    pattern: str
    allowed: str
    example: str

    def check(self, value: str) -> None:
        if not re.fullmatch(self.pattern, value):
            raise QueryError(self.parameter, f"must be {self.allowed}, such as {self.example}")


def _one_of(parameter: str, words: tuple[str, ...], example: str) -> _Rule:
    allowed = f"{', '.join(words[:-1])} or {words[-1]}"
    return _Rule(parameter, "|".join(words), allowed, example)


def _bits(parameter: str, words: tuple[str, ...], example: str) -> _Rule:
    allowed = f"three digits, 0 or 1 for each of {words[0]}, {words[1]} and {words[2]}"
    return _Rule(parameter, _BITS, allowed, example)


# By field of Query. A field that is not in _REQUIRED may be empty.
_RULES = {
    "categories": _bits("categories", CATEGORIES, "111"),
    "purity": _bits("purity", PURITIES, "100"),
    "sorting": _one_of("sorting", SORTINGS, "date_added"),
    "order": _one_of("order", ORDERS, "desc"),
    "top_range": _one_of("topRange", TOP_RANGES, _DEFAULT_TOP_RANGE),
    "atleast": _Rule("atleast", _SIZE, "one resolution", "1920x1080"),
    "resolutions": _Rule(
        "resolutions", f"{_SIZE}(,{_SIZE})*", "resolutions, commas between", "1920x1080,2560x1440"
    ),
    "ratios": _Rule("ratios", f"{_RATIO}(,{_RATIO})*", "ratios, commas between", "16x9,landscape"),
    "colors": _one_of("colors", COLORS, "660000"),
    "ai_art_filter": _Rule("ai_art_filter", "[01]", "0 or 1", "1"),
    "seed": _Rule("seed", SEED, "six letters and digits", "abc123"),
}
_REQUIRED = ("categories", "purity", "sorting", "order")


@dataclass(frozen=True, slots=True)
class Query:
    """A search. A wrong value raises QueryError, which names the API's parameter.

    An empty filter excludes nothing, not even AI art. Nor does a `q` of `*`, which is never sent.
    """

    q: str = ""
    categories: str = _EVERY_CATEGORY
    purity: str = "100"
    sorting: str = "date_added"
    order: str = "desc"
    top_range: str = ""
    atleast: str = ""
    resolutions: str = ""
    ratios: str = ""
    colors: str = ""
    ai_art_filter: str = ""
    seed: str = ""

    def __post_init__(self) -> None:
        _check_terms(self.q)
        for name, rule in _RULES.items():
            value: str = getattr(self, name)
            if value or name in _REQUIRED:
                rule.check(value)
        self._check_together()

    def _check_together(self) -> None:
        for parameter, bits in (("categories", self.categories), ("purity", self.purity)):
            if "1" not in bits:
                problem = f"asks for nothing: at least one digit must be 1, such as {bits[:2]}1"
                raise QueryError(parameter, problem)
        # With any other sorting the API ignores them silently.
        if self.top_range and self.sorting != "toplist":
            raise QueryError("topRange", "only works with the sorting toplist; leave it empty")
        if self.seed and self.sorting != "random":
            raise QueryError("seed", "only works with the sorting random; leave it empty")

    def parameters(self) -> dict[str, str]:
        """Return the API's parameters in the order in which they are sent, `q` last.

        Filters with a default in an account are always sent, even empty, so that the default does
        not apply. Other empty filters are left out.
        """
        is_toplist = self.sorting == "toplist"
        named = {
            "categories": self.categories,
            "purity": self.purity,
            "sorting": self.sorting,
            "order": self.order,
            "topRange": (self.top_range or _DEFAULT_TOP_RANGE) if is_toplist else "",
            "atleast": self.atleast,
            "resolutions": self.resolutions,
            "ratios": self.ratios,
            "colors": self.colors,
            "ai_art_filter": self.ai_art_filter or "0",
            "seed": self.seed,
            "q": "" if self.q.strip() == _EVERYTHING else self.q.strip(),
        }
        always = ("resolutions", "ratios")
        return {name: value for name, value in named.items() if value or name in always}

    @property
    def narrowing(self) -> tuple[str, ...]:
        """The API's names of the filters that are set, except purity and AI art."""
        given = self.parameters()
        if self.categories == _EVERY_CATEGORY:
            del given["categories"]
        names = ("q", "categories", "topRange", "atleast", "resolutions", "ratios", "colors")
        return tuple(name for name in names if given.get(name))

    @property
    def unfiltered(self) -> Query:
        """The search without the `narrowing` filters. Sorting is left out: it changes no total."""
        return Query(purity=self.purity, ai_art_filter=self.ai_art_filter)


class _Term(NamedTuple):
    sign: str
    word: str  # empty for a quoted phrase

    @property
    def operator(self) -> str:
        found = _OPERATOR.match(self.word)
        return found[0].lower() if found else ""


def _check_terms(q: str) -> None:
    """Raise QueryError for a `q` that the API would misread."""
    if len(q) > _MAX_Q_CHARACTERS or any(category(character) in ("Cc", "Cs") for character in q):
        raise _wrong(
            f"have at most {_MAX_Q_CHARACTERS} characters and no control characters", "elf"
        )
    terms = [_Term(match["sign"], match["word"] or "") for match in _TERM.finditer(q)]
    for term in terms:
        _check_term(term)
    _check_operators([term.operator for term in terms])


def _check_term(term: _Term) -> None:
    if term.word and not term.word.strip("+-"):
        raise _wrong("have a word right after each + and -", "-elf")
    if not term.operator:
        return
    operand, allowed, example = _OPERANDS[term.operator]
    given = term.word.removeprefix(term.operator)
    if term.sign or given == term.word or not operand.fullmatch(given):
        raise _wrong(f"have {allowed} and no sign before it", example)


def _check_operators(operators: Iterable[str]) -> None:
    found = list(operators)
    for operator in _ALONE:
        if operator in found and len(found) > 1:
            raise _wrong(f"have {operator} alone, without other terms", _OPERANDS[operator][2])
    for operator in _OPERANDS:
        if found.count(operator) > 1:
            raise _wrong(f"have at most one {operator}", _OPERANDS[operator][2])


def _wrong(duty: str, example: str) -> QueryError:
    return QueryError("q", f"must {duty}, such as {example}")
