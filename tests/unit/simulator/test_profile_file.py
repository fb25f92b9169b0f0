"""Profile files: what they may say, and what is said of those that do not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.simulator import (
    Account,
    Defaults,
    Drift,
    InvalidKeyError,
    Limit,
    Listing,
    Outage,
    Profile,
    ProfileError,
    SimulatorOptions,
    read_profile,
    ready_profiles,
)
from collector.simulator.profile import SECTIONS, profile_of

WHOLE = """
[defaults]
wallpapers = 3
[limit]
window_seconds = 6
[drift]
uploads_per_minute = 1.5
[listing]
empty_pages = [2, 3]
[account]
keys = ["a"]
[[outages]]
requests = 2
[[outages]]
answer = "challenge"
seconds = 0.5
"""


def test_a_file_becomes_a_profile(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(WHOLE)
    assert read_profile(str(tmp_path / "mine.toml")) == Profile(
        defaults=Defaults(wallpapers=3),
        limit=Limit(window_seconds=6),
        drift=Drift(uploads_per_minute=1.5),
        listing=Listing(empty_pages=(2, 3)),
        account=Account(keys=("a",)),
        outages=(Outage(requests=2), Outage(answer="challenge", seconds=0.5)),
    )


def test_an_empty_file_changes_nothing() -> None:
    assert profile_of({}, "empty") == Profile()
    assert SimulatorOptions.of(Profile()) == SimulatorOptions()


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
        ("[limits]", "limits is unknown; is limit meant?"),
        ("[xyz]", "xyz is unknown"),
        ("limit = 3", "limit must be a table, not 3"),
        ("[outages]", "outages must be tables, each headed [[outages]]"),
        ("outages = [1]", "outages 1 must be a table, not 1"),
        ("[limit]\nrequest = 3", "limit.request is unknown; is requests meant?"),
        ("[limit]\nrequests = 'x'", "limit.requests must be a whole number, not 'x'"),
        ("[limit]\nrequests = 1.5", "limit.requests must be a whole number, not 1.5"),
        ("[limit]\nrequests = true", "limit.requests must be a whole number, not True"),
        ("[limit]\nrequests = -1", "limit.requests must be at least 0, not -1"),
        ("[limit]\nwindow_seconds = nan", "limit.window_seconds must be a number, not nan"),
        ("[limit]\nwindow_seconds = 0", "limit.window_seconds must be at least 0.01, not 0"),
        ("[limit]\nheaders = 1", "limit.headers must be true or false, not 1"),
        (
            "[limit]\nretry_after = 'dates'",
            "limit.retry_after must be seconds, date, nonsense, absurd or none, not 'dates';"
            " is date meant?",
        ),
        ("[limit]\nretry_after = ['date']", "limit.retry_after must be a text, not ('date',)"),
        ("[listing]\nempty_pages = 3", "listing.empty_pages must be a list, not 3"),
        ("[listing]\nempty_pages = [0]", "listing.empty_pages must be at least 1, not 0"),
        (
            "[listing]\nignored_filters = ['atlast']",
            "listing.ignored_filters must be q, categories, purity, topRange, atleast,"
            " resolutions, ratios or colors, not 'atlast'; is atleast meant?",
        ),
        ("[account]\npage_size = 25", "account.page_size must be 0, 24, 32 or 64, not 25"),
        ("[defaults]\nnsfw_share = 1.5", "defaults.nsfw_share must be 0 to 1, not 1.5"),
        (
            "[defaults]\nnsfw_share = 0.6\nsketchy_share = 0.6",
            "defaults.nsfw_share and sketchy_share are more than 1 together",
        ),
        ("[[outages]]", "outages 1.requests or seconds must be set, one of them"),
        (
            "[[outages]]\nrequests = 1\n[[outages]]\nrequests = 1\nseconds = 1",
            "outages 2.requests or seconds must be set, one of them",
        ),
        (
            "[[outages]]\nrequests = 1\nstatus = 404",
            "outages 1.status of error is 500, 502, 503, 504, 520, 521, 522, 523, 524, 525 or 526,"
            " not 404",
        ),
        (
            "[[outages]]\nanswer = 'html'\nrequests = 1\nstatus = 503",
            "outages 1.status of html is 200, not 503",
        ),
        (
            "[[outages]]\nseconds = 1\nfrom_request = 4",
            "outages 1.seconds goes with from_second alone",
        ),
        (
            "[[outages]]\nrequests = 1\nfrom_second = 4",
            "outages 1.requests goes with from_request, not with from_second",
        ),
        (
            "[[outages]]\nrequests = 5\nevery_requests = 5",
            "outages 1.every_requests must be more than requests, 5",
        ),
        ("[limit", "is no TOML: Expected ']' at the end of a table declaration"),
        ("limit = " + "[" * 900, "is no TOML: "),
        ("limit" + ".a" * 900 + " = 1", "is no TOML: a line has more than 1,000 characters"),
        ("# a comment\n" * 9_000, "is no TOML: it has more than 65,536 bytes"),
    ],
)
def test_a_wrong_file_is_refused_by_its_name_and_key(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ProfileError) as raised:
        read_profile(str(path))
    assert str(raised.value).startswith(f"{path}: {problem}")
    assert "\n" not in str(raised.value)
    assert raised.value.file == str(path)


def test_a_missing_file_names_the_ready_ones(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"^stromy: no such file, .*busy, calm or stormy; is st"):
        read_profile("stromy")
    with pytest.raises(ProfileError, match="directory"):
        read_profile(str(tmp_path))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match="is no TOML"):
        read_profile(str(tmp_path / "bytes"))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = st.sampled_from(sorted({*SECTIONS, "requests", "seconds", "keys", "status", "empty_pages"}))


@given(st.dictionaries(KEYS, VALUES | st.dictionaries(KEYS, VALUES)))
def test_nothing_but_a_profile_or_a_profile_error_comes_out(content: dict[str, object]) -> None:
    with suppress(ProfileError):
        assert isinstance(profile_of(content, "any"), Profile)


def test_sections_of_tests_are_checked_too() -> None:
    with pytest.raises(InvalidKeyError, match=r"^requests must be at least 0, not -1$"):
        Limit(requests=-1)


def test_what_is_given_wins_over_the_profile() -> None:
    profile = Profile(
        defaults=Defaults(wallpapers=9, seed=3, image_bytes_per_second=1_000),
        limit=Limit(requests=2, window_seconds=6, headers=False),
    )
    options = SimulatorOptions.of(profile, wallpapers=5)
    assert (options.wallpapers, options.seed, options.image_bytes_per_second) == (5, 3, 1_000)
    assert options.limit is profile.limit
    options = SimulatorOptions.of(profile, requests_per_minute=100)
    assert options.limit == replace(profile.limit, requests=100, window_seconds=60)


def test_keys_are_not_shown() -> None:
    profile = Profile(account=Account(keys=("secret",)))
    assert "secret" not in repr(SimulatorOptions(profile=profile))
