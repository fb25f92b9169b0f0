"""The collections of users: a few fixed ones, so that their endpoints have something to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from collector.simulator.catalogue import Catalogue
from collector.simulator.population import UPLOADERS


@dataclass(frozen=True, slots=True)
class UserCollection:
    """Every `step`-th wallpaper that there was at the start, kept by `owner`."""

    id: int
    label: str
    owner: str
    views: int
    public: bool
    step: int

    def indexes(self, catalogue: Catalogue) -> Sequence[int]:
        """Return the indexes of its items."""
        return range(catalogue.upcoming, len(catalogue), self.step)

    def item(self, catalogue: Catalogue) -> dict[str, object]:
        """Return what `/collections` says about it; `count` includes items one cannot see."""
        return {
            "id": self.id,
            "label": self.label,
            "views": self.views,
            "public": int(self.public),
            "count": len(self.indexes(catalogue)),
        }


# The account that every valid key belongs to.
ACCOUNT = UPLOADERS[0].username

COLLECTIONS = (
    UserCollection(15, "Default", ACCOUNT, 38, public=True, step=3),
    UserCollection(16, "Later", ACCOUNT, 0, public=False, step=7),
    UserCollection(90, "自由", UPLOADERS[3].username, 112, public=True, step=5),
)


def collections_of(user: str, *, private: bool) -> list[UserCollection]:
    """Return a user's collections, the private ones only on demand; none for an unknown user."""
    return [
        collection
        for collection in COLLECTIONS
        if collection.owner.lower() == user.lower() and (collection.public or private)
    ]
