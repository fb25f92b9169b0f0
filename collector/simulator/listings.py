"""Pages of searches and collections, with the faults of a profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from collector.simulator import answers
from collector.simulator.admission import Caller
from collector.simulator.answers import Json
from collector.simulator.catalogue import Catalogue
from collector.simulator.draws import generator_of
from collector.simulator.options import SimulatorOptions
from collector.simulator.population import TAGS, UPLOADERS, Tag
from collector.simulator.search import Query, find_tag, tag_bits

# The real site answers 400 to pages beyond some limit; where exactly is not known.
_LARGEST_PAGE = 100_000
_SHORT_PAGE_ITEMS = 2


class Listings:
    """Cuts pages out of search results; addresses of images begin with `host_url`."""

    def __init__(self, catalogue: Catalogue, options: SimulatorOptions, host_url: str) -> None:
        self._catalogue = catalogue
        self._listing = options.profile.listing
        self._options = options
        self._host_url = host_url
        self._faults: Counter[int] = (
            Counter()
        )  # answers so far, by the number of an empty or short page

    def refusal(self, caller: Caller, page: int) -> web.Response | None:
        """Return the error for a refused caller or an impossible page, else None."""
        if caller is Caller.REFUSED:
            return answers.error(401)
        if page < 1:
            return answers.html(500, "It broke - wallhaven.cc", "It broke")
        return answers.error(400) if page > _LARGEST_PAGE else None

    def page(self, number: int, found: Sequence[int], page: int, *, keyed: bool) -> Json | None:
        """Return the items and the meta of a page of `found`, in answer to request `number`.

        Returns None if the page is after the last one and the profile refuses such pages.
        """
        size = self.page_size(keyed=keyed)
        total = max(0, len(found) + self._error(number))
        as_text = keyed or self._listing.per_page == "string"
        meta = answers.page_meta(page, size, total, as_text=as_text)
        if self._listing.beyond_last == "bad_request" and page > meta["last_page"]:
            return None
        indexes = found[(page - 1) * size : page * size][: self._max_items(page)]
        return {
            "data": [answers.listing_item(self._catalogue[i], self._host_url) for i in indexes],
            "meta": meta,
        }

    def query_echo(self, query: Query) -> str | Json | None:
        """Return `meta.query` in the type that the profile sets."""
        tag = _tag_of(query) if self._listing.query == "object" else find_tag(query.tag_id)
        return query.echo if tag is None else {"id": tag.id, "tag": tag.name}

    def page_size(self, *, keyed: bool) -> int:
        account = self._options.profile.account
        return (account.page_size if keyed else 0) or self._options.page_size

    def _error(self, number: int) -> int:
        limit = self._listing.total_off_by
        return generator_of(f"{self._options.seed}/{number}").randint(-limit, limit) if limit else 0

    def _max_items(self, page: int) -> int | None:
        """Return how many items a faulty answer may have, None if this one is not faulty."""
        listing = self._listing
        if page not in listing.empty_pages + listing.short_pages:
            return None
        self._faults[page] += 1
        if 0 < listing.faulty_times < self._faults[page]:
            return None
        return 0 if page in listing.empty_pages else _SHORT_PAGE_ITEMS


def _tag_of(query: Query) -> Tag:
    """Return a tag that the query asks for, else any tag."""
    bits = tag_bits(query.required[0]) if query.required else 0
    asked = next((tag for bit, tag in enumerate(TAGS) if bits >> bit & 1), TAGS[0])
    return find_tag(query.tag_id) or asked


@dataclass(frozen=True, slots=True)
class UserCollection:
    """A collection of `owner`: every `step`-th wallpaper of the start."""

    id: int
    label: str
    owner: str
    views: int
    public: bool
    step: int

    def indexes(self, catalogue: Catalogue) -> Sequence[int]:
        return range(catalogue.upcoming, len(catalogue), self.step)

    def item(self, catalogue: Catalogue) -> Json:
        """Return its entry in `/collections`; `count` includes items hidden from the caller."""
        return {
            "id": self.id,
            "label": self.label,
            "views": self.views,
            "public": int(self.public),
            "count": len(self.indexes(catalogue)),
        }


# The account of all valid keys.
ACCOUNT = UPLOADERS[0].username
COLLECTIONS = (
    UserCollection(15, "Default", ACCOUNT, 38, public=True, step=3),
    UserCollection(16, "Later", ACCOUNT, 0, public=False, step=7),
    UserCollection(90, "自由", UPLOADERS[3].username, 112, public=True, step=5),
)


def known_names() -> list[str]:
    """Return lines that name the users, tags and public collections that can be searched for."""
    return [
        "users: " + ", ".join(f"@{uploader.username}" for uploader in UPLOADERS),
        "tags: " + ", ".join(f"id:{tag.id} {tag.name}" for tag in TAGS),
        "collections: " + ", ".join(f"{it.owner}/{it.id}" for it in COLLECTIONS if it.public),
    ]


def collections_of(user: str, *, private: bool) -> list[UserCollection]:
    """Return a user's collections, the private ones only on demand; [] if the user is unknown."""
    return [
        collection
        for collection in COLLECTIONS
        if collection.owner.lower() == user.lower() and (collection.public or private)
    ]
