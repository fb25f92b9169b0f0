"""Sites that can be mirrored: pure modules for each site, described by the protocols below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from collector.core.wallpapers import Contradiction, Page


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A GET request; `headers` may hold a key and go to that URL's host alone."""

    url: str
    headers: Mapping[str, str]


class Source(Protocol):
    """A list of one site, a search or a collection: how to ask for a page, how to read the answer.

    Never awaits.
    """

    @property
    def search_key(self) -> str:
        """The question in canonical form, without secrets: equal keys ask the same."""

    @property
    def is_newest_first(self) -> bool:
        """True if new items appear on page 1 and never after older ones."""

    @property
    def is_oldest_first(self) -> bool:
        """True if new items join the end of the last page and never come before older ones."""

    def oldest_first(self) -> Source:
        """Return the same items in that order, or as they are if the site knows no such order.

        Raises SettingsError if another order would be another list.
        """

    def newest_first(self) -> Source | None:
        """Return the same items with new ones on page 1, None if the site knows no such order.

        Raises SettingsError if another order would be another list.
        """

    @property
    def unfiltered(self) -> Source | None:
        """The question without its filters, None if its items show whether each was honoured."""

    def following(self, first: Page) -> Source:
        """Return the source for further pages, given the first: with its seed, if it has one.

        The search key stays the same.
        """

    def page_request(self, page: int) -> ApiRequest:
        """Return the request for page number `page` (from 1)."""

    def parse_page(self, body: bytes, page: int) -> Page:
        """Read an answer; every item becomes a row or a rejection.

        Raises PayloadError for an answer that cannot be understood as a whole.
        """

    def contradictions(
        self, page: Page, unfiltered_total: int | None = None
    ) -> tuple[Contradiction, ...]:
        """Return what in a page does not fit the question, such as a filter that was ignored.

        `unfiltered_total` is the total of `unfiltered`, at most a day old.
        """
