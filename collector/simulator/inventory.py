"""What of the catalogue is there now: uploads and deletions while clients read it."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from collector.simulator.catalogue import Catalogue
from collector.simulator.draws import generator_of
from collector.simulator.population import Wallpaper
from collector.simulator.profile import Drift

_SECONDS_PER_MINUTE = 60
_REQUESTS = 100  # what the rates by request refer to


class Inventory:
    """The wallpapers that are uploaded and not deleted; moves on with requests and time.

    Which are deleted depends on the seed and their order alone: with rates by request, equal
    requests in equal order find equal listings.
    """

    def __init__(
        self, catalogue: Catalogue, drift: Drift, seed: int, clock: Callable[[], float]
    ) -> None:
        self._catalogue = catalogue
        self._drift = drift
        self._clock = clock
        self._choices = generator_of(f"{seed}/deletions")
        self._started_at: float | None = None
        self._newest = catalogue.upcoming
        self._deleted: dict[int, None] = {}

    @property
    def uploaded(self) -> list[Wallpaper]:
        """What was uploaded since the start, newest first, deleted ones included."""
        return self._catalogue[self._newest : self._catalogue.upcoming]

    @property
    def deleted(self) -> list[Wallpaper]:
        """What was deleted since the start, in order."""
        return [self._catalogue[index] for index in self._deleted]

    def wallpapers(self) -> list[Wallpaper]:
        """Return the wallpapers that are there, newest first."""
        return [self._catalogue[index] for index in self.present(range(len(self._catalogue)))]

    def find(self, wallhaven_id: str) -> Wallpaper | None:
        """Return the wallpaper of this id, None unless it is there."""
        wallpaper = self._catalogue.find(wallhaven_id)
        return wallpaper if wallpaper and self._has(wallpaper.index) else None

    def find_image(self, wallhaven_id: str) -> Wallpaper | None:
        """Return the wallpaper of this id, None unless the image host has its image."""
        wallpaper = self._catalogue.find(wallhaven_id)
        if wallpaper is None or wallpaper.index < self._newest:
            return None
        kept = self._drift.deleted_images == "kept" or wallpaper.index not in self._deleted
        return wallpaper if kept else None

    def present(self, indexes: Sequence[int]) -> Sequence[int]:
        """Return those of the indexes that are there, in their order."""
        if not self._newest and not self._deleted:
            return indexes
        return array("I", [index for index in indexes if self._has(index)])

    def advance(self, number: int) -> None:
        """Upload and delete what is due when request `number` arrives."""
        now = self._clock()
        if self._started_at is None:
            self._started_at = now
        minutes, drift = (now - self._started_at) / _SECONDS_PER_MINUTE, self._drift
        uploads = _due(drift.uploads_per_minute * minutes, drift.uploads_per_100_requests * number)
        self._newest = min(self._newest, max(0, self._catalogue.upcoming - uploads))
        deletions = _due(
            drift.deletions_per_minute * minutes, drift.deletions_per_100_requests * number
        )
        self._delete(deletions - len(self._deleted))

    def _delete(self, more: int) -> None:
        end = len(self._catalogue)
        left = end - self._newest - len(self._deleted)
        for _ in range(min(more, left)):
            while (index := self._choices.randrange(self._newest, end)) in self._deleted:
                pass
            self._deleted[index] = None

    def _has(self, index: int) -> bool:
        return index >= self._newest and index not in self._deleted


def _due(by_time: float, by_request: float) -> int:
    return int(by_time) + int(by_request / _REQUESTS)
