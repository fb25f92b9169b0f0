"""Transfer: carry the images of the backlog into the store, some at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from collector.catalog import Transfers
from collector.core.errors import (
    Code,
    CollectorError,
    Edge,
    Fault,
    ItemError,
    LeaseLost,
    Outage,
    SettingsError,
)
from collector.core.retry import GiveUp, decide
from collector.core.runs import StageName, StageReport
from collector.core.tally import Tally
from collector.core.transfers import Claim, DueImages, ItemFailure, StoredObject
from collector.failpoints import Point, reach
from collector.flow import ByteBudget, Supply, committed, task_group
from collector.logs import logger
from collector.ports import Http, ObjectStore, Progress
from collector.stages.breakers import Breakers
from collector.stages.leases import Leases
from collector.stages.mirror import MirrorPorts, mirror_image

# Work that falls due later than this is the next run's: waiting costs more than it brings. Where
# there is no next run, with a supply, the claims of a process that died are waited for, too.
LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """Bounds of one transfer; `limit` 0 means no limit of images stored by the run.

    `stored_before` of these were stored when this transfer began. With `only`, images that the
    run's own pages do not list are left alone. With `reads_back`, for a store that does not verify
    checksums, each object is read back before it counts as stored.
    """

    in_flight: int
    limit: int
    memory_bytes: int
    max_image_bytes: int
    lease_seconds: float
    max_attempts: int
    retry_base_seconds: float
    max_dead_percent: float
    stored_before: int = 0
    only: bool = False
    reads_back: bool = False


@dataclass(frozen=True, slots=True)
class Chance:
    """Time and randomness, passed in: a monotonic clock in seconds, a uniform number in [0, 1)."""

    clock: Callable[[], float]
    jitter: Callable[[], float]


async def transfer(
    audit_id: int,
    *,
    catalog: Transfers,
    http: Http,
    store: ObjectStore,
    options: TransferOptions,
    chance: Chance,
    progress: Progress,
    supply: Supply | None = None,
) -> StageReport:
    """Store images until nothing is due, or `limit` of this run are stored.

    With a `supply`, images may become due while others are carried: until it is over, the transfer
    waits for them, and then for those that others hold or have held when they died.

    At most `in_flight` images are on their way at once, within the byte budget. Several workers
    of a run may do this at once: the limit is of what they store together, and a worker that
    finds it used up by what the others have in hand leaves the rest to them. Images that the run's
    own pages list go first.

    One item's failure never stops the others. Raises Outage if an edge is down, SettingsError if
    WALLHAVEN_IMAGE_HOSTS lacks the host of most images: attempts that were lost to it are given
    back, with their dead letters. Raises TooManyDead if too many images are given up: these letters
    stay. With a limit, a worker ends after some failed attempts (`core/tally.py` has the bounds of
    both), and the report tells. On any failure or cancellation the claims in
    hand are released with their attempts refunded, as far as the database answers.
    """
    longest_wait_seconds, awaits_others = LONGEST_WAIT_SECONDS, supply is not None
    if supply is None:
        supply = Supply(is_over=True)
    else:
        longest_wait_seconds = max(longest_wait_seconds, options.lease_seconds)
    work = _Transfer(
        *(audit_id, catalog, http, store, options, chance, progress, supply),
        longest_wait_seconds,
        awaits_others=awaits_others,
    )
    return await work.run()


class _Transfer:
    def __init__(
        self,
        audit_id: int,
        catalog: Transfers,
        http: Http,
        store: ObjectStore,
        options: TransferOptions,
        chance: Chance,
        progress: Progress,
        supply: Supply,
        longest_wait_seconds: float,
        *,
        awaits_others: bool,
    ) -> None:
        self._audit_id = audit_id
        self._catalog = catalog
        self._options = options
        self._chance = chance
        self._progress = progress
        # Announces what has become due, and each image that is done.
        self._supply = supply
        self._longest_wait_seconds = longest_wait_seconds
        self._awaits_others = awaits_others
        self._leases = Leases(catalog, options.lease_seconds, chance.clock)
        # With the byte budget, the bounds of a transfer: tasks and memory.
        self._in_flight = anyio.Semaphore(options.in_flight)
        self._ports = MirrorPorts(
            http=http,
            store=store,
            budget=ByteBudget(options.memory_bytes),
            require_lease=self._leases.require,
            journal_upload=catalog.journal_upload,
            max_image_bytes=options.max_image_bytes,
            clock=chance.clock,
            reads_back=options.reads_back,
        )
        self._breakers = Breakers(
            http, store, catalog.known_good, chance.clock, LONGEST_WAIT_SECONDS
        )
        self._tally = Tally(
            limit=options.limit,
            stored_before=options.stored_before,
            max_dead_percent=options.max_dead_percent,
        )

    async def run(self) -> StageReport:
        try:
            await self._run()
        except SettingsError:
            await self._refund(Edge.DOWNLOAD)
            raise
        except Outage as outage:
            await self._refund(outage.edge)
            raise
        return self._report()

    async def _refund(self, edge: Edge) -> None:
        # Only now, when no attempt of ours is under way any more: one that ends later would count.
        if codes := self._breakers.suspect_codes(edge):
            await self._catalog.refund_outage(self._audit_id, codes)

    async def _run(self) -> None:
        await self._catalog.enlist()
        if self._supply.is_over:
            # With a supply the pages are still to come, and their images are marked as they do.
            await self._catalog.mark_listed(self._audit_id)
        self._plan(await self._catalog.due_images(self._audit_id))
        async with self._leases.held(), task_group() as tasks:
            tasks.start_soon(self._leases.beat)
            await self._work()
            tasks.cancel_scope.cancel()
        self._progress.finish("images")
        await self._breakers.require_working()

    def _plan(self, due: DueImages) -> None:
        others = "others are left alone" if self._options.only else "others of the backlog"
        logger.info(
            "transfer: %d images of this run's pages, then %d %s",
            due.own,
            due.others,
            others,
        )
        wanted = due.own if self._options.only else due.own + due.others
        planned = min(wanted, self._options.limit or wanted)
        self._progress.start("images", planned)
        known = planned if self._supply.is_over else None
        self._tally.plan(known, tried_before=due.tried)

    async def _work(self) -> None:
        """Claim what is due, a batch at a time, while the run may store more; a task an image."""
        async with task_group() as images:
            while True:
                seen = self._supply.version
                batch = await self._claim()
                for claim in batch:
                    images.start_soon(self._carry_claimed, claim)
                if not batch and not await self._wait_for_work(seen):
                    return

    async def _claim(self) -> list[Claim]:
        options, spare = self._options, self._tally.spare_attempts
        max_items = options.in_flight if spare is None else min(options.in_flight, spare)
        free = max_items - self._leases.count
        if free <= 0:
            return []
        asked_at = self._chance.clock()
        claim = self._catalog.claim(self._audit_id, free, options.limit, only=options.only)
        batch = await committed(claim)
        if batch:
            reach(Point.CLAIMED)
        for claimed in batch:
            self._leases.add(claimed, asked_at)
        return batch

    async def _wait_for_work(self, seen: int) -> bool:
        """Wait until something may have become due; False where nothing will in time.

        `seen` is the supply's version before it was looked for.
        """
        if self._leases.count:
            await self._supply.after(seen)
            return True
        if self._tally.is_limit_reached or self._tally.are_attempts_used_up:
            return False
        if self._supply.version != seen:
            return True
        due_seconds = await self._catalog.next_due_seconds(
            self._audit_id,
            self._options.limit,
            only=self._options.only,
            awaits_others=self._awaits_others,
        )
        if self._supply.is_over:
            if due_seconds is None or due_seconds > self._longest_wait_seconds:
                return False
            # Whoever holds them may be done sooner.
            await anyio.sleep(min(due_seconds, LONGEST_WAIT_SECONDS))
            return True
        with anyio.move_on_after(due_seconds):
            await self._supply.after(seen)
        return True

    async def _carry_claimed(self, claim: Claim) -> None:
        # Waited for only behind a lost lease: no more is claimed than is free, since a claim that
        # waits would cost its item an attempt if the process died.
        async with self._in_flight:
            with anyio.CancelScope() as scope:
                self._leases.watch(claim, scope)
                await self._breakers.pause()
                await self._carry(claim)
            self._leases.drop(claim)
            self._supply.announce()

    async def _carry(self, claim: Claim) -> None:
        try:
            stored = await mirror_image(claim, self._ports)
            reach(Point.VERIFIED)
            self._leases.require(claim)
        except LeaseLost as error:
            logger.warning("%s", error)
        except ItemError as error:
            await self._failed(claim, error)
        except CollectorError:
            raise
        except Exception as error:  # A defect costs its item, with a dead letter, not the run.
            logger.exception("defect at %s", claim.wallhaven_id)
            await self._failed(claim, _defect(error))
        else:
            await self._stored(claim, stored)

    async def _stored(self, claim: Claim, stored: StoredObject) -> None:
        if not await committed(self._catalog.confirm(claim, stored)):
            return
        reach(Point.CONFIRMED)
        self._breakers.stored()
        self._tally.stored(stored, is_own=claim.is_own)
        self._progress.advance("images", 1, stored.size_bytes)

    async def _failed(self, claim: Claim, error: ItemError) -> None:
        self._breakers.note_retry_after(error)
        decision = decide(
            error.fault,
            error.code,
            claim.attempt,
            max_attempts=self._options.max_attempts,
            base_seconds=self._options.retry_base_seconds,
            jitter=self._chance.jitter(),
            retry_after_seconds=error.retry_after_seconds,
        )
        failure = ItemFailure.of(error, decision)
        if not await committed(self._catalog.fail(claim, failure)):
            return
        logger.info("%s not stored (try %d): %s", claim.wallhaven_id, claim.attempt, error)
        self._tally.failed(is_given_up=isinstance(decision, GiveUp))
        await self._breakers.failed(error, claim.url)
        if (too_many := self._tally.too_many_dead) is not None:
            # If an edge is down, its items are not to blame.
            await self._breakers.require_working()
            raise too_many

    def _report(self) -> StageReport:
        codes = sorted(self._breakers.codes.items())
        return StageReport(
            StageName.TRANSFER,
            self._tally.counts(),
            {
                "codes": {str(code): count for code, count in codes},
                "peak_body_bytes": self._ports.budget.peak_bytes,
                **self._tally.details(),
            },
        )


def _defect(error: Exception) -> ItemError:
    # The type alone: its text may hold anything.
    return ItemError(Code.INTERNAL_ERROR, type(error).__name__, fault=Fault.BUG)
