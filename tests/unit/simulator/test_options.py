"""Options of the simulator: which are refused, and which override the profile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collector.simulator import (
    Account,
    Defaults,
    InvalidOptionError,
    Limit,
    Profile,
    SimulatorOptions,
)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"wallpapers": -1}, "wallpapers should be greater than or equal to 0, not -1"),
        ({"wallpapers": 36**6 + 1}, "wallpapers should be less than or equal to 2176782336"),
        ({"page_size": 0}, "page_size"),
        ({"requests_per_minute": -1}, "requests_per_minute"),
        ({"image_bytes_per_second": -1}, "image_bytes_per_second"),
        ({"port": 70_000}, "port"),
        ({"latency_seconds": -1.0}, "latency_seconds"),
        ({"sketchy_share": 1.1}, "sketchy_share"),
        ({"sketchy_share": 0.75, "nsfw_share": 0.5}, "nsfw_share"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, float], named: str) -> None:
    with pytest.raises(InvalidOptionError, match=named):
        SimulatorOptions.of(Profile(), **wrong)
    with pytest.raises(ValueError, match=named.split(maxsplit=1)[0]):
        SimulatorOptions(**wrong)  # type: ignore[arg-type]


def test_given_options_override_the_profile() -> None:
    profile = Profile(
        defaults=Defaults(wallpapers=9, seed=3, image_bytes_per_second=1_000),
        limit=Limit(requests=2, window_seconds=6, headers=False),
    )
    options = SimulatorOptions.of(profile, wallpapers=5)
    assert (options.wallpapers, options.seed, options.image_bytes_per_second) == (5, 3, 1_000)
    assert options.limit == profile.limit
    options = SimulatorOptions.of(profile, requests_per_minute=100)
    assert options.limit == replace(profile.limit, requests=100, window_seconds=60)


def test_an_empty_profile_changes_nothing() -> None:
    assert SimulatorOptions.of(Profile()) == SimulatorOptions()


def test_keys_are_not_shown() -> None:
    profile = Profile(account=Account(keys=("secret",)))
    assert "secret" not in repr(SimulatorOptions(profile=profile, api_keys=frozenset({"secret"})))
