"""Count what one call of the transfer has done, and decide when it has to end."""

from __future__ import annotations

from collections import Counter

from collector.core.audit import is_too_many
from collector.core.errors import TooManyDead
from collector.core.runs import Json
from collector.core.transfers import Outcome, StoredObject

# Attempts that may fail in addition to the images that the limit allows: a run that may store ten
# images must not request a thousand. A fifth of large limits; 50 cover a bad day of small ones.
MIN_SPARE_ATTEMPTS = 50
SPARE_ATTEMPTS_SHARE = 0.2
# The share of dead letters is taken of this many images at least, or of all if there are fewer: a
# few bad ones at the start prove nothing, and a run of a million need not wait for its end.
DEAD_SHARE_IMAGES = 1000


class Tally:
    """Counts, named as the columns of `run_audit`, and the bounds that end a call.

    The run may store `limit` images (0: no limit), and stored `stored_before` before this call.
    """

    def __init__(self, *, limit: int, stored_before: int, max_dead_percent: float) -> None:
        self._limit = limit
        self._stored_before = stored_before
        self._max_dead_percent = max_dead_percent
        self._tried_before = 0
        self._dead_share_images = DEAD_SHARE_IMAGES
        self._counts: Counter[str] = Counter()

    def plan(self, images: int | None, *, tried_before: int) -> None:
        """Set how many `images` the call will handle at most; None if that is not known.

        The share of dead letters also counts the images that the run `tried_before` this call.
        """
        self._tried_before = tried_before
        if images is not None:
            self._dead_share_images = min(images + tried_before, DEAD_SHARE_IMAGES)

    def stored(self, stored: StoredObject, *, is_own: bool) -> None:
        """Count a stored image; `is_own`: a page of this run lists it."""
        if stored.outcome is Outcome.UPLOADED:
            self._counts["images_uploaded"] += 1
            self._counts["bytes_uploaded"] += stored.size_bytes
        else:
            self._counts["images_adopted"] += 1
        self._counts["stored_of_own_pages"] += is_own

    def failed(self, *, is_given_up: bool) -> None:
        """Count a failed attempt, and its dead letter if the item was given up."""
        self._counts["failed_attempts"] += 1
        self._counts["dead_letters"] += is_given_up

    @property
    def spare_attempts(self) -> int | None:
        """How many more attempts may fail before this call ends; None without a limit."""
        if not self._limit:
            return None
        spare = max(MIN_SPARE_ATTEMPTS, int(self._limit * SPARE_ATTEMPTS_SHARE))
        return max(0, spare - self._counts["failed_attempts"])

    @property
    def are_attempts_used_up(self) -> bool:
        return self.spare_attempts == 0

    @property
    def is_limit_reached(self) -> bool:
        return 0 < self._limit <= self._stored_before + self._stored_images

    @property
    def too_many_dead(self) -> TooManyDead | None:
        """The error that ends the call if the run has given up on too many images, else None."""
        dead = self._counts["dead_letters"]
        handled = self._tried_before + self._stored_images + dead
        if is_too_many(dead, max(handled, self._dead_share_images), self._max_dead_percent):
            return TooManyDead("images", dead, handled)
        return None

    def counts(self) -> dict[str, int]:
        names = ("images_uploaded", "images_adopted", "bytes_uploaded")
        return {name: self._counts[name] for name in (*names, "dead_letters", "failed_attempts")}

    def details(self) -> dict[str, Json]:
        own = self._counts["stored_of_own_pages"]
        return {
            "stored_of_own_pages": own,
            "stored_of_backlog": self._stored_images - own,
            "is_limit_reached": self.is_limit_reached,
            "are_attempts_used_up": self.are_attempts_used_up,
        }

    @property
    def _stored_images(self) -> int:
        return self._counts["images_uploaded"] + self._counts["images_adopted"]
