"""Transfer: store the images of the backlog, several at a time."""

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

# Images that are due later than this are left to the next run. With a supply there is no next run,
# so the transfer also waits for the claims of a dead process to lapse.
LONGEST_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """Bounds of one transfer.

    The run stores at most `limit` images (0: no limit), `stored_before` of them before this
    transfer. With `only`, images that the run's own pages do not list are left alone. With
    `reads_back`, for a store that does not verify checksums, each object is read back before it
    counts as stored.
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

    With a `supply`, images may become due meanwhile: until it is over, the transfer waits for them,
    and then for images that other workers hold, or held when they died.

    At most `in_flight` images are in transfer at once, within the byte budget. Several workers of a
    run may do this at once. They share the limit: a worker that finds it used up by the claims of
    others leaves the rest to them. Images that the run's own pages list go first.

    One item's failure never stops the others. Raises Outage if an edge is down, SettingsError if
    WALLHAVEN_IMAGE_HOSTS lacks the host of most images: attempts lost to that are refunded, and
    their dead letters removed. Raises TooManyDead if too many images are given up: these dead
    letters stay. With a limit, a worker ends after some failed attempts, and the report says so
    (`core/tally.py` has both bounds). On any failure or cancellation, claims are released with
    their attempts refunded, as long as the database answers.
    """
    leases = Leases(catalog, options.lease_seconds, chance.clock)
    ports = MirrorPorts(
        http=http,
        store=store,
        budget=ByteBudget(options.memory_bytes),
        require_lease=leases.require,
        journal_upload=catalog.journal_upload,
        max_image_bytes=options.max_image_bytes,
        clock=chance.clock,
        reads_back=options.reads_back,
    )
    work = _Transfer(
        audit_id=audit_id,
        catalog=catalog,
        options=options,
        chance=chance,
        progress=progress,
        supply=supply or Supply(is_over=True),
        awaits_others=supply is not None,
        leases=leases,
        ports=ports,
        breakers=Breakers(http, store, catalog.known_good, chance.clock, LONGEST_WAIT_SECONDS),
        tally=Tally(
            limit=options.limit,
            stored_before=options.stored_before,
            max_dead_percent=options.max_dead_percent,
        ),
        in_flight=anyio.Semaphore(options.in_flight),
    )
    return await work.run()


