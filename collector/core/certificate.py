"""Decide what a crawl proves about the list that it has read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from collector.core.runs import Json

# The keys of a certificate, in the order in which to show them: jsonb keeps no order.
CERTIFICATE_FIELDS = (
    "verdict",
    "explanation",
    "seen",
    "total_at_start",
    "total_at_end",
    "difference",
    "duplicates",
    "pages",
    "missing_pages",
    "pages_read_again",
    "short_pages",
    "unreadable_pages",
)
# A report is for people: the first pages show where to look.
_MAX_PAGES_LISTED = 50
_MAX_PAGES_NAMED = 10


class CrawlVerdict(StrEnum):
    """Whether a crawl has seen every listed item; `explained` adds items deleted meanwhile."""

    COMPLETE = "complete"
    EXPLAINED = "explained"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class CrawlFacts:
    """What the ledger says about a crawl.

    `seen` counts distinct items, `listed` counts duplicates too. Totals are None before the first
    page, and `total_at_last_look` before the last page was read. `is_quiet`: the total was the same
    at each reading. `unproven_borders` counts pairs of neighbouring pages of which the lower one
    was not read again after the upper one. `unreadable_pages` failed when they were last requested,
    although they should exist and other pages could be read.
    """

    from_page: int
    to_page: int | None
    is_oldest_first: bool
    last_page: int
    pages: int
    readings: int
    listed: int
    seen: int
    total_at_start: int | None
    total_at_last_look: int | None
    total_at_end: int | None
    is_quiet: bool
    unproven_borders: int
    short_pages: list[int]
    unreadable_pages: list[int] = field(default_factory=list)

    @property
    def is_part(self) -> bool:
        """Whether only some pages of the list are wanted."""
        return self.from_page > 1 or (self.to_page is not None and self.to_page < self.last_page)

    @property
    def missing_pages(self) -> int:
        end = self.last_page if self.to_page is None else min(self.to_page, self.last_page)
        return max(0, end - self.from_page + 1 - self.pages)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was seen, and the verdict: None while the crawl is open."""

    verdict: CrawlVerdict | None
    explanation: str
    facts: CrawlFacts

    def as_json(self) -> dict[str, Json]:
        facts = self.facts
        difference = None if facts.total_at_end is None else facts.seen - facts.total_at_end
        return {
            "verdict": self.verdict,
            "explanation": self.explanation,
            "seen": facts.seen,
            "total_at_start": facts.total_at_start,
            "total_at_end": facts.total_at_end,
            "difference": difference if self.verdict and not facts.is_part else None,
            "duplicates": facts.listed - facts.seen,
            "pages": facts.pages,
            "missing_pages": facts.missing_pages,
            "pages_read_again": facts.readings - facts.pages,
            "short_pages": list(facts.short_pages[:_MAX_PAGES_LISTED]),
            "unreadable_pages": list(facts.unreadable_pages[:_MAX_PAGES_LISTED]),
        }


def certify(facts: CrawlFacts, *, is_read: bool) -> Certificate:
    """Decide the verdict from the ledger, once the crawl has read all of it.

    If new items join the end of the list and each border is proven, the crawl saw every item that
    was listed all the time: an item that was seen and is not counted at the end has been deleted.
    In a list of unknown order, only an unchanged total proves that. Unreadable pages end the crawl
    too, but leave it unproven.
    """
    is_proven = not facts.missing_pages and not facts.unproven_borders
    is_over = is_read and (is_proven or bool(facts.unreadable_pages))
    if not is_over or facts.total_at_end is None:
        return Certificate(None, "the list has not been read to its end yet", facts)
    if facts.unreadable_pages:
        verdict, explanation = CrawlVerdict.INCOMPLETE, _explain_unreadable(facts)
    elif facts.is_part:
        verdict, explanation = _verdict_of_part(facts)
    else:
        verdict, explanation = _verdict_of_whole(facts, facts.total_at_end)
    return Certificate(verdict, explanation, facts)


def named_pages(pages: Sequence[int]) -> str:
    """Return the first pages as text, and how many more there are."""
    first = ", ".join(map(str, pages[:_MAX_PAGES_NAMED]))
    more = len(pages) - _MAX_PAGES_NAMED
    return f"{first} and {more} more" if more > 0 else first


def _explain_unreadable(facts: CrawlFacts) -> str:
    explanation = f"pages that could not be read: {named_pages(facts.unreadable_pages)}"
    others = facts.missing_pages - len(facts.unreadable_pages)
    return explanation + (f"; {others} pages after them were not requested" if others > 0 else "")


def _verdict_of_part(facts: CrawlFacts) -> tuple[CrawlVerdict, str]:
    if facts.from_page > facts.last_page:
        return CrawlVerdict.INCOMPLETE, f"the list ends with page {facts.last_page}"
    if short := len(facts.short_pages):
        return CrawlVerdict.INCOMPLETE, f"{short} pages had too few items on every reading"
    return CrawlVerdict.COMPLETE, "every requested page was full"


def _verdict_of_whole(facts: CrawlFacts, total_at_end: int) -> tuple[CrawlVerdict, str]:
    if total_at_end == 0 and not facts.seen:
        return CrawlVerdict.COMPLETE, "the list is empty: the search matches nothing"
    # Items that joined after the last page was read could not be seen.
    hidden = (facts.total_at_last_look or 0) - facts.seen
    if hidden > 0:
        return CrawlVerdict.INCOMPLETE, f"the site counts {hidden} items that no page listed"
    gone = max(0, facts.seen - total_at_end)
    if facts.is_quiet and not gone:
        explanation = "every item that the site counts was seen, and the total did not change"
        return CrawlVerdict.COMPLETE, explanation
    changed = "the list changed while it was read"
    if facts.short_pages:
        return CrawlVerdict.INCOMPLETE, f"{changed}, and some pages had too few items"
    if not facts.is_oldest_first:
        return CrawlVerdict.INCOMPLETE, f"{changed}, and its order is not known"
    if not gone:
        explanation = f"{changed}; every item that it held at the last look was seen"
        return CrawlVerdict.COMPLETE, explanation
    explanation = f"every listed item was seen, and {gone} items that are no longer listed"
    return CrawlVerdict.EXPLAINED, explanation
