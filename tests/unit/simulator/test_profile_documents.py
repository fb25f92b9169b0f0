"""docs/simulator.md says what a profile may say, and its examples are read."""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from collector.simulator import Profile, ready_profiles
from collector.simulator.profile import SECTIONS, Rule, Section, profile_of, rules_of

PAGE = (Path(__file__).resolve().parents[3] / "docs/simulator.md").read_text()
_KINDS = {bool: "true, false", int: "whole number", float: "number", str: "text"}


def as_toml(value: object) -> str:
    """Return a default as a profile file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return f'"{value}"' if isinstance(value, str) else f"{value:g}"


def may_be(rule: Rule) -> str:
    """Return the values that a key may have, in words."""
    if rule.choices:
        values = ", ".join(f"`{choice}`" for choice in rule.choices)
    else:
        values = _KINDS[rule.kind]
        if rule.most < math.inf:
            values += f", {rule.least:g} to {rule.most:.10g}"
        elif rule.kind in (int, float) and rule.least > 0:
            values += f", at least {rule.least:g}"
    return f"list of: {values}" if rule.many else values


def table_of(name: str, section: type[Section]) -> str:
    """Return the table of a section."""
    defaults = {field.name: field.default for field in fields(section)}
    rows = [f"| key of `{name}` | default | may be | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{key}` | `{as_toml(defaults[key])}` | {may_be(rule)} | {rule.meaning} |"
        for key, rule in rules_of(section).items()
    ]
    return "\n".join(rows)


TABLES = {name: table_of(name, section) for name, section in SECTIONS.items()}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_is_documented_with_default_values_and_meaning(name: str) -> None:
    described = PAGE.partition(f"\n### {name}\n")[2].partition("\n#")[0]
    assert TABLES[name] in described


def test_every_section_is_documented_and_no_other() -> None:
    keys = PAGE.partition("\n## All keys\n")[2].partition("\n## ")[0]
    assert re.findall("^### (.+)$", keys, re.MULTILINE) == list(SECTIONS)


def test_every_ready_profile_is_documented_and_no_other() -> None:
    table = PAGE.partition("| profile |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == list(ready_profiles())


def test_the_example_is_a_profile() -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert profile_of(tomllib.loads(example), "example") != Profile()