@dataclass
class _Transfer:
    audit_id: int
    catalog: Transfers
    options: TransferOptions
    chance: Chance
    progress: Progress
    # Announces images that have become due, and each image that is done.
    supply: Supply
    awaits_others: bool
    leases: Leases
    ports: MirrorPorts
    breakers: Breakers
    tally: Tally
    # Bounds a transfer together with the byte budget: tasks and memory.
    in_flight: anyio.Semaphore

    async def run(self) -> StageReport:
        try:
            await self._run()
        except (SettingsError, Outage) as error:
            edge = error.edge if isinstance(error, Outage) else Edge.DOWNLOAD
            # Only after all attempts of this worker have ended: one that ends later would count.
            if codes := self.breakers.suspect_codes(edge):
                await self.catalog.refund_outage(self.audit_id, codes)
            raise
        return self._report()

    async def _run(self) -> None:
        await self.catalog.enlist()
        if self.supply.is_over:
            # With a supply, images are marked as their pages come.
            await self.catalog.mark_listed(self.audit_id)
        self._plan(await self.catalog.due_images(self.audit_id))
        async with self.leases.held(), task_group() as tasks:
            tasks.start_soon(self.leases.beat)
            await self._work()
            tasks.cancel_scope.cancel()
        self.progress.finish("images")
        await self.breakers.require_working()

    def _plan(self, due: DueImages) -> None:
        others = "others are left alone" if self.options.only else "others of the backlog"
        logger.info(
            "transfer: %d images of this run's pages, then %d %s", due.own, due.others, others
        )
        wanted = due.own if self.options.only else due.own + due.others
        planned = min(wanted, self.options.limit or wanted)
        self.progress.start("images", planned)
        known = planned if self.supply.is_over else None
        self.tally.plan(known, tried_before=due.tried)

    async def _work(self) -> None:
        """Claim due images, a batch at a time, while the run may store more; one task per image."""
        async with task_group() as images:
            while True:
                seen = self.supply.version
                batch = await self._claim()
                for claim in batch:
                    images.start_soon(self._mirror_claimed, claim)
                if not batch and not await self._wait_for_work(seen):
                    return

    async def _claim(self) -> list[Claim]:
        options, spare = self.options, self.tally.spare_attempts
        max_items = options.in_flight if spare is None else min(options.in_flight, spare)
        free = max_items - self.leases.count
        if free <= 0:
            return []
        asked_at = self.chance.clock()
        batch = await committed(
            self.catalog.claim(self.audit_id, free, options.limit, only=options.only)
        )
        if batch:
            reach(Point.CLAIMED)
        for claim in batch:
            self.leases.add(claim, asked_at)
        return batch

    async def _wait_for_work(self, seen: int) -> bool:
        """Wait until something may have become due; False if nothing will be in time.

        `seen` is the supply's version before the last claim.
        """
        if self.leases.count:
            await self.supply.after(seen)
            return True
        if self.tally.is_limit_reached or self.tally.are_attempts_used_up:
            return False
        if self.supply.version != seen:
            return True
        due_seconds = await self.catalog.next_due_seconds(
            self.audit_id,
            self.options.limit,
            only=self.options.only,
            awaits_others=self.awaits_others,
        )
        if self.supply.is_over:
            if due_seconds is None or due_seconds > self._longest_wait_seconds:
                return False
            # Other workers may be done sooner.
            await anyio.sleep(min(due_seconds, LONGEST_WAIT_SECONDS))
            return True
        with anyio.move_on_after(due_seconds):
            await self.supply.after(seen)
        return True

    @property
    def _longest_wait_seconds(self) -> float:
        if not self.awaits_others:
            return LONGEST_WAIT_SECONDS
        return max(LONGEST_WAIT_SECONDS, self.options.lease_seconds)

    async def _mirror_claimed(self, claim: Claim) -> None:
        # Waits only after a lost lease: no more is claimed than can start, since a waiting claim
        # would cost its item an attempt if the process died.
        async with self.in_flight:
            with anyio.CancelScope() as scope:
                self.leases.watch(claim, scope)
                await self.breakers.pause()
                await self._mirror(claim)
            self.leases.drop(claim)
            self.supply.announce()

    async def _mirror(self, claim: Claim) -> None:
        try:
            stored = await mirror_image(claim, self.ports)
            reach(Point.VERIFIED)
            self.leases.require(claim)
        except LeaseLost as error:
            logger.warning("%s", error)
        except ItemError as error:
            await self._failed(claim, error)
        except CollectorError:
            raise
        except Exception as error:  # A defect costs the item an attempt, not the run.
            logger.exception("defect of the collector at %s", claim.wallhaven_id)
            # The type alone: the text may hold anything.
            defect = ItemError(Code.INTERNAL_ERROR, type(error).__name__, fault=Fault.BUG)
            await self._failed(claim, defect)
        else:
            await self._stored(claim, stored)

    async def _stored(self, claim: Claim, stored: StoredObject) -> None:
        if not await committed(self.catalog.confirm(claim, stored)):
            return
        reach(Point.CONFIRMED)
        self.breakers.stored()
        self.tally.stored(stored, is_own=claim.is_own)
        self.progress.advance("images", 1, stored.size_bytes)

    async def _failed(self, claim: Claim, error: ItemError) -> None:
        self.breakers.note_retry_after(error)
        decision = decide(
            error.fault,
            error.code,
            claim.attempt,
            max_attempts=self.options.max_attempts,
            base_seconds=self.options.retry_base_seconds,
            jitter=self.chance.jitter(),
            retry_after_seconds=error.retry_after_seconds,
        )
        failure = ItemFailure.of(error, decision)
        if not await committed(self.catalog.fail(claim, failure)):
            return
        logger.info("%s not stored (attempt %d): %s", claim.wallhaven_id, claim.attempt, error)
        self.tally.failed(is_given_up=isinstance(decision, GiveUp))
        await self.breakers.failed(error, claim.url)
        if (too_many := self.tally.too_many_dead) is not None:
            # If an edge is down, that is not the items' fault.
            await self.breakers.require_working()
            raise too_many

    def _report(self) -> StageReport:
        codes = sorted(self.breakers.codes.items())
        return StageReport(
            StageName.TRANSFER,
            self.tally.counts(),
            {
                "codes": {str(code): count for code, count in codes},
                "peak_body_bytes": self.ports.budget.peak_bytes,
                **self.tally.details(),
            },
        )
