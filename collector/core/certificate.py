"""What a crawl can prove of the list that it has read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from collector.core.runs import Json

# Of a certificate as JSON, as a reader wants to meet them.
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
# A report is for people: the first of many pages tell where to look.
_MAX_PAGES_LISTED = 50
_MAX_PAGES_NAMED = 10


class CrawlVerdict(StrEnum):
    """Whether a crawl has seen all that is listed."""

    COMPLETE = "complete"
    EXPLAINED = "explained"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class CrawlFacts:
    """What the ledger says of a crawl.

    `seen` counts distinct items, `listed` all; totals are None before the first page, and
    `total_at_last_look` before the last page was read. `is_quiet`: the total was the same at each
    reading. `unproven_borders` counts neighbours of which the lower
    was not read again after the upper one. `unreadable_pages` could not be read when they were
    asked for last, although they should exist and others could.
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
    def is_empty(self) -> bool:
        """True where the site counts nothing, and nothing was seen."""
        return self.total_at_end == 0 and not self.seen

    @property
    def is_part(self) -> bool:
        """True where only some pages of the list are wanted."""
        return self.from_page > 1 or (self.to_page is not None and self.to_page < self.last_page)

    @property
    def missing_pages(self) -> int:
        """How many pages that are wanted were not read."""
        end = self.last_page if self.to_page is None else min(self.to_page, self.last_page)
        return max(0, end - self.from_page + 1 - self.pages)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was seen, and the verdict; None while the crawl is under way."""

    verdict: CrawlVerdict | None
    explanation: str
    facts: CrawlFacts

    def as_json(self) -> dict[str, Json]:
        """Return it as one JSON object for the audit report."""
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
    """Judge a crawl by its ledger, once all of it is read.

    Where new items join the end of the list and each border is proven, all that was listed all the
    time was seen: what was seen and is not counted at the end has been deleted. A list whose order
    is not known proves that only by standing still. Unreadable pages leave it unproven, and end the
    crawl all the same.
    """
    is_proven = not facts.missing_pages and not facts.unproven_borders
    is_over = is_read and (is_proven or bool(facts.unreadable_pages))
    if not is_over or facts.total_at_end is None:
        return Certificate(None, "the list has not been read to its end yet", facts)
    if facts.unreadable_pages:
        return _of_unreadable(facts)
    if facts.is_part:
        return _of_part(facts)
    if facts.is_empty:
        explanation = "the list is empty: the search matches nothing"
        return Certificate(CrawlVerdict.COMPLETE, explanation, facts)
    # What has joined since the last page was read is not ours to have seen.
    hidden = (facts.total_at_last_look or 0) - facts.seen
    if hidden > 0:
        explanation = f"{hidden} items are counted by the site that no page showed"
        return Certificate(CrawlVerdict.INCOMPLETE, explanation, facts)
    gone = max(0, facts.seen - facts.total_at_end)
    if facts.is_quiet and not gone:
        explanation = "every item that the site counts was seen, and the total stood still"
        return Certificate(CrawlVerdict.COMPLETE, explanation, facts)
    if facts.short_pages or not facts.is_oldest_first:
        why = "some pages came short" if facts.short_pages else "its order is not known"
        explanation = f"the list changed while it was read, and {why}"
        return Certificate(CrawlVerdict.INCOMPLETE, explanation, facts)
    return _of_changing(facts, gone)


def named_pages(pages: Sequence[int]) -> str:
    """Return the first pages, and how many more there are."""
    first = ", ".join(map(str, pages[:_MAX_PAGES_NAMED]))
    more = len(pages) - _MAX_PAGES_NAMED
    return f"{first} and {more} more" if more > 0 else first


def _of_unreadable(facts: CrawlFacts) -> Certificate:
    explanation = f"pages that could not be read: {named_pages(facts.unreadable_pages)}"
    untried = facts.missing_pages - len(facts.unreadable_pages)
    if untried > 0:
        explanation += f"; {untried} pages behind them were not asked for"
    return Certificate(CrawlVerdict.INCOMPLETE, explanation, facts)


def _of_part(facts: CrawlFacts) -> Certificate:
    if facts.from_page > facts.last_page:
        explanation = f"the list ends with page {facts.last_page}"
        return Certificate(CrawlVerdict.INCOMPLETE, explanation, facts)
    if facts.short_pages:
        explanation = f"{len(facts.short_pages)} pages came short each time"
        return Certificate(CrawlVerdict.INCOMPLETE, explanation, facts)
    return Certificate(CrawlVerdict.COMPLETE, "every page that was asked for was full", facts)


def _of_changing(facts: CrawlFacts, gone: int) -> Certificate:
    if not gone:
        explanation = (
            "the list changed while it was read; all that it held at the last look was seen"
        )
        return Certificate(CrawlVerdict.COMPLETE, explanation, facts)
    explanation = f"all that is listed was seen, and {gone} items that are not listed any more"
    return Certificate(CrawlVerdict.EXPLAINED, explanation, facts)
