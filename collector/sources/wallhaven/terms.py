"""The grammar of the search parameter `q`: https://wallhaven.cc/help/api (read 2026-11-23).

Words find tags, with `-` before them they exclude, with `+` they are required. `@user`, `id:`,
`type:` and `like:` ask for something else. `*` is ours: no `q` at all, everything there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple
from unicodedata import category

from collector.core.errors import SettingsError

# Ours: what is longer is no search but a mistake.
Q_CHARACTERS = 500
_TERM = re.compile(r'(?P<sign>[+-]?)(?:"[^"]+"|(?P<word>\S+))')
_EVERYTHING = "*"
_OPERATOR = re.compile(r"@|(?:id|type|like):|\*\Z", re.IGNORECASE)
# What stands behind an operator, the same in words, and a whole term as an example.
_OPERANDS = {
    "@": (re.compile(r"[^\s/@]+"), "a user's name behind @", "@someone"),
    "id:": (re.compile(r"[1-9][0-9]{0,9}"), "a tag's number behind id:", "id:1"),
    "type:": (re.compile(r"png|jpe?g"), "png, jpg or jpeg behind type:", "type:png"),
    "like:": (re.compile(r"[A-Za-z0-9]{1,16}"), "a wallpaper's id behind like:", "like:2169oy"),
    _EVERYTHING: (re.compile(""), "* for everything", _EVERYTHING),
}
# With any other term beside id: and like: the API finds nothing, and * would be searched for.
_ALONE = ("id:", "like:", _EVERYTHING)


class QueryError(SettingsError):
    """A parameter of a question is wrong; `parameter` is its name in the API, or of the option.

    The line says what is allowed, with an example, and does not repeat the value.
    """

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(parameter, problem)
        self.parameter = parameter


class _Term(NamedTuple):
    sign: str
    word: str  # empty for a quoted phrase

    @property
    def operator(self) -> str:
        found = _OPERATOR.match(self.word)
        return found[0].lower() if found else ""


def sent_terms(q: str) -> str:
    """Return the `q` to send, empty for a search without it."""
    terms = q.strip()
    return "" if terms == _EVERYTHING else terms


def check_terms(q: str) -> None:
    """Raise QueryError for a `q` that the API would not read as it is meant."""
    if len(q) > Q_CHARACTERS or any(category(character) in ("Cc", "Cs") for character in q):
        raise _wrong(f"be at most {Q_CHARACTERS} characters, none a control character", "elf")
    terms = [_Term(match["sign"], match["word"] or "") for match in _TERM.finditer(q)]
    for term in terms:
        _check_term(term)
    _check_together([term.operator for term in terms])


def _check_term(term: _Term) -> None:
    if term.word and not term.word.strip("+-"):
        raise _wrong("have a word right behind each + and -", "-elf")
    if not term.operator:
        return
    operand, allowed, example = _OPERANDS[term.operator]
    given = term.word.removeprefix(term.operator)
    if term.sign or given == term.word or not operand.fullmatch(given):
        raise _wrong(f"have {allowed} and no sign before it", example)


def _check_together(operators: Iterable[str]) -> None:
    found = list(operators)
    for operator in _ALONE:
        if operator in found and len(found) > 1:
            raise _wrong(f"have {operator} alone, without other terms", _OPERANDS[operator][2])
    for operator in _OPERANDS:
        if found.count(operator) > 1:
            raise _wrong(f"have one {operator} at most", _OPERANDS[operator][2])


def _wrong(duty: str, example: str) -> QueryError:
    return QueryError("q", f"must {duty}, such as {example}")
