"""Overlapping parts of a list are joined in list order, at low cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.chains import joined
from collector.core.incremental import IncrementalRead
from collector.core.paging import CoveredPage

PER_PAGE = 24
LIST = [f"w{number}" for number in range(60)]


def test_what_does_not_overlap_stays_apart() -> None:
    assert joined([]) == []
    assert joined([[], ["a", "b"], ["c"]]) == [["a", "b"], ["c"]]


def test_parts_that_share_an_item_are_one() -> None:
    assert joined([["a", "b"], ["b", "c"]]) == [["a", "b", "c"]]
    assert joined([["b", "c"], ["a", "b"]]) == [["a", "b", "c"]]
    assert joined([["a", "b", "c"], ["b"]]) == [["a", "b", "c"]]
    assert joined([["a", "b"], ["c", "d"], ["b", "x", "c"]]) == [["a", "b", "x", "c", "d"]]


def test_of_what_only_one_has_the_longer_reaches_further() -> None:
    assert joined([["x", "s"], ["a", "b", "s"]]) == [["a", "b", "x", "s"]]
    assert joined([["a", "b", "s"], ["x", "s"]]) == [["a", "b", "x", "s"]]
    assert joined([["s", "x"], ["s", "y", "z"]]) == [["s", "x", "y", "z"]]
    assert joined([["s", "y", "z"], ["s", "x"]]) == [["s", "x", "y", "z"]]
    assert joined([["a", "b", "c", "d"], ["b", "x", "d"]]) == [["a", "b", "x", "c", "d"]]


def test_parts_that_contradict_each_other_lose_and_repeat_nothing() -> None:
    found = joined([["a", "b", "c"], ["d", "e"], ["e", "x", "c", "y", "a", "d", "x"]])
    assert sorted(item for part in found for item in part) == list("abcdexy")


SECTIONS = st.lists(st.tuples(st.integers(0, 59), st.integers(1, 30)), max_size=12)


@given(SECTIONS)
def test_sections_of_one_list_become_what_they_cover_of_it(sections: list[tuple[int, int]]) -> None:
    parts = [LIST[first : first + length] for first, length in sections]
    covered = {item for part in parts for item in part}
    neighbours = {pair for part in parts for pair in pairwise(part)}
    found = joined(parts)
    expected: list[list[str]] = []
    for item in LIST:
        if item in covered:
            if expected and (expected[-1][-1], item) in neighbours:
                expected[-1].append(item)
            else:
                expected.append([item])
    assert sorted(map(tuple, found)) == sorted(map(tuple, expected))


@given(st.lists(st.lists(st.sampled_from("abcdefghij"), max_size=8), max_size=8))
def test_each_item_is_in_one_part_and_what_was_in_one_stays_in_one(parts: list[list[str]]) -> None:
    found = joined(parts)
    items = [item for part in found for item in part]
    assert sorted(items) == sorted({item for part in parts for item in part})
    assert all(any(set(part) <= set(whole) for whole in found) for part in parts if part)


# --- How much work it is --------------------------------------------------------------------------


def same_pages(pages: int) -> list[list[str]]:
    """Return eight readings of the same pages, each some items later than the one before."""
    items = [f"w{number}" for number in range(pages * PER_PAGE + 80)]
    return [items[10 * day : 10 * day + pages * PER_PAGE] for day in reversed(range(8))]


def one_after_another(parts: int) -> list[list[str]]:
    """Return parts of ten pages of which each goes on where the one before it has ended."""
    items = [f"w{number}" for number in range((10 * parts + 1) * PER_PAGE)]
    length = 10 * PER_PAGE
    return [items[length * part : length * (part + 1) + 5] for part in range(parts)]


def with_gaps(parts: int) -> list[list[str]]:
    items = [f"w{number}" for number in range(20 * parts * PER_PAGE)]
    length = 10 * PER_PAGE
    return [items[2 * length * part : length * (2 * part + 1)] for part in range(parts)]


class Counted(str):
    """An id that counts how often one is compared or looked up."""

    __slots__ = ()
    uses = 0

    def __hash__(self) -> int:
        Counted.uses += 1
        return super().__hash__()

    def __eq__(self, other: object) -> bool:
        Counted.uses += 1
        return super().__eq__(other)


def uses_of(work: Callable[[Sequence[Sequence[str]]], object], parts: list[list[str]]) -> int:
    counted = [[Counted(item) for item in part] for part in parts]
    Counted.uses = 0
    work(counted)
    return Counted.uses


@pytest.mark.parametrize("make", [same_pages, one_after_another, with_gaps])
def test_four_times_as_much_is_four_times_the_work(
    make: Callable[[int], list[list[str]]],
) -> None:
    few, many = (uses_of(joined, make(count)) for count in (10, 40))
    assert many < 5 * few


def test_eight_readings_of_1000_pages_are_joined_at_once() -> None:
    parts = same_pages(1000)
    begun_at = time.process_time()
    (found,) = joined(parts)
    assert len(found) == 1000 * PER_PAGE + 70
    assert time.process_time() - begun_at < 2.0, "it took 117 s once; 0.1 s is usual"


def test_a_page_costs_the_same_however_much_of_the_list_is_known() -> None:
    def descend(parts: Sequence[Sequence[str]]) -> None:
        descent = IncrementalRead((), max_pages=10, watermark=["gone"], above=parts)
        Counted.uses = 0
        while (read := descent.take()) is not None:
            ids = [Counted(f"n{read.number}-{place}") for place in range(PER_PAGE)]
            descent.note(CoveredPage(read.number, "", PER_PAGE, 0, 0, [*ids], 99, 2376, PER_PAGE))

    few, many = (uses_of(descend, with_gaps(count)) for count in (5, 50))
    assert many < 2 * few
