"""How often a store call is tried: the one owner of retries between the stages and the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from collector.adapters.s3.errors import NoReply, Refused, StoreFailure, Unreachable
from collector.core.retry import backoff_seconds

# Four tries wait 1.75 s on average, 3.5 s at most: a store that restarts is back by then, and a
# longer outage is the run's affair and not one call's.
TRIES = 4
RETRY_BASE_SECONDS = 0.5
_T = TypeVar("_T")


class Tries:
    """Tries of store calls with full jitter between them; `jitter` is uniform in [0, 1)."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter

    async def make(
        self, once: Callable[[], Awaitable[_T]], may_pass: Callable[[StoreFailure], bool]
    ) -> _T:
        """Return what `once` gives; raises its last StoreFailure, `unclear` if any try was.

        What an earlier try may have done, a later clear refusal does not undo.
        """
        attempt, unclear = 1, False
        while True:
            try:
                return await once()
            except StoreFailure as failure:
                failure.unclear = unclear = unclear or failure.unclear
                if attempt == TRIES or not may_pass(failure):
                    raise
            await self.pause(attempt)
            attempt += 1

    async def pause(self, attempt: int) -> None:
        """Wait as long as one should after try number `attempt`."""
        await anyio.sleep(backoff_seconds(attempt, RETRY_BASE_SECONDS, self._jitter()))


def may_pass(failure: StoreFailure) -> bool:
    """Say whether a repeatable call is worth another try."""
    return isinstance(failure, NoReply) or write_may_pass(failure)


def write_may_pass(failure: StoreFailure) -> bool:
    """Say the same of a create-only write, which is never repeated after a lost reply."""
    return isinstance(failure, Unreachable) or (isinstance(failure, Refused) and failure.is_busy)


def put_may_pass(failure: StoreFailure) -> bool:
    """Say the same of a whole put, of which a conflict left nothing behind."""
    return write_may_pass(failure) or failure.is_refused_as("ConditionalRequestConflict")
