"""Pages of listings: items and meta of searches and collections, with the faults of a profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from collector.simulator import answers
from collector.simulator.catalogue import Catalogue
from collector.simulator.draws import generator_of
from collector.simulator.limits import NUMBER, Caller
from collector.simulator.options import SimulatorOptions
from collector.simulator.parameters import Query, find_tag, tag_bits
from collector.simulator.population import CATEGORIES, PURITIES, TAGS, UPLOADERS, Tag


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
        """Return the indexes of its items."""
        return range(catalogue.upcoming, len(catalogue), self.step)

    def item(self, catalogue: Catalogue) -> dict[str, object]:
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

COLLECTIONS = (
    UserCollection(15, "Default", ACCOUNT, 38, public=True, step=3),
    UserCollection(16, "Later", ACCOUNT, 0, public=False, step=7),
    UserCollection(90, "自由", UPLOADERS[3].username, 112, public=True, step=5),
)


def collections_of(user: str, *, private: bool) -> list[UserCollection]:
    """Return a user's collections, the private ones only on demand; none for an unknown user."""
    return [
        collection
        for collection in COLLECTIONS
        if collection.owner.lower() == user.lower() and (collection.public or private)
    ]


class Listings:
    """Cuts pages out of what was found; pictures are said to be at `host_url`."""

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
            return answers.unauthorized()
        if page < 1:
            return answers.it_broke()
        return answers.bad_request() if page > self._listing.largest_page else None

    def is_out_of_range(self, page: int, meta: answers.Json) -> bool:
        """Return whether a page behind the last one is refused, where the profile says so."""
        return self._listing.beyond_last == "bad_request" and page > meta["last_page"]

    def meta(self, request: web.Request, page: int, total: int, *, keyed: bool) -> answers.Json:
        """Return the four keys of meta that all listings have."""
        as_text = keyed if self._listing.per_page == "by_key" else self._listing.per_page != "int"
        shown = max(0, total + self._error(request[NUMBER]))
        return answers.page_meta(page, self._size(keyed=keyed), shown, as_text=as_text)

    def items(self, found: Sequence[int], page: int, *, keyed: bool) -> list[answers.Json]:
        """Return the items of one page of what was found."""
        size = self._size(keyed=keyed)
        return [
            answers.listing_item(self._catalogue[index], self._host_url)
            for index in found[(page - 1) * size : page * size][: self._most_items(page)]
        ]

    def query_echo(self, query: Query) -> str | answers.Json | None:
        """Return `meta.query` in the type that the profile wants."""
        kind = self._listing.query
        if kind == "string":
            return query.echo or ""
        if kind == "object":
            return answers.tag_echo(_tag_of(query))
        return None if kind == "null" else answers.query_echo(query)

    def settings(self) -> answers.Json:
        """Return what `/settings` says of the account."""
        purities = _named(self._account.purity, PURITIES)
        categories = _named(self._account.categories, CATEGORIES)
        return answers.settings(self._size(keyed=True), purities, categories)

    def _size(self, *, keyed: bool) -> int:
        return (self._account.page_size if keyed else 0) or self._page_size

    def _error(self, number: int) -> int:
        most = self._listing.total_off_by
        return generator_of(f"{self._seed}/{number}").randint(-most, most) if most else 0

    def _most_items(self, page: int) -> int | None:
        """Return how many items a page has at most if this answer is to be a faulty one."""
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
