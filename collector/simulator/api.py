"""The endpoints of API v1."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial

from aiohttp import web
from anyio import to_thread

from collector.simulator import answers
from collector.simulator.admission import NUMBER, Caller, caller_of
from collector.simulator.answers import Json
from collector.simulator.catalogue import Catalogue, Inventory
from collector.simulator.draws import generator_of
from collector.simulator.listings import ACCOUNT, Listings, collections_of
from collector.simulator.options import Hooks, SimulatorOptions
from collector.simulator.search import (
    Criteria,
    criteria_from,
    find_tag,
    page_from,
    purities_from,
    search,
    without,
)

# Cached results, at most 4 bytes per item each: reading all pages of a search searches once.
_MAX_KEPT_RESULTS = 32
_SEED_LETTERS = string.ascii_letters + string.digits
_SEED_LENGTH = 6


class Api:
    """Answers API requests; addresses of images begin with `host_url`."""

    def __init__(
        self,
        catalogue: Catalogue,
        inventory: Inventory,
        options: SimulatorOptions,
        hooks: Hooks,
        host_url: str,
    ) -> None:
        self._catalogue = catalogue
        self._inventory = inventory
        self._options = options
        self._listings = Listings(catalogue, options, host_url)
        self._hooks = hooks
        self._host_url = host_url
        self._search = lru_cache(_MAX_KEPT_RESULTS)(partial(search, catalogue))
        self._seeds = generator_of(options.seed)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/search", self.search),
            web.get("/w/{id}", self.wallpaper),
            web.get("/tag/{id}", self.tag),
            web.get("/settings", self.settings),
            web.get("/collections", self.own_collections),
            web.get("/collections/{user}", self.collections),
            web.get("/collections/{user}/{id}", self.collection),
        ]

    async def search(self, request: web.Request) -> web.Response:
        caller = caller_of(request, self._options)
        page = page_from(request.query.get("page"))
        refusal = self._listings.refusal(caller, page)
        if refusal is not None:
            return refusal
        keyed = caller is Caller.KEYED
        criteria = self._criteria(request, keyed=keyed)
        found = await to_thread.run_sync(self._found, criteria)
        listing = self._listings.page(request[NUMBER], found, page, keyed=keyed)
        if listing is None:
            return answers.error(400)
        if criteria.sorting is None:
            listing["data"] = []
        echo = self._listings.query_echo(criteria.query)
        listing["meta"] |= {"query": echo, "seed": criteria.seed}
        return answers.answer(self._hooked(page, listing))

    async def wallpaper(self, request: web.Request) -> web.Response:
        caller = caller_of(request, self._options)
        if caller is Caller.REFUSED:
            return answers.error(401)
        wallpaper = self._inventory.find(request.match_info["id"])
        if wallpaper is None:
            return answers.error(404)
        if wallpaper.purity == "nsfw" and caller is Caller.ANONYMOUS:
            return answers.error(401)
        details: Json | None = answers.details(wallpaper, self._host_url)
        if self._hooks.details is not None and details is not None:
            details = self._hooks.details(details)
        return answers.error(404) if details is None else answers.answer({"data": details})

    async def tag(self, request: web.Request) -> web.Response:
        """Describe a tag; any key or none will do."""
        tag = find_tag(request.match_info["id"])
        if tag is None:
            return answers.error(404)
        return answers.answer({"data": answers.tag_item(tag)})

    async def settings(self, request: web.Request) -> web.Response:
        """Describe the account: 401 without a key, 404 with an invalid one."""
        caller = caller_of(request, self._options)
        if caller is Caller.KEYED:
            return answers.answer({"data": answers.settings(self._listings.page_size(keyed=True))})
        return answers.error(401 if caller is Caller.ANONYMOUS else 404)

    async def own_collections(self, request: web.Request) -> web.Response:
        """List the account's collections: 404 without a key, 401 with an invalid one."""
        caller = caller_of(request, self._options)
        if caller is Caller.KEYED:
            return self._collection_list(ACCOUNT, private=True)
        return answers.error(404 if caller is Caller.ANONYMOUS else 401)

    async def collections(self, request: web.Request) -> web.Response:
        """List the public collections of a user."""
        if caller_of(request, self._options) is Caller.REFUSED:
            return answers.error(401)
        return self._collection_list(request.match_info["user"], private=False)

    async def collection(self, request: web.Request) -> web.Response:
        """List the items of a collection. Purity is the only filter."""
        caller = caller_of(request, self._options)
        page = page_from(request.query.get("page"))
        refusal = self._listings.refusal(caller, page)
        if refusal is not None:
            return refusal
        keyed = caller is Caller.KEYED
        found = self._collected(request, keyed=keyed)
        if found is None:
            return answers.error(404)
        listing = self._listings.page(request[NUMBER], found, page, keyed=keyed)
        return answers.error(400) if listing is None else answers.answer(listing)

    def _criteria(self, request: web.Request, *, keyed: bool) -> Criteria:
        ignored = self._options.profile.listing.ignored_filters
        criteria = criteria_from(without(request.query, ignored), keyed=keyed)
        if criteria.sorting != "random":
            return criteria
        # A seed that is sent is ignored, as the live site does against its documentation.
        seed = "".join(self._seeds.choices(_SEED_LETTERS, k=_SEED_LENGTH))
        return replace(criteria, seed=seed)

    def _found(self, criteria: Criteria) -> Sequence[int]:
        return self._inventory.present(self._search(criteria))

    def _hooked(self, page: int, listing: Json) -> Json:
        if self._hooks.listing is not None:
            listing["data"] = self._hooks.listing(listing["data"])
        return listing if self._hooks.page is None else self._hooks.page(page, listing)

    def _collection_list(self, user: str, *, private: bool) -> web.Response:
        found = collections_of(user, private=private)
        return answers.answer({"data": [item.item(self._catalogue) for item in found]})

    def _collected(self, request: web.Request, *, keyed: bool) -> Sequence[int] | None:
        """Return the indexes in a collection, None if the caller may not see it."""
        user, number = request.match_info["user"], request.match_info["id"]
        own = keyed and user.lower() == ACCOUNT.lower()
        for collection in collections_of(user, private=own):
            if str(collection.id) == number:
                purities = self._catalogue.columns.purity
                allowed = purities_from(request.query.get("purity"), keyed=keyed)
                indexes = self._inventory.present(collection.indexes(self._catalogue))
                return [index for index in indexes if purities[index] in allowed]
        return None
