"""The claims of this process: kept alive, watched, and released at the end."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from collector.catalog import Transfers
from collector.core.errors import CollectorError, LeaseLost
from collector.core.transfers import Claim
from collector.flow import CLEANUP_SECONDS

logger = logging.getLogger(__name__)

# Two heartbeats may fail before a lease lapses.
BEATS_PER_LEASE = 3


class Leases:
    """Claims held by this process. A claim is certain only while its last heartbeat is fresh."""

    def __init__(
        self, catalog: Transfers, lease_seconds: float, clock: Callable[[], float]
    ) -> None:
        self._catalog = catalog
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._claims: dict[int, Claim] = {}
        self._fresh_at: dict[int, float] = {}
        self._scopes: dict[int, anyio.CancelScope] = {}

    @property
    def count(self) -> int:
        """Claims held, including those that wait for a worker."""
        return len(self._claims)

    def add(self, claim: Claim, asked_at: float) -> None:
        """Take a claim that was requested at `asked_at` of this process's clock."""
        self._claims[claim.wallpaper_id] = claim
        self._fresh_at[claim.wallpaper_id] = asked_at

    def watch(self, claim: Claim, scope: anyio.CancelScope) -> None:
        """Cancel `scope` when the claim is lost; at once if it is lost already."""
        if self._holds(claim):
            self._scopes[claim.wallpaper_id] = scope
        else:
            scope.cancel()

    def drop(self, claim: Claim) -> None:
        """Forget a claim whose item is done or that was lost."""
        if self._holds(claim):
            for held in (self._claims, self._fresh_at, self._scopes):
                held.pop(claim.wallpaper_id, None)

    def require(self, claim: Claim) -> None:
        """Raise LeaseLost unless the last heartbeat is younger than half a lease.

        Called before every write: a process that was suspended must not write to an item that
        another worker has claimed meanwhile.
        """
        stale = self._clock() - self._fresh_at.get(claim.wallpaper_id, float("-inf"))
        if not self._holds(claim) or stale > self._lease_seconds / 2:
            raise LeaseLost(claim.wallhaven_id)

    def _holds(self, claim: Claim) -> bool:
        # Compares the whole claim: this process may have claimed the item again, with a new fence.
        return self._claims.get(claim.wallpaper_id) == claim

    async def beat(self) -> None:
        """Extend all leases, BEATS_PER_LEASE times in a lease, until cancelled."""
        while True:
            await anyio.sleep(self._lease_seconds / BEATS_PER_LEASE)
            claims = list(self._claims.values())
            # The answer may take long, so the lease counts from before the request.
            asked_at = self._clock()
            kept = await self._catalog.heartbeat(claims) if claims else set()
            for claim in claims:
                if claim.wallpaper_id in kept:
                    self._fresh_at[claim.wallpaper_id] = asked_at
                else:
                    self._lose(claim)

    def _lose(self, claim: Claim) -> None:
        if not self._holds(claim):  # done meanwhile
            return
        logger.warning("the lease of %s is lost", claim.wallhaven_id)
        scope = self._scopes.get(claim.wallpaper_id)
        self.drop(claim)
        if scope is not None:
            scope.cancel()

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Release what is still claimed, on any exit: shielded, bounded, never raising."""
        try:
            yield
        finally:
            if self._claims:
                # A claim that is not released in time expires.
                with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
                    await self._release()

    async def _release(self) -> None:
        try:
            await self._catalog.release(list(self._claims.values()))
        except CollectorError as error:
            logger.warning("claims not released, they lapse with their leases: %s", error)
