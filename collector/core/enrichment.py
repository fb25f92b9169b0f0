"""Records of the enrichment: which wallpaper is asked about, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from collector.core.wallpapers import Rejected, WallpaperDetails


class Outcome(StrEnum):
    """What asking about a wallpaper came to; the `outcome` column of `run_enrichments`.

    Missing: the API says that there is none, or that we may not see it. Unusable: it answered,
    but not with what can become rows.
    """

    ENRICHED = "enriched"
    MISSING = "missing"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class Target:
    """A wallpaper that `owner` has in hand, to ask about."""

    wallpaper_id: int
    owner: UUID
    wallhaven_id: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What the API said about a target: None where it knows none that we may see."""

    target: Target
    found: WallpaperDetails | Rejected | None

    @property
    def outcome(self) -> Outcome:
        """What the asking came to."""
        if self.found is None:
            return Outcome.MISSING
        return Outcome.UNUSABLE if isinstance(self.found, Rejected) else Outcome.ENRICHED

    @property
    def tags(self) -> int:
        """Tags that can become rows."""
        return len(self.found.tags) if isinstance(self.found, WallpaperDetails) else 0

    @property
    def rejected_tags(self) -> int:
        """Tags that cannot."""
        return len(self.found.rejected_tags) if isinstance(self.found, WallpaperDetails) else 0


@dataclass(frozen=True, slots=True)
class EnrichmentShare:
    """How many wallpapers there are, and of how many tags and uploader are known."""

    wallpapers: int
    enriched: int

    @property
    def percent(self) -> float:
        """The share of the enriched ones; 0 where there are no wallpapers."""
        return round(100.0 * self.enriched / max(1, self.wallpapers), 2)
