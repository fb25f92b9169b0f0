"""What can be asked about one wallpaper alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from collector.core.wallpapers import Rejected, WallpaperDetails
from collector.sources import ApiRequest
from collector.sources.wallhaven.api import WallhavenApi
from collector.sources.wallhaven.details import parse_details


@dataclass(frozen=True, slots=True)
class WallhavenDetails:
    """The `DetailsSource` of Wallhaven. The key travels as a header, never in an address."""

    api_url: str
    api_key: str | None = field(default=None, repr=False)

    @property
    def is_guest(self) -> bool:
        """True without a key."""
        return not self.api_key

    def details_request(self, wallhaven_id: str) -> ApiRequest:
        """Return the request for one wallpaper."""
        return WallhavenApi(self.api_url, self.api_key).details_request(wallhaven_id)

    def parse_details(self, body: bytes, wallhaven_id: str) -> WallpaperDetails | Rejected:
        """Read the answer; raises PayloadError for another shape, or another wallpaper."""
        return parse_details(body, wallhaven_id)
