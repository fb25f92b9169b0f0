"""Pages of searches and collections: items and meta, with the faults of a profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from collector.simulator import answers
from collector.simulator.answers import Json
from collector.simulator.catalogue import Catalogue
from collector.simulator.draws import generator_of
from collector.simulator.limits import Caller
from collector.simulator.options import SimulatorOptions
from collector.simulator.population import CATEGORIES, PURITIES, TAGS, UPLOADERS, Tag
from collector.simulator.search import Query, find_tag, tag_bits


class Listings:
    """Cuts pages out of what was found; images are said to be at `host_url`."""

    def __init__(self, catalogue: Catalogue, options: SimulatorOptions, host_url: str) -> None:
        self._catalogue = catalogue
        self._listing = options.profile.listing
        self._account = options.profile.account
        self._page_size = options.page_size
        self._seed = options.seed
        self._host_url = host_url
        self._faults: Counter[int] = Counter()  # how often a page came empty or short

    def refusal(self, caller: Caller, page: int) -> web.Response | None:
        """Return the answer to a caller or page that gets no listing, None for all others."""
        if caller is Caller.REFUSED:
            return answers.error(401)
        if page < 1:
            return answers.html(500, "It broke - wallhaven.cc", "It broke")
        return answers.error(400) if page > self._listing.largest_page else None

    def page(self, number: int, found: Sequence[int], page: int, *, keyed: bool) -> Json | None:
        """Return one page of what request `number` found: its items and four keys of meta.

        Returns None if the page is after the last one and the profile refuses such pages.
        """
        size = self._size(keyed=keyed)
        total = max(0, len(found) + self._error(number))
        as_text = keyed if self._listing.per_page == "by_key" else self._listing.per_page != "int"
        meta = answers.page_meta(page, size, total, as_text=as_text)
        if self._listing.beyond_last == "bad_request" and page > meta["last_page"]:
            return None
        indexes = found[(page - 1) * size : page * size][: self._max_items(page)]
        return {
            "data": [answers.listing_item(self._catalogue[i], self._host_url) for i in indexes],
            "meta": meta,
        }

    def query_echo(self, query: Query) -> str | Json | None:
        """Return `meta.query` in the type that the profile wants."""
        kind = self._listing.query
        if kind == "null":
            return None
        if kind == "string":
            return query.echo or ""
        tag = _tag_of(query) if kind == "object" else find_tag(query.tag_id)
        return query.echo if tag is None else {"id": tag.id, "tag": tag.name}

    def settings(self) -> Json:
        """Return what `/settings` says of the account."""
        purities = _named(self._account.purity, PURITIES)
        categories = _named(self._account.categories, CATEGORIES)
        return answers.settings(self._size(keyed=True), purities, categories)

    def _size(self, *, keyed: bool) -> int:
        return (self._account.page_size if keyed else 0) or self._page_size

    def _error(self, number: int) -> int:
        limit = self._listing.total_off_by
        return generator_of(f"{self._seed}/{number}").randint(-limit, limit) if limit else 0

    def _max_items(self, page: int) -> int | None:
        """Return how many items this answer may have if it is a faulty one, else None."""
        listing = self._listing
        if page not in listing.empty_pages + listing.short_pages:
            return None
        self._faults[page] += 1
        if 0 < listing.faulty_times < self._faults[page]:
            return None
        return 0 if page in listing.empty_pages else listing.short_page_items


def _named(bits: str, names: Sequence[str]) -> list[str]:
    return [name for bit, name in zip(bits, names, strict=True) if bit == "1"]


def _tag_of(query: Query) -> Tag:
    """Return a tag that the query asks for, or any tag."""
    bits = tag_bits(query.required[0]) if query.required else 0
    asked = next((tag for bit, tag in enumerate(TAGS) if bits >> bit & 1), TAGS[0])
    return find_tag(query.tag_id) or asked


@dataclass(frozen=True, slots=True)
class UserCollection:
    """Every `step`-th wallpaper that there was at the start, kept by `owner`."""

    id: int
    label: str
    owner: str
    views: int
    public: bool
    step: int

    def indexes(self, catalogue: Catalogue) -> Sequence[int]:
        return range(catalogue.upcoming, len(catalogue), self.step)

    def item(self, catalogue: Catalogue) -> Json:
        """Return what `/collections` says about it; `count` includes items one cannot see."""
        return {
            "id": self.id,
            "label": self.label,
            "views": self.views,
            "public": int(self.public),
            "count": len(self.indexes(catalogue)),
        }


# The account that every valid key belongs to.
ACCOUNT = UPLOADERS[0].username
# A few fixed ones, so that their endpoints have something to show.
COLLECTIONS = (
    UserCollection(15, "Default", ACCOUNT, 38, public=True, step=3),
    UserCollection(16, "Later", ACCOUNT, 0, public=False, step=7),
    UserCollection(90, "自由", UPLOADERS[3].username, 112, public=True, step=5),
)


def collections_of(user: str, *, private: bool) -> list[UserCollection]:
    """Return a user's public collections, with the private ones on demand; [] if unknown."""
    return [
        collection
        for collection in COLLECTIONS
        if collection.owner.lower() == user.lower() and (collection.public or private)
    ]
