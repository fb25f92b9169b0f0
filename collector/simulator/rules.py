"""Sections of a profile: keys with a default, a meaning and the values that they may have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

_RULE = "rule"
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class InvalidKeyError(ValueError):
    """The key `name` of a section has a value that it may not have; `problem` says why."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Rule:
    """What a key means and may be: from `least` to `most`, or one of `choices` if there are any.

    `kind` is the type of its value, or of each of its values where `many`.
    """

    kind: type
    many: bool
    meaning: str
    least: float = 0
    most: float = math.inf
    choices: tuple[object, ...] = ()

    def check(self, name: str, value: object) -> None:
        """Raise InvalidKeyError unless `value` is one that this key may have."""
        if self.many and not isinstance(value, tuple):
            raise InvalidKeyError(name, f"must be a list, not {value!r}")
        for each in value if self.many and isinstance(value, tuple) else (value,):
            problem = self._problem(each)
            if problem:
                raise InvalidKeyError(name, problem)

    def _problem(self, value: object) -> str:
        if not _is(value, self.kind):
            return f"must be {_WORDS[self.kind]}, not {value!r}"
        if self.choices and value not in self.choices:
            return f"must be {listed(self.choices)}, not {value!r}{suggestion(value, self.choices)}"
        if isinstance(value, int | float) and not self.least <= value <= self.most:
            limits = f"at least {self.least:g}"
            if self.most < math.inf:
                limits = f"{self.least:g} to {self.most:.10g}"
            return f"must be {limits}, not {value!r}"
        return ""


def key(default: Any, meaning: str, *, of: type | None = None, **limits: Any) -> Any:
    """Return the field of a section's key; `of` is the type of each value where it has many."""
    rule = Rule(of or type(default), of is not None, meaning, **limits)
    return field(default=default, metadata={_RULE: rule})


@dataclass(frozen=True, slots=True)
class Section:
    """A group of keys. Raises InvalidKeyError for the first that has a wrong value."""

    def __post_init__(self) -> None:
        for name, rule in rules_of(type(self)).items():
            rule.check(name, getattr(self, name))


def rules_of(section: type[Section]) -> dict[str, Rule]:
    """Return the rule of each key of a section, in order."""
    return {each.name: each.metadata[_RULE] for each in fields(section)}


def listed(choices: Sequence[object]) -> str:
    """Return `a, b or c`."""
    *firsts, last = map(str, choices)
    return f"{', '.join(firsts)} or {last}" if firsts else last


def suggestion(word: object, choices: Sequence[object]) -> str:
    """Return `; is x meant?` for the choice that is nearest to a wrong word, else nothing."""
    nearest = get_close_matches(str(word), [str(choice) for choice in choices], n=1)
    return f"; is {nearest[0]} meant?" if nearest else ""


def _is(value: object, kind: type) -> bool:
    """Return whether a value is of a kind: true is no number, a whole number is a number."""
    if isinstance(value, bool):
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, kind)
