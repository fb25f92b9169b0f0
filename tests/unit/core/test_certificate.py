"""What a crawl can prove, from its ledger alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collector.core.certificate import (
    CERTIFICATE_FIELDS,
    Certificate,
    CrawlFacts,
    CrawlVerdict,
    certify,
)


def judged(facts: CrawlFacts, *, is_read: bool = True) -> Certificate:
    return certify(facts, is_read=is_read)


QUIET = CrawlFacts(
    from_page=1,
    to_page=None,
    is_oldest_first=True,
    last_page=4,
    pages=4,
    readings=5,
    listed=110,
    seen=90,
    total_at_start=90,
    total_at_last_look=90,
    total_at_end=90,
    is_quiet=True,
    unproven_borders=0,
    short_pages=[],
)


def test_a_quiet_list_of_which_all_was_seen_is_complete() -> None:
    certificate = judged(QUIET)
    assert certificate.verdict is CrawlVerdict.COMPLETE
    assert tuple(certificate.as_json()) == CERTIFICATE_FIELDS
    assert certificate.as_json() == {
        "verdict": "complete",
        "explanation": "every item that the site counts was seen, and the total did not change",
        "seen": 90,
        "total_at_start": 90,
        "total_at_end": 90,
        "difference": 0,
        "duplicates": 20,
        "pages": 4,
        "missing_pages": 0,
        "pages_read_again": 1,
        "short_pages": [],
        "unreadable_pages": [],
    }


@pytest.mark.parametrize(
    "facts",
    [
        replace(QUIET, total_at_start=None, total_at_end=None, pages=0),
        replace(QUIET, pages=3),
        replace(QUIET, unproven_borders=1),
    ],
    ids=["not begun", "a page is missing", "a border is unproven"],
)
def test_there_is_no_verdict_before_the_end(facts: CrawlFacts) -> None:
    assert judged(facts).verdict is None


def test_there_is_no_verdict_while_the_crawl_says_that_it_has_more_to_read() -> None:
    assert judged(QUIET, is_read=False).verdict is None


def test_a_changing_list_with_short_pages_is_incomplete() -> None:
    facts = replace(QUIET, is_quiet=False, seen=95, short_pages=[2])
    assert judged(facts).verdict is CrawlVerdict.INCOMPLETE


def test_a_part_behind_the_end_is_incomplete() -> None:
    certificate = judged(replace(QUIET, from_page=100, pages=1, seen=0))
    assert certificate.verdict is CrawlVerdict.INCOMPLETE
    assert certificate.explanation == "the list ends with page 4"


def test_what_is_not_listed_any_more_explains_the_difference() -> None:
    certificate = judged(replace(QUIET, is_quiet=False, seen=95, total_at_start=93))
    assert certificate.verdict is CrawlVerdict.EXPLAINED
    assert "5 items that are no longer listed" in certificate.explanation


def test_a_list_that_only_grew_is_complete() -> None:
    facts = replace(QUIET, is_quiet=False, total_at_start=80)
    assert judged(facts).verdict is CrawlVerdict.COMPLETE


def test_what_joined_after_the_last_look_is_not_missing() -> None:
    facts = replace(QUIET, is_quiet=False, total_at_end=92)
    assert judged(facts).verdict is CrawlVerdict.COMPLETE


@pytest.mark.parametrize("is_quiet", [True, False])
def test_items_that_no_page_showed_make_it_incomplete(is_quiet: bool) -> None:
    certificate = judged(replace(QUIET, is_quiet=is_quiet, seen=88, short_pages=[2]))
    assert certificate.verdict is CrawlVerdict.INCOMPLETE
    assert "2 items" in certificate.explanation


def test_a_list_of_unknown_order_proves_it_only_by_standing_still() -> None:
    collection = replace(QUIET, is_oldest_first=False)
    assert judged(collection).verdict is CrawlVerdict.COMPLETE
    changed = replace(collection, is_quiet=False)
    assert judged(changed).verdict is CrawlVerdict.INCOMPLETE


def test_a_part_is_judged_by_its_pages_and_not_by_the_total() -> None:
    part = replace(QUIET, from_page=2, to_page=3, pages=2, seen=48)
    assert judged(part).verdict is CrawlVerdict.COMPLETE
    assert judged(part).as_json()["difference"] is None
    assert judged(replace(part, short_pages=[3])).verdict is CrawlVerdict.INCOMPLETE


def test_pages_that_could_not_be_read_make_it_incomplete_and_are_named() -> None:
    certificate = judged(replace(QUIET, pages=2, seen=42, unreadable_pages=[2, 3]))
    assert certificate.verdict is CrawlVerdict.INCOMPLETE
    assert certificate.explanation == "pages that could not be read: 2, 3"
    assert certificate.as_json()["unreadable_pages"] == [2, 3]
    assert certificate.as_json()["missing_pages"] == 2
    # As long as it is not over, they may yet be read.
    assert judged(certificate.facts, is_read=False).verdict is None


def test_a_page_that_could_not_be_read_again_leaves_its_border_unproven_and_is_named() -> None:
    facts = replace(QUIET, unproven_borders=1, unreadable_pages=[2])
    assert judged(facts).verdict is CrawlVerdict.INCOMPLETE


def test_a_part_with_an_unreadable_page_is_incomplete() -> None:
    part = replace(QUIET, from_page=2, to_page=3, pages=1, seen=24, unreadable_pages=[3])
    assert judged(part).verdict is CrawlVerdict.INCOMPLETE


def test_pages_that_were_not_asked_for_behind_unreadable_ones_are_counted() -> None:
    unreadable = [*range(101, 113)]
    facts = replace(QUIET, last_page=400, pages=100, unreadable_pages=unreadable)
    certificate = judged(facts)
    assert certificate.verdict is CrawlVerdict.INCOMPLETE
    assert certificate.explanation == (
        "pages that could not be read: 101, 102, 103, 104, 105, 106, 107, 108, 109, 110 and 2 more;"
        " 288 pages after them were not requested"
    )


def test_an_empty_list_is_certified_by_name() -> None:
    nothing = replace(
        QUIET,
        last_page=1,
        pages=1,
        readings=1,
        listed=0,
        seen=0,
        total_at_start=0,
        total_at_last_look=0,
        total_at_end=0,
    )
    certificate = judged(nothing)
    assert certificate.verdict is CrawlVerdict.COMPLETE
    assert certificate.explanation == "the list is empty: the search matches nothing"
