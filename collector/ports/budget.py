"""The requests that one API allows."""

from __future__ import annotations

from typing import Protocol

from collector.core.pacing import Announcement, Slot, Wait


class RequestBudget(Protocol):
    """The requests that one API allows, shared by all processes; as one caller sees it.

    In no window, wherever it begins, are more requests under way or answered than the limit: a
    slot is taken before its request leaves, and free again one window after its answer came.
    """

    async def take(self) -> Slot | Wait:
        """Take a slot for one request, or learn how long there is none.

        Who learns that waits, as the others know: ones of a lower priority get none meanwhile.
        Cancelled, it takes nothing.
        """

    async def end(self, slot: Slot, announced: Announcement | None) -> None:
        """Note that the request of a slot was answered, or given up; to be shielded.

        With what the API announced in an answer, the budget follows it: the newest limit counts,
        and where less remains than we believe, others use it too, and so much less is handed out.
        """

    async def pause(self, seconds: float) -> None:
        """Hand out nothing for so long; a longer pause that is in force stays."""
