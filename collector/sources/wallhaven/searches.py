"""The two lists that can be mirrored: a search, and a user's collection."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from collector.core.wallpapers import Contradiction, Page
from collector.sources import ApiRequest
from collector.sources.wallhaven.filter_check import check_answer
from collector.sources.wallhaven.pages import parse_page
from collector.sources.wallhaven.query import Query, QueryError
from collector.sources.wallhaven.requests import CollectionName, WallhavenApi, encode


@dataclass(frozen=True, slots=True)
class WallhavenSearch:
    """The `Source` for one search. The key is sent as a header, never in an address."""

    api_url: str
    query: Query
    api_key: str | None = field(default=None, repr=False)

    @property
    def search_key(self) -> str:
        """The search as a canonical query string, without key and page."""
        query = replace(self.query, seed="")
        given = {name: value for name, value in query.parameters().items() if value}
        return f"wallhaven?{encode(given)}"

    @property
    def is_newest_first(self) -> bool:
        return (self.query.sorting, self.query.order) == ("date_added", "desc")

    @property
    def is_oldest_first(self) -> bool:
        return (self.query.sorting, self.query.order) == ("date_added", "asc")

    def oldest_first(self) -> WallhavenSearch:
        """Return the search by date. Raises QueryError for a toplist, which has only one order."""
        return self._by_date("asc")

    def newest_first(self) -> WallhavenSearch:
        """Return the search by date. Raises QueryError for a toplist, which has only one order."""
        return self._by_date("desc")

    def _by_date(self, order: str) -> WallhavenSearch:
        if self.query.sorting == "toplist":
            raise QueryError("sorting", "a toplist cannot be sorted by date; use another sorting")
        return replace(self, query=replace(self.query, sorting="date_added", order=order, seed=""))

    @property
    def unfiltered(self) -> WallhavenSearch | None:
        """The search whose total shows whether filters were honoured, None without filters."""
        return replace(self, query=self.query.unfiltered) if self.query.narrowing else None

    def following(self, first: Page) -> WallhavenSearch:
        """Return the search with the seed of the first page, if its order is random."""
        if self.query.sorting != "random" or self.query.seed or not first.seed:
            return self
        return replace(self, query=replace(self.query, seed=first.seed))

    def page_request(self, page: int) -> ApiRequest:
        return WallhavenApi(self.api_url, self.api_key).search_request(self.query, page)

    def parse_page(self, body: bytes, page: int) -> Page:
        return parse_page(body, page)

    def contradictions(
        self, page: Page, unfiltered_total: int | None = None
    ) -> tuple[Contradiction, ...]:
        return check_answer(self.query, page, unfiltered_total=unfiltered_total)


@dataclass(frozen=True, slots=True)
class WallhavenCollection:
    """The `Source` for one collection. The API accepts only a page and a purity for it.

    Its order is not documented, so this source promises none: it can only be read as a whole.
    """

    is_newest_first: ClassVar[bool] = False
    is_oldest_first: ClassVar[bool] = False

    api_url: str
    name: CollectionName
    purity: str = "100"
    api_key: str | None = field(default=None, repr=False)

    @property
    def search_key(self) -> str:
        """The collection's path and purity, without key and page."""
        return f"wallhaven/collections/{self.name}?purity={self.purity}"

    def oldest_first(self) -> WallhavenCollection:
        """Return the collection itself: the API has only one order."""
        return self

    def newest_first(self) -> None:
        """Return None: the API has only one order, and does not document it."""

    @property
    def unfiltered(self) -> None:
        """None: items show whether the purity, the only filter, was honoured."""

    def following(self, first: Page) -> WallhavenCollection:
        """Return the collection itself: its pages need no seed."""
        del first
        return self

    def page_request(self, page: int) -> ApiRequest:
        api = WallhavenApi(self.api_url, self.api_key)
        return api.collection_request(self.name, self.purity, page)

    def parse_page(self, body: bytes, page: int) -> Page:
        return parse_page(body, page)

    def contradictions(
        self, page: Page, unfiltered_total: int | None = None
    ) -> tuple[Contradiction, ...]:
        del unfiltered_total
        return check_answer(Query(purity=self.purity), page)
