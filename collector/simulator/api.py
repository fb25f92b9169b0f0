"""The endpoints of API v1."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, partial

from aiohttp import web
from anyio import to_thread

from collector.simulator import answers
from collector.simulator.catalogue import Catalogue
from collector.simulator.draws import generator_of
from collector.simulator.inventory import Inventory
from collector.simulator.limits import Caller, Callers
from collector.simulator.listings import ACCOUNT, Listings, collections_of
from collector.simulator.options import Hooks, SimulatorOptions
from collector.simulator.parameters import (
    Criteria,
    criteria_from,
    find_tag,
    page_from,
    purities_from,
    without,
)
from collector.simulator.search import search

# Results kept, each at most 4 bytes an item: paging through a few searches costs one search each.
_KEPT_RESULTS = 32
_SEED_LETTERS = string.ascii_letters + string.digits
_SEED_LENGTH = 6


class Api:
    """Answers API requests from what is there; pictures are said to be at `host_url`."""

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
        self._account = options.profile.account
        self._ignored_filters = options.profile.listing.ignored_filters
        self._keeps_random_seed = options.keeps_random_seed
        self._callers = Callers(options)
        self._listings = Listings(catalogue, options, host_url)
        self._hooks = hooks
        self._host_url = host_url
        self._search = lru_cache(_KEPT_RESULTS)(partial(search, catalogue))
        self._seeds = generator_of(options.seed)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes below `/api/v1`."""
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
        """`GET /search`."""
        caller = self._callers.caller_of(request)
        page = page_from(request.query.get("page"))
        refusal = self._listings.refusal(caller, page)
        if refusal is not None:
            return refusal
        keyed = caller is Caller.KEYED
        criteria = self._criteria(request, keyed=keyed)
        found = await to_thread.run_sync(self._found, criteria)
        meta = self._listings.meta(request, page, len(found), keyed=keyed)
        if self._listings.is_out_of_range(page, meta):
            return answers.bad_request()
        meta |= {"query": self._listings.query_echo(criteria.query), "seed": criteria.seed}
        items = self._listings.items(found if criteria.sorting else (), page, keyed=keyed)
        return answers.answer(self._hooked(page, items, meta))

    async def wallpaper(self, request: web.Request) -> web.Response:
        """`GET /w/{id}`."""
        caller = self._callers.caller_of(request)
        if caller is Caller.REFUSED:
            return answers.unauthorized()
        wallpaper = self._inventory.find(request.match_info["id"])
        if wallpaper is None:
            return answers.nothing_here()
        if wallpaper.purity == "nsfw" and caller is Caller.ANONYMOUS:
            return answers.unauthorized()
        details: answers.Json | None = answers.details(wallpaper, self._host_url)
        if self._hooks.details is not None and details is not None:
            details = self._hooks.details(details)
        return answers.nothing_here() if details is None else answers.answer({"data": details})

    async def tag(self, request: web.Request) -> web.Response:
        """`GET /tag/{id}`; looks at no key."""
        tag = find_tag(request.match_info["id"])
        if tag is None:
            return answers.nothing_here()
        return answers.answer({"data": answers.tag_item(tag)})

    async def settings(self, request: web.Request) -> web.Response:
        """`GET /settings`: 401 without a key, 404 with one that is not valid."""
        caller = self._callers.caller_of(request)
        if caller is Caller.KEYED:
            return answers.answer({"data": self._listings.settings()})
        return answers.unauthorized() if caller is Caller.ANONYMOUS else answers.nothing_here()

    async def own_collections(self, request: web.Request) -> web.Response:
        """`GET /collections`: 404 without a key, 401 with one that is not valid."""
        caller = self._callers.caller_of(request)
        if caller is Caller.KEYED:
            return self._collection_list(ACCOUNT, private=True)
        return answers.nothing_here() if caller is Caller.ANONYMOUS else answers.unauthorized()

    async def collections(self, request: web.Request) -> web.Response:
        """`GET /collections/{user}`: the public ones."""
        if self._callers.caller_of(request) is Caller.REFUSED:
            return answers.unauthorized()
        return self._collection_list(request.match_info["user"], private=False)

    async def collection(self, request: web.Request) -> web.Response:
        """`GET /collections/{user}/{id}`: its items, filtered by purity alone."""
        caller = self._callers.caller_of(request)
        page = page_from(request.query.get("page"))
        refusal = self._listings.refusal(caller, page)
        if refusal is not None:
            return refusal
        keyed = caller is Caller.KEYED
        found = self._collected(request, keyed=keyed)
        if found is None:
            return answers.nothing_here()
        meta = self._listings.meta(request, page, len(found), keyed=keyed)
        if self._listings.is_out_of_range(page, meta):
            return answers.bad_request()
        items = self._listings.items(found, page, keyed=keyed)
        return answers.answer({"data": items, "meta": meta})

    def _criteria(self, request: web.Request, *, keyed: bool) -> Criteria:
        """Read the search; the account speaks where a keyed caller does not."""
        parameters = dict(request.query)
        if keyed:
            unsaid = {"purity": self._account.purity, "categories": self._account.categories}
            parameters = unsaid | parameters
        if self._ignored_filters:
            parameters = without(parameters, self._ignored_filters)
        return self._seeded(criteria_from(parameters, keyed=keyed), request)

    def _found(self, criteria: Criteria) -> Sequence[int]:
        return self._inventory.present(self._search(criteria))

    def _seeded(self, criteria: Criteria, request: web.Request) -> Criteria:
        """Give a random order its seed: a fresh one, or the caller's where that is kept."""
        if criteria.sorting != "random":
            return criteria
        seed = request.query.get("seed") if self._keeps_random_seed else None
        fresh = "".join(self._seeds.choices(_SEED_LETTERS, k=_SEED_LENGTH))
        return replace(criteria, seed=seed or fresh)

    def _hooked(self, page: int, items: list[answers.Json], meta: answers.Json) -> answers.Json:
        data: list[object] = [*items]
        if self._hooks.listing is not None:
            data = self._hooks.listing(items)
        whole: answers.Json = {"data": data, "meta": meta}
        return whole if self._hooks.page is None else self._hooks.page(page, whole)

    def _collection_list(self, user: str, *, private: bool) -> web.Response:
        found = collections_of(user, private=private)
        return answers.answer({"data": [item.item(self._catalogue) for item in found]})

    def _collected(self, request: web.Request, *, keyed: bool) -> Sequence[int] | None:
        """Return the indexes in a collection, None if there is none that the caller may see."""
        user, number = request.match_info["user"], request.match_info["id"]
        own = keyed and user.lower() == ACCOUNT.lower()
        for collection in collections_of(user, private=own):
            if str(collection.id) == number:
                column = self._catalogue.columns.purity
                allowed = purities_from(request.query.get("purity"), keyed=keyed)
                indexes = self._inventory.present(collection.indexes(self._catalogue))
                return [index for index in indexes if column[index] in allowed]
        return None
