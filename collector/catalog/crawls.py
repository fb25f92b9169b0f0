"""Backfills: which list they read, in which run, and with which verdict."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
import asyncpg

from collector.catalog.database import Database, Session, retry_conflicts
from collector.catalog.runs import open_run
from collector.core.certificate import CrawlVerdict
from collector.core.errors import Edge, Outage
from collector.core.runs import Json, Run
from collector.flow import CLEANUP_SECONDS, task_group
from collector.logs import logger

# Another reader takes hours or has died: a second more does not matter.
LOOK_AGAIN_SECONDS = 1.0
# The connection that holds the lock is otherwise idle for hours. Firewalls, NAT and
# `idle_session_timeout` close one that is idle for some minutes.
KEEP_ALIVE_SECONDS = 10.0
# A healthy server answers in milliseconds.
KEEP_ALIVE_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class CrawlRange:
    """Pages `from_page` to `to_page` (None: the last one) of the list of a search."""

    search_key: str
    from_page: int = 1
    to_page: int | None = None


@dataclass(frozen=True, slots=True)
class KnownCrawl:
    """A crawl and the run that reads it; `verdict` None while it is open."""

    audit_id: int
    dag_id: str
    run_id: str
    verdict: CrawlVerdict | None
    has_unreadable_pages: bool = False

    @property
    def is_completable(self) -> bool:
        """True if reading its unreadable pages again may complete it."""
        return self.verdict is CrawlVerdict.INCOMPLETE and self.has_unreadable_pages


class Crawls:
    """Crawls, their verdicts, and the lock that only one reader of a crawl holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, wanted: CrawlRange) -> KnownCrawl | None:
        """Return the open crawl of these pages, else the newest one that has ended, else None."""
        async with self._database.session() as session:
            row = await session.first(
                "find_crawl", wanted.search_key, wanted.from_page, wanted.to_page
            )
            if row is None:
                return None
            unreadable = await session.first("unreadable_pages", row["audit_id"])
        return KnownCrawl(
            row["audit_id"],
            row["dag_id"],
            row["run_id"],
            CrawlVerdict(row["verdict"]) if row["verdict"] else None,
            has_unreadable_pages=unreadable is not None,
        )

    async def last(self, limit: int) -> list[dict[str, Json]]:
        """Return the newest backfills, newest first, ready to print or for JSON."""
        return [dict(row) for row in await self._database.fetch("last_crawls", limit)]

    @retry_conflicts
    async def begin(self, run: Run, wanted: CrawlRange, *, is_oldest_first: bool) -> int:
        """Begin or resume `run` as the reader of these pages; return its `audit_id`.

        If another process begins to read them at the same moment, returns the `audit_id` of its
        run. The run may attempt images of its earlier calls again, as often as a new run could. A
        crawl that unreadable pages left incomplete is reopened to read them again. Raises
        RunTrimmed if the run's details are trimmed.
        """
        try:
            async with self._database.transaction() as session:
                audit_id = await open_run(session, run)
                await session.execute(
                    "begin_crawl",
                    audit_id,
                    wanted.search_key,
                    wanted.from_page,
                    wanted.to_page,
                    is_oldest_first,
                )
                await session.execute("reopen_crawl", audit_id)
                await session.execute("renew_attempts", audit_id)
        except asyncpg.UniqueViolationError:
            known = await self.find(wanted)
            if known is None:
                raise
            return known.audit_id
        return audit_id

    @retry_conflicts
    async def end(self, audit_id: int, verdict: CrawlVerdict, joined_to: str | None = None) -> bool:
        """Note the verdict: the crawl is over.

        False if an image that the run attempted is neither stored nor given up: the crawl stays
        open. `joined_to`, if all of the list was seen, is the search key of the same list, newest
        first: runs of that search need not read what the crawl has read.
        """
        async with self._database.transaction() as session:
            if joined_to is not None:
                await session.execute("join_watermark", audit_id, joined_to)
            return await session.value("end_crawl", audit_id, verdict) is not None

    @asynccontextmanager
    async def reading(self, audit_id: int, stop: anyio.Event) -> AsyncIterator[None]:
        """Hold the lock of the crawl's only reader; wait for another reader, or until `stop`.

        Two readers at once would stage pages in another order than their answers came, and the
        ledger would prove something false. The lock ends with the process or the connection, which
        is kept alive meanwhile. If the connection is lost, the body is cancelled and Outage raised.
        """
        async with self._database.session() as session:
            is_logged = False
            while not await session.value("take_reading", audit_id):
                if stop.is_set():
                    break
                if not is_logged:
                    logger.info("another process reads this list; waiting until it ends")
                    is_logged = True
                with anyio.move_on_after(LOOK_AGAIN_SECONDS):
                    await stop.wait()
            async with _while_connected(session) as lost:
                try:
                    async with _kept_alive(session):
                        yield
                finally:
                    if not lost.is_set():
                        await _end_reading(session, audit_id)


@asynccontextmanager
async def _while_connected(session: Session) -> AsyncIterator[anyio.Event]:
    """If the connection ends, set the event, cancel the body and raise Outage."""
    connection, lost = session.connection, anyio.Event()
    with anyio.CancelScope() as scope:

        def lose(_: object) -> None:
            lost.set()
            scope.cancel()

        connection.add_termination_listener(lose)
        try:
            yield lost
        finally:
            # The pool drops a connection that is lost or terminated, with its listeners.
            with suppress(asyncpg.InterfaceError):
                connection.remove_termination_listener(lose)
    if lost.is_set():
        raise Outage(
            Edge.DATABASE,
            "the connection that held the lock of this list is lost: the pages read until now are"
            " kept. Run the backfill again to resume",
        )


@asynccontextmanager
async def _kept_alive(session: Session) -> AsyncIterator[None]:
    """Send a query every KEEP_ALIVE_SECONDS; terminate the connection if it is not answered."""
    over = anyio.Event()

    async def keep_alive() -> None:
        while not over.is_set():
            with anyio.move_on_after(KEEP_ALIVE_SECONDS):
                await over.wait()
                return
            await _require_answer(session)

    async with task_group() as tasks:
        tasks.start_soon(keep_alive)
        try:
            yield
        finally:
            over.set()


async def _require_answer(session: Session) -> None:
    try:
        with anyio.fail_after(KEEP_ALIVE_TIMEOUT_SECONDS):
            await session.value("keep_reading")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        session.connection.terminate()


async def _end_reading(session: Session, audit_id: int) -> None:
    # The lock ends with the process in any case.
    with anyio.move_on_after(CLEANUP_SECONDS, shield=True) as releasing:
        await session.execute("end_reading", audit_id)
    if releasing.cancelled_caught:
        # Back in the pool, the connection would still hold the lock.
        session.connection.terminate()
