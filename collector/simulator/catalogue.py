"""The catalogue: a sequence of wallpapers of any size, computed from a seed on demand."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple, overload

from collector.simulator.artwork import ARTWORKS
from collector.simulator.draws import CAPACITY, Draws, Identifiers, draws_of
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
from collector.simulator.stock import BaseImage, DrawnStock, FolderStock, Stock

# The newest upload, in UTC without a zone as the API has it; the seed moves it within a month.
_NEWEST = datetime.fromisoformat("2026-09-01T12:00:00")
_NEWEST_SPREAD_SECONDS = 30 * 86_400

# Listings have an empty source for most items, an address or any text for the others.
_SOURCES = ("", "", "", "https://www.artstation.com/artwork/{id}", "", "deviantart", "")


class Columns(NamedTuple):
    """One array for each field of Traits: about 30 bytes an item, and no garbage to collect."""

    category: array[int]
    purity: array[int]
    shape: array[int]
    artwork: array[int]
    tags: array[int]
    uploader: array[int]
    views: array[int]
    favorites: array[int]


_TYPE_CODES = "BBIBIBQQ"  # of the arrays


class Catalogue(Sequence[Wallpaper]):
    """Wallpapers 0 (the newest) to len - 1, a function of the options alone.

    The first `upcoming` are those that the profile's drift may upload while the simulator is
    open; the others are the same with and without them.
    Nothing is stored but `columns`, about 30 bytes an item, and the drawn base images.
    Opening reads the headers of a folder of images: call it in a worker thread.
    Raises EmptyFolderError if `options.images` holds no image.
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
        """Return one wallpaper or a list of them. Raises IndexError as a list does."""
        numbers = range(self._length)[index]
        if isinstance(numbers, int):
            return self._wallpaper(numbers)
        return [self._wallpaper(number) for number in numbers]

    def find(self, wallhaven_id: str) -> Wallpaper | None:
        """Return the wallpaper of this id, None if there is none."""
        number = self._identifiers.index_of(wallhaven_id)
        if number is None:
            return None
        index = (number + self.upcoming) % CAPACITY
        return self._wallpaper(index) if index < self._length else None

    def created_at(self, index: int) -> datetime:
        """Return when item `index` was uploaded; falls as the index grows."""
        return created_at(self.newest, self._draws(index))

    @cached_property
    def columns(self) -> Columns:
        """What search filters and sorts; takes about 10 microseconds an item once."""
        columns = Columns(*(array(code) for code in _TYPE_CODES))
        for index in range(self._length):
            for column, value in zip(columns, self._traits(self._draws(index)), strict=True):
                column.append(value)
        return columns

    def ready(self, wallpaper: Wallpaper) -> Split | None:
        """Return the base file of a wallpaper if it is already drawn."""
        return self._stock.drawn.get(wallpaper.base)

    def load(self, wallpaper: Wallpaper) -> Split:
        """Return the base file of a wallpaper, drawn or read: call it in a worker thread."""
        return self._stock.load(wallpaper.base)

    def padded(self, wallpaper: Wallpaper, split: Split) -> Iterator[bytes | memoryview]:
        """Yield the bytes that are served, in chunks of at most 256 KiB, without copying."""
        return self._padding.padded(split, wallpaper.file_type, wallpaper.id, wallpaper.file_size)

    def body(self, wallpaper: Wallpaper) -> Iterator[bytes | memoryview]:
        """Yield the bytes that the image host serves for this wallpaper, loading it if needed."""
        yield from self.padded(wallpaper, self.load(wallpaper))

    def sha256(self, wallpaper: Wallpaper) -> str:
        """Return the hex digest of `body(wallpaper)`."""
        digest = hashlib.sha256()
        for chunk in self.body(wallpaper):
            digest.update(chunk)
        return digest.hexdigest()

    def _draws(self, index: int) -> Draws:
        return draws_of(self._options.seed, index - self.upcoming)

    def _traits(self, draws: Draws) -> Traits:
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
