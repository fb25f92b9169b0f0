"""Patience: bounded, in proportion, and short with an API that was never reached."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.patience import Patience, Trouble, is_sign_of_life

# A base that makes pauses of an hour is as good as none.
seconds = st.floats(0, 300)
jitters = st.floats(0, 1, exclude_max=True)


def test_the_bounds_at_the_default_base() -> None:
    assert Patience.of(5.0) == Patience(
        base_seconds=5.0,
        longest_pause_seconds=60.0,
        outage_seconds=900.0,
        unreached_seconds=15.0,
    )


@given(seconds, st.integers(1, 10_000), jitters)
def test_a_pause_is_never_longer_than_the_longest(base: float, number: int, jitter: float) -> None:
    patience = Patience.of(base)
    assert 0.0 <= patience.pause_seconds(number, jitter) <= patience.longest_pause_seconds


@given(seconds, jitters)
def test_pauses_grow_to_the_longest(base: float, jitter: float) -> None:
    patience = Patience.of(base)
    pauses = [patience.pause_seconds(number, jitter) for number in range(1, 10)]
    assert all(later >= earlier for earlier, later in pairwise(pauses))
    assert pauses[-1] == patience.longest_pause_seconds * jitter


@given(seconds, seconds, st.booleans())
def test_waiting_ends(base: float, lasted: float, reached: bool) -> None:
    patience = Patience.of(base)
    left = patience.left_seconds(lasted, reached=reached)
    most = patience.outage_seconds if reached else patience.unreached_seconds
    assert 0.0 <= left <= most
    assert patience.left_seconds(most, reached=reached) == 0.0


@pytest.mark.parametrize("trouble", Trouble)
def test_silence_and_a_page_of_anybody_are_no_signs_of_life(trouble: Trouble) -> None:
    assert is_sign_of_life(trouble) == (trouble in (Trouble.FAULT, Trouble.BLOCK))
