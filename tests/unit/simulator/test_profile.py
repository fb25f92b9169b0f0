"""Profile files: what they may hold, messages about wrong ones, and docs/simulator.md."""

from __future__ import annotations

import json
import re
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from collector.simulator import (
    Account,
    Defaults,
    Drift,
    Limit,
    Listing,
    Outage,
    Profile,
    ProfileError,
    read_profile,
    ready_profiles,
)
from collector.simulator.profile import profile_of

PAGE = (Path(__file__).resolve().parents[3] / "docs/simulator.md").read_text()
_KINDS = {
    "boolean": "true, false",
    "integer": "whole number",
    "number": "number",
    "string": "text",
}
_SCHEMA = TypeAdapter(Profile).json_schema()
# The tables of a profile file, each with the schema of its keys.
SECTIONS = {
    name: _SCHEMA["$defs"][(it.get("items") or it)["$ref"].rpartition("/")[2]]
    for name, it in _SCHEMA["properties"].items()
}

WHOLE = """
[defaults]
wallpapers = 3
[limit]
window_seconds = 6
[drift]
uploads_per_100_requests = 1.5
[listing]
empty_pages = [2, 3]
[account]
keys = ["a"]
[[outages]]
requests = 2
[[outages]]
answer = "challenge"
"""


def test_a_file_becomes_a_profile(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(WHOLE)
    assert read_profile(str(tmp_path / "mine.toml")) == Profile(
        defaults=Defaults(wallpapers=3),
        limit=Limit(window_seconds=6),
        drift=Drift(uploads_per_100_requests=1.5),
        listing=Listing(empty_pages=(2, 3)),
        account=Account(keys=("a",)),
        outages=(Outage(requests=2), Outage(answer="challenge")),
    )


def test_an_empty_file_changes_nothing() -> None:
    assert profile_of({}, "empty") == Profile()


@pytest.mark.parametrize("name", ready_profiles())
def test_ready_profiles_can_be_read(name: str) -> None:
    assert read_profile(name) != Profile()


def test_a_ready_name_wins_over_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("calm").write_text("[limit]\nrequests = 1\n")
    assert read_profile("calm").limit.requests == 45
    assert read_profile("./calm").limit.requests == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[limits]", "limits is unknown"),
        ("limit = 3", "limit should be a table, not 3"),
        ("[outages]", "outages should be a list, not {}"),
        ("outages = [1]", "outages.1 should be a table, not 1"),
        ("[limit]\nrequest = 3", "limit.request is unknown"),
        ("[limit]\nrequests = 'x'", "limit.requests should be a valid integer, not 'x'"),
        ("[limit]\nrequests = 1.5", "limit.requests should be a valid integer, not 1.5"),
        ("[limit]\nrequests = true", "limit.requests should be a valid integer, not True"),
        ("[limit]\nrequests = -1", "limit.requests should be greater than or equal to 0, not -1"),
        ("[limit]\nwindow_seconds = nan", "limit.window_seconds should be"),
        ("[limit]\nwindow_seconds = inf", "limit.window_seconds should be a finite number"),
        (
            "[limit]\nwindow_seconds = 0",
            "limit.window_seconds should be greater than or equal to 0.01, not 0",
        ),
        ("[limit]\nheaders = 1", "limit.headers should be a valid boolean, not 1"),
        (
            "[limit]\nretry_after = 'dates'",
            "limit.retry_after should be 'seconds' or 'date', not 'dates'",
        ),
        ("[limit]\nretry_after = ['date']", "limit.retry_after should be "),
        ("[listing]\nempty_pages = 3", "listing.empty_pages should be a list, not 3"),
        (
            "[listing]\nempty_pages = [4, 0]",
            "listing.empty_pages.2 should be greater than or equal to 1, not 0",
        ),
        (
            "[listing]\nignored_filters = ['atlast']",
            "listing.ignored_filters.1 should be 'q', 'categories', 'purity', 'topRange',"
            " 'atleast', 'resolutions', 'ratios' or 'colors', not 'atlast'",
        ),
        ("[account]\npage_size = 25", "account.page_size should be 0, 24, 32 or 64, not 25"),
        ("[defaults]\nnsfw_share = 1.5", "defaults.nsfw_share should be less than or equal to 1"),
        (
            "[defaults]\nnsfw_share = 0.6\nsketchy_share = 0.6",
            "defaults: nsfw_share and sketchy_share add up to more than 1",
        ),
        ("[[outages]]\n[[outages]]\nseconds = 1", "outages.2.seconds is unknown"),
        (
            "[[outages]]\nrequests = 1\nstatus = 404",
            "outages.1: status of error must be 503, 500, 502, 504, 520, 521, 522, 523, 524, 525"
            " or 526, not 404",
        ),
        (
            "[[outages]]\nanswer = 'html'\nrequests = 1\nstatus = 503",
            "outages.1: status of html must be 200, not 503",
        ),
        (
            "[[outages]]\nrequests = 5\nevery_requests = 5",
            "outages.1: every_requests must be more than requests, 5",
        ),
        ("[limit", "not TOML: Expected ']' at the end of a table declaration"),
        ("limit = " + "[" * 900, "not TOML: "),
        ("limit" + ".a" * 900 + " = 1", "not TOML: a line has more than 1,000 characters"),
        ("# a comment\n" * 9_000, "not TOML: the file has more than 65,536 bytes"),
    ],
)
def test_the_error_about_a_wrong_file_names_file_and_key(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ProfileError) as raised:
        read_profile(str(path))
    assert str(raised.value).startswith(f"{path}: {problem}")
    assert "\n" not in str(raised.value)


