"""The frontier: every page that is wanted, once, and no further."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.core.paging import CoveredPage, Frontier


def page(
    number: int, *, known: int = 0, last_page: int = 99, items: int = 24, invalid: int = 0
) -> CoveredPage:
    return CoveredPage(number, items, invalid, known, last_page)


def known_page(number: int, last_page: int = 99) -> CoveredPage:
    return page(number, known=24, last_page=last_page)


def take_all(frontier: Frontier) -> list[int]:
    return list(iter(frontier.take, None))


@st.composite
def sites(draw: st.DrawFn) -> dict[int, CoveredPage]:
    """What each page of a site would say; even its idea of the last page may change."""
    count = draw(st.integers(1, 12))
    shapes = st.sampled_from([(24, 0, 0), (24, 0, 24), (24, 2, 22), (24, 2, 9), (0, 0, 0)])
    last_pages = st.just(count) | st.integers(0, count)
    return {
        number: CoveredPage(number, *draw(shapes), last_page=draw(last_pages))
        for number in range(1, count + 1)
    }


@given(
    site=sites(),
    max_pages=st.integers(1, 15),
    may_stop=st.booleans(),
    staged=st.sets(st.integers(1, 12)),
    choices=st.data(),
)
def test_no_page_is_read_twice_or_beyond_the_bounds(
    site: dict[int, CoveredPage],
    max_pages: int,
    may_stop: bool,
    staged: set[int],
    choices: st.DataObject,
) -> None:
    covered = [site[number] for number in sorted(staged & site.keys())]
    frontier = Frontier(covered, max_pages=max_pages, contiguous=may_stop, refresh=False)
    answered = {part.number for part in covered}
    in_flight: list[int] = []
    while True:
        stopped = may_stop and any(site[number].nothing_new for number in answered)
        taken = frontier.take()
        if taken is not None:
            assert taken not in answered | set(in_flight)
            assert taken <= max_pages
            assert taken == 1 or taken <= max(site[number].last_page for number in answered)
            assert not stopped
            in_flight.append(taken)
        if in_flight and (taken is None or choices.draw(st.booleans())):
            done = in_flight.pop(choices.draw(st.integers(0, len(in_flight) - 1)))
            answered.add(done)
            if done in site:
                frontier.note(site[done])
        elif taken is None:
            break
    if not may_stop and len({part.last_page for part in site.values()}) == 1:
        last_page = next(iter(site.values())).last_page
        assert answered >= set(range(1, max(1, min(last_page, max_pages)) + 1))


def test_page_1_comes_alone_and_tells_how_many_there_are() -> None:
    frontier = Frontier([], max_pages=50, contiguous=False, refresh=False)
    assert take_all(frontier) == [1]
    frontier.note(page(1, last_page=4))
    assert take_all(frontier) == [2, 3, 4]


def test_max_pages_bounds_the_reading() -> None:
    frontier = Frontier([page(1, last_page=1000)], max_pages=3, contiguous=False, refresh=False)
    assert take_all(frontier) == [2, 3]
    assert not frontier.leaves_no_hole


def test_covered_pages_are_not_read_again() -> None:
    frontier = Frontier([page(1), page(3), page(4)], max_pages=6, contiguous=True, refresh=False)
    assert take_all(frontier) == [2, 5, 6]


def test_a_page_with_nothing_new_ends_the_reading_where_it_may() -> None:
    frontier = Frontier([page(1)], max_pages=50, contiguous=True, refresh=False)
    assert frontier.take() == 2
    frontier.note(known_page(2))
    assert frontier.take() is None
    assert frontier.leaves_no_hole


def test_a_page_with_nothing_new_ends_nothing_where_it_may_not() -> None:
    frontier = Frontier([known_page(1, 3)], max_pages=50, contiguous=False, refresh=False)
    assert take_all(frontier) == [2, 3]


def test_a_covered_page_with_nothing_new_ends_a_continued_reading() -> None:
    frontier = Frontier([page(1), known_page(2)], max_pages=50, contiguous=True, refresh=False)
    assert frontier.take() is None
    assert frontier.leaves_no_hole


def test_the_last_page_may_grow_and_shrink() -> None:
    frontier = Frontier([page(1, last_page=2)], max_pages=50, contiguous=False, refresh=False)
    assert take_all(frontier) == [2]
    frontier.note(page(2, last_page=4))
    assert frontier.take() == 3
    frontier.note(page(3, last_page=3))
    assert frontier.take() is None
    assert frontier.leaves_no_hole


def test_a_last_page_of_nothing_still_reads_the_first() -> None:
    frontier = Frontier([], max_pages=50, contiguous=True, refresh=False)
    assert take_all(frontier) == [1]
    frontier.note(page(1, items=0, last_page=0))
    assert frontier.take() is None
    assert frontier.leaves_no_hole


def test_nothing_new_counts_the_items_that_can_be_rows() -> None:
    assert page(1, items=24, invalid=2, known=22).nothing_new
    assert not page(1, items=24, invalid=2, known=21).nothing_new
    assert not page(1, items=24, known=0).nothing_new


def test_a_page_without_usable_items_says_nothing() -> None:
    assert not page(1, items=0).nothing_new
    assert not page(1, items=24, invalid=24).nothing_new


def test_a_familiar_search_is_not_read_ahead() -> None:
    assert Frontier([page(1, known=1)], max_pages=9, contiguous=True, refresh=False).is_familiar
    assert not Frontier(
        [page(1, known=1)], max_pages=9, contiguous=False, refresh=False
    ).is_familiar
    assert not Frontier([page(1)], max_pages=9, contiguous=True, refresh=False).is_familiar


def after(
    *pages: CoveredPage, contiguous: bool | None, max_pages: int = 3, refresh: bool = False
) -> bool:
    """Say whether a reading of these pages leaves no hole."""
    frontier = Frontier(pages, max_pages=max_pages, contiguous=contiguous, refresh=refresh)
    return frontier.leaves_no_hole


def test_a_reading_to_the_last_page_leaves_no_hole() -> None:
    whole = [page(1, last_page=3), page(2, last_page=3), page(3, last_page=3)]
    assert after(*whole, contiguous=False)
    assert after(*whole, contiguous=True)


def test_the_first_reading_leaves_no_hole_however_short() -> None:
    assert after(page(1), page(2), page(3), contiguous=None)


def test_a_reading_that_stops_short_of_the_known_leaves_a_hole() -> None:
    assert not after(page(1), page(2), page(3), contiguous=True)
    assert after(page(1), page(2), known_page(3), contiguous=True)
    assert after(page(1), known_page(2), page(3), contiguous=True, refresh=True)


def test_known_pages_prove_nothing_where_there_was_a_hole() -> None:
    assert not after(known_page(1), page(2), page(3), contiguous=False)
    assert not after(page(1), page(2), known_page(3), contiguous=False)


def test_refresh_reads_on_beyond_the_known() -> None:
    frontier = Frontier([known_page(1, 3)], max_pages=50, contiguous=True, refresh=True)
    assert take_all(frontier) == [2, 3]
