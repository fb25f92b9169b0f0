"""The endpoints of API v1."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from functools import lru_cache, partial

from aiohttp import web
from anyio import to_thread

from collector.simulator import replies, shapes
from collector.simulator.catalogue import Catalogue
from collector.simulator.criteria import (
    LARGEST_PAGE,
    Criteria,
    criteria_from,
    page_from,
    purities_from,
)
from collector.simulator.draws import generator_of
from collector.simulator.options import Hooks, SimulatorOptions
from collector.simulator.query import find_tag
from collector.simulator.search import search
from collector.simulator.user_collections import ACCOUNT, collections_of

# Results kept, each at most 4 bytes an item: paging through a few searches costs one search each.
_KEPT_RESULTS = 32
_SEED_LETTERS = string.ascii_letters + string.digits
_SEED_LENGTH = 6


class Caller(Enum):
    """Who asks: nobody in particular, the holder of a valid key, or one whose key is not valid."""

    ANONYMOUS = "anonymous"
    KEYED = "keyed"
    REFUSED = "refused"


class Api:
    """Answers API requests from a catalogue; pictures are said to be at `host_url`."""

    def __init__(
        self, catalogue: Catalogue, options: SimulatorOptions, hooks: Hooks, host_url: str
    ) -> None:
        self._catalogue = catalogue
        self._options = options
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
        caller = self._caller(request)
        page = page_from(request.query.get("page"))
        refusal = _page_refusal(caller, page)
        if refusal is not None:
            return refusal
        keyed = caller is Caller.KEYED
        criteria = self._seeded(criteria_from(request.query, keyed=keyed), request)
        found = await to_thread.run_sync(self._search, criteria)
        shown = found if criteria.sorting else ()
        meta = {
            **shapes.page_meta(page, self._options.page_size, len(found), keyed=keyed),
            "query": shapes.query_echo(criteria.query),
            "seed": criteria.seed,
        }
        return replies.answer(self._hooked(page, self._page_items(shown, page), meta))

    async def wallpaper(self, request: web.Request) -> web.Response:
        """`GET /w/{id}`."""
        caller = self._caller(request)
        if caller is Caller.REFUSED:
            return replies.unauthorized()
        wallpaper = self._catalogue.find(request.match_info["id"])
        if wallpaper is None:
            return replies.nothing_here()
        if wallpaper.purity == "nsfw" and caller is Caller.ANONYMOUS:
            return replies.unauthorized()
        return replies.answer({"data": shapes.details(wallpaper, self._host_url)})

    async def tag(self, request: web.Request) -> web.Response:
        """`GET /tag/{id}`; looks at no key."""
        tag = find_tag(request.match_info["id"])
        if tag is None:
            return replies.nothing_here()
        return replies.answer({"data": shapes.tag_item(tag)})

    async def settings(self, request: web.Request) -> web.Response:
        """`GET /settings`: 401 without a key, 404 with one that is not valid."""
        caller = self._caller(request)
        if caller is Caller.KEYED:
            return replies.answer({"data": shapes.settings(self._options.page_size)})
        return replies.unauthorized() if caller is Caller.ANONYMOUS else replies.nothing_here()

    async def own_collections(self, request: web.Request) -> web.Response:
        """`GET /collections`: 404 without a key, 401 with one that is not valid."""
        caller = self._caller(request)
        if caller is Caller.KEYED:
            return self._collection_list(ACCOUNT, private=True)
        return replies.nothing_here() if caller is Caller.ANONYMOUS else replies.unauthorized()

    async def collections(self, request: web.Request) -> web.Response:
        """`GET /collections/{user}`: the public ones."""
        if self._caller(request) is Caller.REFUSED:
            return replies.unauthorized()
        return self._collection_list(request.match_info["user"], private=False)

    async def collection(self, request: web.Request) -> web.Response:
        """`GET /collections/{user}/{id}`: its items, filtered by purity alone."""
        caller = self._caller(request)
        page = page_from(request.query.get("page"))
        refusal = _page_refusal(caller, page)
        if refusal is not None:
            return refusal
        found = self._collected(request, keyed=caller is Caller.KEYED)
        if found is None:
            return replies.nothing_here()
        meta = shapes.page_meta(
            page, self._options.page_size, len(found), keyed=caller is Caller.KEYED
        )
        return replies.answer({"data": self._page_items(found, page), "meta": meta})

    def _caller(self, request: web.Request) -> Caller:
        key = request.headers.get("X-API-Key") or request.query.get("apikey")
        if not key:
            return Caller.ANONYMOUS
        return Caller.KEYED if key in self._options.api_keys else Caller.REFUSED

    def _seeded(self, criteria: Criteria, request: web.Request) -> Criteria:
        """Give a random order its seed: a fresh one, or the caller's where that is kept."""
        if criteria.sorting != "random":
            return criteria
        seed = request.query.get("seed") if self._options.keeps_random_seed else None
        fresh = "".join(self._seeds.choices(_SEED_LETTERS, k=_SEED_LENGTH))
        return replace(criteria, seed=seed or fresh)

    def _page_items(self, found: Sequence[int], page: int) -> list[shapes.Json]:
        size = self._options.page_size
        return [
            shapes.listing_item(self._catalogue[index], self._host_url)
            for index in found[(page - 1) * size : page * size]
        ]

    def _hooked(self, page: int, items: list[shapes.Json], meta: shapes.Json) -> shapes.Json:
        data: list[object] = [*items]
        if self._hooks.listing is not None:
            data = self._hooks.listing(items)
        whole: shapes.Json = {"data": data, "meta": meta}
        return whole if self._hooks.page is None else self._hooks.page(page, whole)

    def _collection_list(self, user: str, *, private: bool) -> web.Response:
        found = collections_of(user, private=private)
        return replies.answer({"data": [item.item(len(self._catalogue)) for item in found]})

    def _collected(self, request: web.Request, *, keyed: bool) -> list[int] | None:
        """Return the indexes in a collection, None if there is none that the caller may see."""
        user, number = request.match_info["user"], request.match_info["id"]
        own = keyed and user.lower() == ACCOUNT.lower()
        for collection in collections_of(user, private=own):
            if str(collection.id) == number:
                column = self._catalogue.columns.purity
                allowed = purities_from(request.query.get("purity"), keyed=keyed)
                indexes = collection.indexes(len(self._catalogue))
                return [index for index in indexes if column[index] in allowed]
        return None


def _page_refusal(caller: Caller, page: int) -> web.Response | None:
    if caller is Caller.REFUSED:
        return replies.unauthorized()
    if page < 1:
        return replies.it_broke()
    return replies.error(400, "Bad Request") if page > LARGEST_PAGE else None