def test_the_error_about_a_missing_file_names_the_ready_profiles(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"^stromy: no such file, .*busy, calm, stormy$"):
        read_profile("stromy")
    with pytest.raises(ProfileError, match="directory"):
        read_profile(str(tmp_path))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match="not TOML"):
        read_profile(str(tmp_path / "bytes"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = st.sampled_from(sorted({*SECTIONS, "requests", "keys", "status", "empty_pages"}))


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine, the first examples
@given(st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES)))
def test_any_content_is_a_profile_or_a_profile_error(content: dict[str, object]) -> None:
    with suppress(ProfileError):
        assert isinstance(profile_of(content, "any"), Profile)


def test_sections_made_in_code_are_checked_too() -> None:
    with pytest.raises(ValidationError, match="requests"):
        Limit(requests=-1)


def _may_be(schema: dict[str, Any]) -> str:
    """Return the possible values of a key, in words."""
    if schema["type"] == "array":
        return f"list of: {_may_be(schema['items'])}"
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    values = _KINDS[schema["type"]]
    least, most = schema.get("minimum", 0), schema.get("maximum")
    if most is not None:
        return f"{values}, {least:g} to {most:.10g}"
    return f"{values}, at least {least:g}" if least else values


def _as_toml(value: object) -> str:
    """Return a default as a profile file writes it."""
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _table_of(name: str) -> str:
    rows = [f"| key of `{name}` | default | may be | meaning |", "|---|---|---|---|"]
    rows += [
        f"| `{key}` | `{_as_toml(it['default'])}` | {_may_be(it)} | {it['description']} |"
        for key, it in SECTIONS[name]["properties"].items()
    ]
    return "\n".join(rows)


TABLES = {name: _table_of(name) for name in SECTIONS}


@pytest.mark.parametrize("name", SECTIONS)
def test_every_key_is_documented_with_default_values_and_meaning(name: str) -> None:
    described = PAGE.partition(f"\n### {name}\n")[2].partition("\n#")[0]
    assert TABLES[name] in described


def test_exactly_the_sections_are_documented() -> None:
    keys = PAGE.partition("\n## All keys\n")[2].partition("\n## ")[0]
    assert re.findall("^### (.+)$", keys, re.MULTILINE) == list(SECTIONS)


def test_exactly_the_ready_profiles_are_documented() -> None:
    table = PAGE.partition("| profile |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == list(ready_profiles())


def test_the_example_is_a_profile() -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert profile_of(tomllib.loads(example), "example") != Profile()
