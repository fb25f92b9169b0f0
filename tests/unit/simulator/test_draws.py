from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from collector.simulator.draws import CAPACITY, Identifiers


@given(seed=st.integers(0, 2**40), index=st.integers(0, CAPACITY - 1))
def test_an_id_leads_back_to_its_index(seed: int, index: int) -> None:
    identifiers = Identifiers(seed)
    assert identifiers.index_of(identifiers.id_of(index)) == index


def test_ids_are_unique_and_have_six_letters() -> None:
    identifiers = Identifiers(7)
    ids = {identifiers.id_of(index) for index in range(20_000)}
    assert len(ids) == 20_000
    assert {len(wallhaven_id) for wallhaven_id in ids} == {6}
    assert set("".join(ids)) == set("0123456789abcdefghijklmnopqrstuvwxyz")


def test_ids_have_no_visible_order() -> None:
    identifiers = Identifiers(7)
    ids = [identifiers.id_of(index) for index in range(2_000)]
    rising = sum(first < second for first, second in pairwise(ids))
    assert 900 < rising < 1_100


def test_the_first_two_letters_shard_evenly() -> None:
    identifiers = Identifiers(7)
    shards = [identifiers.id_of(index)[:2] for index in range(20_000)]
    assert len(set(shards)) == 36**2
    assert max(shards.count(shard) for shard in set(shards)) < 45  # 15 on average


@given(st.text())
def test_any_text_has_an_index_or_none(text: str) -> None:
    index = Identifiers(7).index_of(text)
    assert index is None or Identifiers(7).id_of(index) == text


def test_seeds_give_different_ids() -> None:
    assert Identifiers(7).id_of(0) != Identifiers(8).id_of(0)
