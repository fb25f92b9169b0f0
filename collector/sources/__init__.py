"""Sites that can be mirrored: one pure package for each, behind the protocols below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from collector.core.wallpapers import Contradiction, Page


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A GET request. `headers` may hold a key: send them to that URL's host only."""

    url: str
    headers: Mapping[str, str]


class Source(Protocol):
    """A list of one site, such as a search: how to request a page, and how to parse the answer.

    Never awaits.
    """

    @property
    def search_key(self) -> str:
        """The request in canonical form, without secrets. Equal keys mean the same list."""

    @property
    def is_newest_first(self) -> bool:
        """True if new items appear on page 1, always before older ones."""

    @property
    def is_oldest_first(self) -> bool:
        """True if new items appear at the end of the last page, always after older ones."""

    def oldest_first(self) -> Source:
        """Return the same items in that order, or this source if the site has no such order.

        Raises SettingsError if the items depend on the order.
        """

    def newest_first(self) -> Source | None:
        """Return the same items with new ones on page 1, None if the site has no such order.

        Raises SettingsError if the items depend on the order.
        """

    @property
    def unfiltered(self) -> Source | None:
        """The request without its filters, None if the items show whether each was honoured."""

    def following(self, first: Page) -> Source:
        """Return the source for the other pages: with the seed of the first page, if it has one.

        The search key stays the same.
        """

    def page_request(self, page: int) -> ApiRequest:
        """Return the request for page number `page` (from 1)."""

    def parse_page(self, body: bytes, page: int) -> Page:
        """Parse an answer. Every item becomes a row or a rejection.

        Raises PayloadError if the answer as a whole has another shape.
        """

    def contradictions(
        self, page: Page, unfiltered_total: int | None = None
    ) -> tuple[Contradiction, ...]:
        """Return what in a page contradicts the request, such as an ignored filter.

        `unfiltered_total` is the total of `unfiltered`, at most a day old.
        """
