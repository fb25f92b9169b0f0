"""Where pages are put, merged and enriched, and what is known of searches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from collector.core.enrichment import Finding, Target
from collector.core.paging import CoveredPage, LedgerPage, UnreadablePage
from collector.core.planning import Holdings
from collector.core.wallpapers import Page


@dataclass(frozen=True, slots=True)
class SearchTotal:
    """How many wallpapers a search had, and how long ago."""

    total: int
    age_seconds: float


class PageCatalog(Protocol):
    """Where pages are put, and what is known of searches."""

    async def covered_pages(self, run_key: int) -> list[LedgerPage]:
        """Return what this run has in its ledger, in the order in which it came."""

    async def pages_above(self, search_key: str, run_key: int) -> list[list[CoveredPage]]:
        """Return what earlier runs have read since the watermark was set, run by run, newest first.

        Between these pages and the watermark lies a gap.
        """

    async def search_total(self, search_key: str) -> SearchTotal | None:
        """Return what `note_search_total` noted last, None where it never did."""

    async def note_search_total(self, search_key: str, total: int) -> None:
        """Note how many wallpapers a search has now."""

    async def watermark(self, search_key: str) -> list[str]:
        """Return the first page's ids of the last whole reading that was merged, or []."""

    async def has_read(self, run_key: int, search_key: str) -> bool:
        """Say whether the run has read the search without a hole, and no later run has since."""

    async def note_reading(self, run_key: int, search_key: str, newest_ids: list[str]) -> None:
        """Note that the run read the search without a hole, its first page having had these ids.

        They become the watermark when the run's pages are merged.
        """

    async def stage_page(
        self, run_key: int, search_key: str, page: Page, reading: int = 1
    ) -> CoveredPage:
        """COPY the page to staging and note it in the ledger, in one transaction.

        A `reading` of it that is there already stays as it is.
        """

    async def note_unreadable(self, run_key: int, page: UnreadablePage) -> None:
        """Note in the ledger that the page could not be read just now."""


class CrawlCatalog(PageCatalog, Protocol):
    """Where a crawl puts pages."""

    async def crawled_pages(self, run_key: int) -> list[LedgerPage]:
        """Return `covered_pages`, with ids only where they may still join two slices."""


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """What the loads of a run did; seen = inserted + updated + unchanged + invalid + duplicates."""

    pages: int
    inserted: int
    updated: int
    unchanged: int
    invalid: int
    duplicates: int


class LoadCatalog(Protocol):
    """Where load merges what was staged."""

    async def merge(self, run_key: int) -> None:
        """Merge this run's staged pages, the oldest first, in transactions of bounded size.

        Raises StagingMismatch when staging and ledger disagree; what was merged until then stays.
        """

    async def merge_leftovers(self, run_key: int) -> None:
        """Merge what ended runs have left; what is wrong with it is logged and left there."""

    async def loaded(self, run_key: int) -> LoadCounts:
        """Return what all loads of the run have done together, each item counted once."""


class EnrichmentCatalog(Protocol):
    """Which wallpapers to ask about, and what the answers become."""

    async def enlist(self, *, nsfw: bool) -> None:
        """Put into the queue what is new, and follow favourites of what was never answered.

        Wallpapers that are nsfw are put there only with `nsfw`.
        """

    async def asked(self, run_key: int) -> int:
        """Return about how many wallpapers the run has asked."""

    async def answered_before(self) -> str | None:
        """Return the id of a wallpaper that the API has answered for, None if there is none yet."""

    async def claim(self, most: int) -> list[Target]:
        """Take up to `most` due wallpapers in hand, in order of their value.

        First those that were never answered for: most favourites, then oldest upload. Then those
        that are due again, the longest due first.
        """

    async def release(self, targets: Sequence[Target]) -> None:
        """Hand back what was not asked about: it is due at once, and its attempt is refunded."""

    async def postpone(self, targets: Sequence[Target]) -> None:
        """Hand back what could not be answered for: due later, ever later from try to try."""

    async def save(self, run_key: int, findings: Sequence[Finding]) -> None:
        """Write all that was found and hand it back, in one transaction. Safe to repeat."""


class HoldingsCatalog(Protocol):
    """What there is already."""

    async def holdings(self) -> Holdings:
        """Count wallpapers and stored images; write nothing."""
