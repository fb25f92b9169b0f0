"""The population of the catalogue: shares, tags, uploaders and counters.

Known shares are those measured on the real site on 2026-10-03.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import NormalDist
from typing import Generic, NamedTuple, TypeVar

from collector.simulator.draws import Draws
from collector.simulator.padding import JPEG, PNG, WEBP
from collector.simulator.stock import ARTWORKS, BaseImage, Stock

Value = TypeVar("Value")

CATEGORIES = ("general", "anime", "people")
PURITIES = ("sfw", "sketchy", "nsfw")
_EXTENSIONS = {JPEG: "jpg", PNG: "png", WEBP: "webp"}

# 337,624 of 501,359 items were general; the tag `anime` (23%) splits the rest.
_GENERAL_SHARE = 0.67
_ANIME_SHARE = 0.24

_TAG_UNITS = 256  # a tag's share is compared with one byte

# The age of items grows fast among the newest, then ever slower: a few hundred items span years,
# and 100,000 still fit in twelve and a half.
_AGE_SCALE_DAYS = 600.0
_AGE_KNEE_ITEMS = 50.0
_AGE_JITTER = 0.9  # below 1, so that the order by index is the order by time
# About 58 items a day were added in September 2026.
_UPLOAD_SECONDS = 1_500.0

_NORMAL = NormalDist()
_VIEWS_MEDIAN, _VIEWS_SIGMA = 2_500, 1.2
_FAVORITES_MEDIAN, _FAVORITES_SIGMA = 22, 1.4


class Tag(NamedTuple):
    """A tag as `/tag/{id}` describes it, and the share of items that have it."""

    id: int
    name: str
    alias: str
    category_id: int
    category: str
    share: float
    only_in: str | None = None  # a category
    purity: str = "sfw"
    created_at: str = "2014-02-02 18:59:31"


class Uploader(NamedTuple):
    username: str
    group: str = "User"


TAGS = (
    Tag(5113, "draenei", "draeneis", 33, "Games", 1.0),
    Tag(1, "anime", "Japanese cartoon, 動漫", 1, "Anime & Manga", 0.97, only_in="anime"),
    Tag(37, "nature", "", 41, "Nature", 0.146),
    Tag(711, "landscape", "scenery", 41, "Nature", 0.11),
    Tag(14, "fantasy art", "fantasy", 8, "Art & Design", 0.34),
    Tag(323, "artwork", "", 8, "Art & Design", 0.30),
    Tag(222, "digital art", "CGI art", 8, "Art & Design", 0.41),
    Tag(55, "video games", "game, gaming", 33, "Games", 0.62),
    Tag(2095, "World of Warcraft", "WoW, Warcraft online", 33, "Games", 0.78),
    Tag(1330, "Blizzard Entertainment", "Blizzard", 33, "Games", 0.22),
    Tag(222083, "Exodar", "", 33, "Games", 0.04),
    Tag(853, "night", "nighttime", 41, "Nature", 0.09),
    Tag(65348, "4K", "UHD", 15, "Miscellaneous", 0.12),
    Tag(175, "simple background", "", 8, "Art & Design", 0.13),
    Tag(1748, "crystal", "crystals", 41, "Nature", 0.07),
    Tag(2729, "paladin", "", 33, "Games", 0.08),
)

UPLOADERS = (
    Uploader("Archon", "Owner/Developer"),
    Uploader("velen_watch", "Moderator"),
    Uploader("Nobundo", "Senior Moderator"),
    Uploader("自由使用者"),
    Uploader("ishanah"),
    Uploader("light-forged"),
    Uploader("AzuremystIsle"),
    Uploader("mac_aree"),
    Uploader("Telredor7"),
    Uploader("farseer"),
    Uploader("vindicator_k"),
    Uploader("Shattrath"),
)


class Traits(NamedTuple, Generic[Value]):
    """What searches sort and filter by: the numbers of one item, or arrays with those of all."""

    category: Value
    purity: Value
    shape: Value
    artwork: Value
    tags: Value  # bit n: the item has TAGS[n]
    uploader: Value
    views: Value
    favorites: Value


@dataclass(frozen=True, slots=True)
class Wallpaper:
    """An item of the catalogue. `created_at` is UTC without a zone, `file_size` is in bytes."""

    index: int
    id: str
    views: int
    favorites: int
    source: str
    purity: str
    category: str
    dimension_x: int
    dimension_y: int
    file_size: int
    file_type: str
    created_at: datetime
    colors: tuple[str, ...]
    tags: tuple[Tag, ...]
    uploader: Uploader
    base: BaseImage

    @property
    def resolution(self) -> str:
        """`WIDTHxHEIGHT`."""
        return f"{self.dimension_x}x{self.dimension_y}"

    @property
    def ratio(self) -> str:
        """Width by height with two decimals, trailing zeros dropped: `1.78`, `1.6`, `2`."""
        return f"{self.dimension_x / self.dimension_y:.2f}".rstrip("0").rstrip(".")

    @property
    def extension(self) -> str:
        """`jpg`, `png` or `webp`."""
        return _EXTENSIONS[self.file_type]

    @property
    def image_path(self) -> str:
        """The path of the full image on the image host."""
        return f"/full/{self.id[:2]}/wallhaven-{self.id}.{self.extension}"


def traits_of(draws: Draws, stock: Stock, sketchy_share: float, nsfw_share: float) -> Traits[int]:
    category = (draws.category >= _GENERAL_SHARE) + (
        draws.category >= _GENERAL_SHARE + _ANIME_SHARE
    )
    return Traits(
        category=category,
        purity=(draws.purity < nsfw_share + sketchy_share) + (draws.purity < nsfw_share),
        shape=stock.shape_number(draws),
        artwork=int(draws.artwork * len(ARTWORKS)),
        tags=_tag_bits(draws.tags, CATEGORIES[category]),
        uploader=int(draws.uploader**2 * len(UPLOADERS)),
        views=_lognormal(draws.views, _VIEWS_MEDIAN, _VIEWS_SIGMA),
        favorites=_lognormal(draws.favorites, _FAVORITES_MEDIAN, _FAVORITES_SIGMA),
    )


def created_at(newest: datetime, draws: Draws) -> datetime:
    """Return when an item was uploaded: strictly before the item with the next lower number."""
    place = draws.item + _AGE_JITTER * draws.age
    if draws.item < 0:  # uploaded while the simulator is open, at regular intervals
        return newest - timedelta(seconds=int(place * _UPLOAD_SECONDS))
    age_days = _AGE_SCALE_DAYS * math.log1p(place / _AGE_KNEE_ITEMS)
    return newest - timedelta(seconds=int(age_days * 86_400))


def _tag_bits(draws: bytes, category: str) -> int:
    bits = 0
    for number, (tag, draw) in enumerate(zip(TAGS, draws, strict=False)):
        if draw < tag.share * _TAG_UNITS and tag.only_in in (None, category):
            bits |= 1 << number
    return bits


def _lognormal(draw: float, median: int, sigma: float) -> int:
    return int(median * math.exp(sigma * _NORMAL.inv_cdf(draw)))
