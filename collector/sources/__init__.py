"""Sites that can be mirrored: pure modules for each site, described by the protocol below."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from collector.core.wallpapers import Contradiction, Page, Rejected, WallpaperDetails


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A GET request; `headers` may hold a key and go to that URL's host alone."""

    url: str
    headers: Mapping[str, str]


class Source(Protocol):
    """One search of one site: how to ask for a page, how to read the answer. Never awaits."""

    @property
    def search_key(self) -> str:
        """The question in canonical form, without secrets: equal keys ask the same."""

    @property
    def is_newest_first(self) -> bool:
        """True where new items appear on page 1 and never behind older ones."""

    @property
    def is_oldest_first(self) -> bool:
        """True where new items join the end of the last page, and never stand before older ones."""

    def oldest_first(self) -> Source:
        """Return the same items in that order, or as they are where the site knows no such order.

        Raises SettingsError where another order would be another list.
        """

    def newest_first(self) -> Source | None:
        """Return the same items with new ones on page 1, None where the site knows no such order.

        Raises SettingsError where another order would be another list.
        """

    @property
    def unfiltered(self) -> Source | None:
        """The question without its filters, None where it has none whose loss needs its total."""

    def following(self, first: Page) -> Source:
        """Return how further pages are asked for, once one is here: with its seed, if it has one.

        The search key stays the same.
        """

    def page_request(self, page: int) -> ApiRequest:
        """Return the request for page number `page` (from 1)."""

    def parse_page(self, body: bytes, page: int) -> Page:
        """Read an answer; every item becomes a row or a rejection.

        Raises PayloadError where the answer as a whole cannot be understood.
        """

    def contradictions(
        self, page: Page, unfiltered_total: int | None = None
    ) -> tuple[Contradiction, ...]:
        """Return what in a page does not fit the question, as a filter that the site ignored.

        `unfiltered_total` is the total of `unfiltered`, at most a day old.
        """


class DetailsSource(Protocol):
    """What one site says about a wallpaper alone: how to ask, how to read the answer."""

    @property
    def is_guest(self) -> bool:
        """True where we ask without a key: nsfw wallpapers are refused to us then."""

    def details_request(self, wallhaven_id: str) -> ApiRequest:
        """Return the request for one wallpaper."""

    def parse_details(self, body: bytes, wallhaven_id: str) -> WallpaperDetails | Rejected:
        """Read an answer. Raises PayloadError for another shape, or another wallpaper."""
