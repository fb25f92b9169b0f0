"""What a janitor finds and what it has done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from collector.core.errors import CollectorError, ItemError
from collector.core.keys import expected_type, object_key


@dataclass(frozen=True, slots=True)
class Lapsed:
    """Claims whose process is gone: `released` are due again, `dead` had no try left."""

    released: int
    dead: int


@dataclass(frozen=True, slots=True)
class NotedUpload:
    """A multipart upload that was noted for a wallpaper which nobody has in hand."""

    wallpaper_key: int
    wallhaven_id: str
    url: str
    file_type: str | None
    upload_id: str

    @property
    def key(self) -> str | None:
        """The key that it was begun under, None where the row no longer tells."""
        try:
            return object_key(self.wallhaven_id, expected_type(self.file_type, self.url))
        except ItemError:
            return None


@dataclass(frozen=True, slots=True)
class Swept:
    """Multipart uploads that were dropped, and those that the store would not let go of."""

    aborted: int
    left: int


class RunDetail(StrEnum):
    """What a run leaves beside its audit, by table, in the order in which it can be trimmed.

    Pages go before the loads that they name.
    """

    ITEMS = "run_items"
    ENRICHMENTS = "run_enrichments"
    PAGES = "staged_pages"
    LOADS = "run_loads"
    LETTERS = "dead_letters"


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Runs that were closed for good, and rows of their details that were deleted."""

    runs: int
    rows: Mapping[RunDetail, int]


class UploadsLeft(CollectorError):
    """The store would not let go of multipart uploads; the next janitor tries them again."""

    def __init__(self, left: int) -> None:
        super().__init__(
            f"{left} stale uploads could not be aborted; they are tried again next time"
        )
        self.left = left
