"""What a backfill would cost: counted where all is known, estimated honestly where it is not."""

from __future__ import annotations

import random
from math import fsum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.crawl import Crawl
from collector.core.paging import CoveredPage
from collector.core.parts import PART_BYTES, PartCutter
from collector.core.planning import (
    Estimate,
    backfill_api_calls,
    estimated_total,
    plan_backfill,
    put_requests,
    sampled_pages,
)

BODY = memoryview(bytes(3 * PART_BYTES + 1))
sizes = st.lists(st.integers(1, 40_000_000), min_size=2, max_size=80)


@given(
    st.integers(0, len(BODY))
    | st.sampled_from([n * PART_BYTES + more for n in (1, 2, 3) for more in (-1, 0, 1)])
)
def test_puts_are_those_of_the_parts_that_are_cut(size_bytes: int) -> None:
    cutter = PartCutter()
    parts = [*cutter.feed(BODY[:size_bytes]), cutter.rest()]
    assert put_requests(size_bytes) == (1 if len(parts) == 1 else len(parts) + 2)


def readings(pages: int, pages_per_batch: int) -> int:
    """Crawl a list that does not change, one page at a time; return how many were read."""
    crawl, count = Crawl([], pages_per_batch=pages_per_batch), 0
    while (read := crawl.take()) is not None:
        count += 1
        crawl.note(
            CoveredPage(
                number=read.number,
                search_key="search",
                items=1,
                invalid=0,
                known=0,
                ids=[str(read.number)],
                last_page=pages,
                total=pages,
                per_page=1,
                reading=read.reading,
            )
        )
    return count


@given(st.integers(1, 120), st.integers(1, 30))
def test_calls_are_those_of_a_crawl_of_a_quiet_list(pages: int, pages_per_batch: int) -> None:
    assert backfill_api_calls(pages, pages_per_batch) == readings(pages, pages_per_batch)


def test_even_an_empty_list_is_asked_for() -> None:
    assert backfill_api_calls(0) == backfill_api_calls(1) == 1
    assert [backfill_api_calls(pages) for pages in (2, 25, 26, 51)] == [3, 26, 29, 55]


def test_the_whole_site_takes_the_hours_that_the_budget_says() -> None:
    plan = plan_backfill(images=501_359, pages=20_890, sizes_bytes=[], requests_per_minute=45)
    assert plan.api_calls == 20_890 + 836 + 1
    assert plan.hours == pytest.approx(plan.api_calls / 2700)
    assert (plan.gigabytes, plan.puts, plan.sampled_images) == (None, None, 0)


@given(st.integers(0, 100_000))
def test_sampled_pages_are_the_ends_and_the_middle(last_page: int) -> None:
    pages = sampled_pages(last_page)
    assert list(pages) == sorted(set(pages))
    assert len(pages) == min(3, max(1, last_page))
    assert (pages[0], pages[-1]) == (1, max(1, last_page))


@given(st.lists(st.integers(1, 40_000_000), max_size=80))
def test_what_was_looked_at_as_a_whole_is_counted(sizes_bytes: list[int]) -> None:
    plan = plan_backfill(
        images=len(sizes_bytes), pages=1, sizes_bytes=sizes_bytes, requests_per_minute=45
    )
    gigabytes, puts = sum(sizes_bytes) / 1e9, sum(map(put_requests, sizes_bytes))
    assert plan.gigabytes is not None
    assert plan.gigabytes.likely == pytest.approx(gigabytes)
    assert plan.gigabytes.least == plan.gigabytes.likely == plan.gigabytes.most
    assert plan.puts == Estimate(puts, puts, puts)


@given(sizes, st.integers(0, 500_000))
def test_a_range_holds_what_is_likely_and_what_was_seen(sizes_bytes: list[int], more: int) -> None:
    images = len(sizes_bytes) + more
    plan = plan_backfill(images=images, pages=9, sizes_bytes=sizes_bytes, requests_per_minute=45)
    assert plan.gigabytes is not None
    assert plan.puts is not None
    for estimate in (plan.gigabytes, plan.puts):
        assert estimate.least <= estimate.likely * (1 + 1e-9)
        assert estimate.likely <= estimate.most * (1 + 1e-9)
    assert plan.gigabytes.least >= sum(sizes_bytes) / 1e9 * (1 - 1e-9)
    assert plan.puts.least >= sum(map(put_requests, sizes_bytes)) + more


@given(st.integers(1, 10**9), st.integers(2, 50), st.integers(0, 10**6))
def test_equal_sizes_leave_no_doubt(size_bytes: int, seen: int, more: int) -> None:
    estimate = estimated_total([size_bytes] * seen, seen + more)
    assert estimate is not None
    whole = size_bytes * (seen + more)
    assert [estimate.least, estimate.likely, estimate.most] == pytest.approx([whole] * 3)


@given(sizes, st.integers(1, 10_000))
def test_the_more_is_unseen_the_wider_the_range(sizes_bytes: list[int], more: int) -> None:
    one = estimated_total(sizes_bytes, len(sizes_bytes) + more)
    other = estimated_total(sizes_bytes, len(sizes_bytes) + 2 * more)
    assert one is not None
    assert other is not None
    assert one.most - one.likely <= (other.most - other.likely) * (1 + 1e-9)


@pytest.mark.parametrize("sample", [[], [5]])
def test_too_few_sizes_say_nothing(sample: list[int]) -> None:
    assert estimated_total(sample, 2) is None
    assert estimated_total(sample, len(sample)) is not None


def test_the_range_covers_the_truth_as_often_as_it_says() -> None:
    # Sizes as the site has them: many small ones, and a few large ones far away.
    chance = random.Random(7)
    population = [chance.lognormvariate(14, 1.05) for _ in range(2000)]
    truth, tries = fsum(population), 400
    held = 0
    for _ in range(tries):
        estimate = estimated_total(chance.sample(population, 72), len(population))
        assert estimate is not None
        held += estimate.least <= truth <= estimate.most
    assert 0.88 <= held / tries <= 1
