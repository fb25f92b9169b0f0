"""The wallpapers of the site, computed from a seed on demand, and which of them exist now."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import TypeAlias, overload

from collector.simulator.draws import CAPACITY, Draws, Identifiers, draws_of, generator_of
from collector.simulator.options import SimulatorOptions
from collector.simulator.padding import Padding, Split
from collector.simulator.population import (
    CATEGORIES,
    PURITIES,
    TAGS,
    UPLOADERS,
    Traits,
    Wallpaper,
    created_at,
    traits_of,
)
from collector.simulator.profile import Drift
from collector.simulator.stock import ARTWORKS, BaseImage, DrawnStock, FolderStock, Stock

# The time of the newest upload, in UTC without a zone, as the API writes it; the seed moves it
# within a month.
_NEWEST = datetime.fromisoformat("2026-09-01T12:00:00")
_NEWEST_SPREAD_SECONDS = 30 * 86_400

# Most items of real listings have an empty source; the others have an address or any text.
_SOURCES = ("", "", "", "https://www.artstation.com/artwork/{id}", "", "deviantart", "")


# One array for each of the Traits: about 30 bytes per item, and no work for the garbage collector.
_TYPE_CODES = "BBIBIBQQ"
Columns: TypeAlias = "Traits[array[int]]"


class Catalogue(Sequence[Wallpaper]):
    """Wallpapers 0 (the newest) to len - 1. They depend on the options only.

    The first `upcoming` wallpapers are those that the profile's drift may upload while the
    simulator is open; the others are the same with and without drift. Only `columns` and the drawn
    base images are kept in memory.
    The constructor reads the headers of all images in a folder: call it in a worker thread. Raises
    EmptyFolderError if `options.images` holds no image.
    """

    def __init__(self, options: SimulatorOptions) -> None:
        self.upcoming = options.profile.drift.upcoming
        self._length = options.wallpapers + self.upcoming
        self._options = options
        self._identifiers = Identifiers(options.seed)
        self._padding = Padding(options.seed)
        self._stock: Stock = (
            DrawnStock() if options.images is None else FolderStock(options.images, self._length)
        )
        self.shapes = self._stock.shapes
        self.newest = _NEWEST + timedelta(seconds=options.seed * 7_919 % _NEWEST_SPREAD_SECONDS)

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Wallpaper: ...
    @overload
    def __getitem__(self, index: slice) -> list[Wallpaper]: ...
    def __getitem__(self, index: int | slice) -> Wallpaper | list[Wallpaper]:
        numbers = range(self._length)[index]
        if isinstance(numbers, int):
            return self._wallpaper(numbers)
        return [self._wallpaper(number) for number in numbers]

    def find(self, wallhaven_id: str) -> Wallpaper | None:
        """Return the wallpaper with this id, None if it is unknown."""
        number = self._identifiers.index_of(wallhaven_id)
        if number is None:
            return None
        index = (number + self.upcoming) % CAPACITY
        return self._wallpaper(index) if index < self._length else None

    def created_at(self, index: int) -> datetime:
        """Return when item `index` was uploaded: always before item `index - 1`."""
        return created_at(self.newest, self._draws(index))

    @cached_property
    def columns(self) -> Columns:
        """What search filters and sorts by. The first call takes about 10 microseconds per item."""
        columns = Traits(*(array(code) for code in _TYPE_CODES))
        for index in range(self._length):
            for column, value in zip(columns, self._traits(self._draws(index)), strict=True):
                column.append(value)
        return columns

    def ready(self, wallpaper: Wallpaper) -> Split | None:
        """Return the base file of a wallpaper, None unless it is drawn already."""
        return self._stock.drawn.get(wallpaper.base)

    def load(self, wallpaper: Wallpaper) -> Split:
        """Draw or read the base file of a wallpaper: call it in a worker thread."""
        return self._stock.load(wallpaper.base)

    def padded(self, wallpaper: Wallpaper, split: Split) -> Iterator[bytes | memoryview]:
        """Yield the served bytes in chunks of at most 256 KiB, without copying."""
        return self._padding.padded(split, wallpaper.file_type, wallpaper.id, wallpaper.file_size)

    def body(self, wallpaper: Wallpaper) -> Iterator[bytes | memoryview]:
        """Yield the served bytes, loading the base file first if needed."""
        yield from self.padded(wallpaper, self.load(wallpaper))

    def sha256(self, wallpaper: Wallpaper) -> str:
        """Return the hex digest of `body(wallpaper)`."""
        digest = hashlib.sha256()
        for chunk in self.body(wallpaper):
            digest.update(chunk)
        return digest.hexdigest()

    def _draws(self, index: int) -> Draws:
        return draws_of(self._options.seed, index - self.upcoming)

    def _traits(self, draws: Draws) -> Traits[int]:
        options = self._options
        return traits_of(draws, self._stock, options.sketchy_share, options.nsfw_share)

    def _wallpaper(self, index: int) -> Wallpaper:
        draws = self._draws(index)
        traits = self._traits(draws)
        shape = self.shapes[traits.shape]
        wallhaven_id = self._identifiers.id_of(draws.item % CAPACITY)
        return Wallpaper(
            index=index,
            id=wallhaven_id,
            views=traits.views,
            favorites=traits.favorites,
            source=_SOURCES[traits.views % len(_SOURCES)].format(id=wallhaven_id),
            purity=PURITIES[traits.purity],
            category=CATEGORIES[traits.category],
            dimension_x=shape.width,
            dimension_y=shape.height,
            file_size=self._stock.file_bytes(draws),
            file_type=shape.file_type,
            created_at=created_at(self.newest, draws),
            colors=ARTWORKS[traits.artwork].colors,
            tags=tuple(tag for bit, tag in enumerate(TAGS) if traits.tags >> bit & 1),
            uploader=UPLOADERS[traits.uploader],
            base=BaseImage(traits.shape, traits.artwork),
        )


_REQUESTS = 100  # drift is given per this many requests


class Inventory:
    """The wallpapers that are uploaded and not deleted; drift changes them with each request.

    Uploads and deletions depend on the seed and the number of requests only.
    """

    def __init__(self, catalogue: Catalogue, drift: Drift, seed: int) -> None:
        self._catalogue = catalogue
        self._drift = drift
        self._choices = generator_of(f"{seed}/deletions")
        self._newest = catalogue.upcoming
        self._deleted: dict[int, None] = {}

    @property
    def uploaded(self) -> list[Wallpaper]:
        """Wallpapers uploaded since the start, newest first, including deleted ones."""
        return self._catalogue[self._newest : self._catalogue.upcoming]

    @property
    def deleted(self) -> list[Wallpaper]:
        """Wallpapers deleted since the start, in order of deletion."""
        return [self._catalogue[index] for index in self._deleted]

    def wallpapers(self) -> list[Wallpaper]:
        """Return the existing wallpapers, newest first."""
        return [self._catalogue[index] for index in self.present(range(len(self._catalogue)))]

    def find(self, wallhaven_id: str) -> Wallpaper | None:
        """Return the wallpaper with this id, None unless it exists."""
        wallpaper = self._catalogue.find(wallhaven_id)
        return wallpaper if wallpaper and self._has(wallpaper.index) else None

    def find_image(self, wallhaven_id: str) -> Wallpaper | None:
        """Return the wallpaper with this id, None unless the image host has its image."""
        wallpaper = self._catalogue.find(wallhaven_id)
        if wallpaper is None or wallpaper.index < self._newest:
            return None
        kept = self._drift.deleted_images == "kept" or wallpaper.index not in self._deleted
        return wallpaper if kept else None

    def present(self, indexes: Sequence[int]) -> Sequence[int]:
        """Return the indexes of existing wallpapers, in the given order."""
        if not self._newest and not self._deleted:
            return indexes
        return array("I", [index for index in indexes if self._has(index)])

    def advance(self, number: int) -> None:
        """Upload and delete what is due when request `number` arrives."""
        uploads = int(self._drift.uploads_per_100_requests * number / _REQUESTS)
        self._newest = min(self._newest, max(0, self._catalogue.upcoming - uploads))
        deletions = int(self._drift.deletions_per_100_requests * number / _REQUESTS)
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
