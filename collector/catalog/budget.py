"""The requests that an API allows, shared through the database by all processes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

import anyio

from collector.catalog.database import Database
from collector.core.errors import Outage
from collector.core.pacing import (
    WANTED_SECONDS,
    WINDOW_SECONDS,
    Announcement,
    Priority,
    Slot,
    Wait,
)
from collector.core.runs import StageCall
from collector.flow import CLEANUP_SECONDS

# Longer than any answer takes (REPLY_TIMEOUT_SECONDS of collector/http/client.py).
LONGEST_REPLY_SECONDS = 60.0
# Leases, windows and pauses end sooner. A later time was written before the server's clock was set
# back, and would block all processes until the clock reaches it.
FARTHEST_SECONDS = 600.0
# Other transactions may hold all free slots at this moment.
MIN_WAIT_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Allowance:
    """How many requests the API `scope` (host[:port]) may get in any window, at most.

    The slot of a dead holder is free again after the longest reply plus one window.
    """

    scope: str
    requests: int
    window_seconds: float = WINDOW_SECONDS
    reply_seconds: float = LONGEST_REPLY_SECONDS

    @property
    def lease_seconds(self) -> float:
        """How long a slot is held if the end of its request is never noted."""
        return self.reply_seconds + self.window_seconds


class SharedBudget:
    """RequestBudget shared through the database, for callers of one priority.

    Requests are counted for the stage `call`, in the transaction that lets them leave.
    """

    def __init__(
        self,
        database: Database,
        allowance: Allowance,
        priority: Priority = Priority.RUN,
        call: StageCall | None = None,
    ) -> None:
        self._database = database
        self._allowance = allowance
        self._priority = priority
        self._counted_for = (call.audit_id, call.stage, call.worker) if call else (None, None, None)

    async def take(self) -> Slot | Wait:
        """Take a slot, or return the expected wait. If cancelled, it takes nothing."""
        taking = asyncio.ensure_future(self._take(str(uuid4())))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # A cancelled statement may still commit, so let it end and undo it. If that takes too
            # long, the slot is free when its lease ends.
            with anyio.move_on_after(CLEANUP_SECONDS, shield=True), suppress(Outage):
                await self._return(await taking)
            raise

    async def end(self, slot: Slot, announced: Announcement | None) -> None:
        """Note the end of a slot's request, and the limit that its answer announced."""
        allowance, heard = self._allowance, announced or Announcement()
        async with self._database.session() as session:
            ended = await session.first(
                "end_slot",
                allowance.scope,
                slot.number,
                slot.holder,
                allowance.window_seconds,
                heard.limit,
                heard.remaining,
                allowance.requests,
            )
        if ended is not None and (ended["unseen"] or 0) > 0:
            await self._mark(heard, ended["taken_at"])

    async def pause(self, seconds: float) -> None:
        """Grant no slot for `seconds`; a longer pause in force stays."""
        scope = self._allowance.scope
        await self._database.execute("pause_budget", scope, seconds, FARTHEST_SECONDS)

    async def _take(self, holder: str) -> Slot | Wait:
        allowance = self._allowance
        arguments = (
            allowance.scope,
            allowance.requests,
            self._priority.reserved_slots,
            self._priority,
            holder,
            allowance.lease_seconds,
            allowance.window_seconds,
            WANTED_SECONDS,
            FARTHEST_SECONDS,
            *self._counted_for,
        )
        async with self._database.session() as session:
            row = await session.one("take_slot", *arguments)
            if row["slot"] is None and not row["is_made"]:
                await session.execute("make_slots", allowance.scope, allowance.requests)
                row = await session.one("take_slot", *arguments)
        if row["slot"] is not None:
            return Slot(row["slot"], holder)
        return Wait(max(MIN_WAIT_SECONDS, row["wait_seconds"]))

    async def _return(self, granted: Slot | Wait) -> None:
        if isinstance(granted, Slot):
            await self._database.execute(
                "return_slot", self._allowance.scope, granted.holder, *self._counted_for
            )

    async def _mark(self, heard: Announcement, taken_at: datetime) -> None:
        """Block the slots that other clients of the API use; locked, so that it happens once."""
        allowance = self._allowance
        limit = min(allowance.requests, heard.limit or allowance.requests)
        async with self._database.transaction() as session:
            await session.execute("lock_budget", allowance.scope)
            await session.execute(
                "mark_slots",
                allowance.scope,
                limit,
                heard.remaining,
                taken_at,
                allowance.window_seconds,
            )
