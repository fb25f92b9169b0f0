"""Records of the enrichment: which wallpaper is looked up, and what the API answered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from collector.core.wallpapers import Rejected, WallpaperDetails


class Outcome(StrEnum):
    """The `outcome` column of `run_enrichments`.

    Missing: the API has no such wallpaper, or does not let us see it. Unusable: its answer cannot
    become rows.
    """

    ENRICHED = "enriched"
    MISSING = "missing"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class Target:
    """A wallpaper that `owner` has claimed for a look-up."""

    wallpaper_id: int
    owner: UUID
    wallhaven_id: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The API's answer about a target; None if it has none that we may see."""

    target: Target
    found: WallpaperDetails | Rejected | None

    @property
    def outcome(self) -> Outcome:
        if self.found is None:
            return Outcome.MISSING
        return Outcome.UNUSABLE if isinstance(self.found, Rejected) else Outcome.ENRICHED

    @property
    def tags(self) -> int:
        return len(self.found.tags) if isinstance(self.found, WallpaperDetails) else 0

    @property
    def rejected_tags(self) -> int:
        return len(self.found.rejected_tags) if isinstance(self.found, WallpaperDetails) else 0


@dataclass(frozen=True, slots=True)
class EnrichmentShare:
    """How many wallpapers there are, and how many of them have tags and uploader."""

    wallpapers: int
    enriched: int

    @property
    def percent(self) -> float:
        """The enriched share of all wallpapers; 0 if there are none."""
        return round(100.0 * self.enriched / max(1, self.wallpapers), 2)
