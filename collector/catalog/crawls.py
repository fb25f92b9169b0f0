"""Backfills: which list, which run reads it, and the verdict."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import asyncpg

from collector.catalog.database import Database, Session, retry_conflicts
from collector.catalog.runs import open_run
from collector.core.certificate import CrawlVerdict
from collector.core.errors import Edge, Outage
from collector.core.runs import Json, Run
from collector.flow import task_group
from collector.logs import logger

# Who reads takes hours, or has died: another second does not count.
LOOK_AGAIN_SECONDS = 1.0
# A clean exit after SIGTERM has 4 s in all; the lock ends with the process in any case.
RELEASE_SECONDS = 1.0
# The connection that holds the lock has nothing else to do for hours. Firewalls, translators of
# addresses and `idle_session_timeout` end one that is silent for some minutes.
KEEP_ALIVE_SECONDS = 10.0
# A server that is there answers in milliseconds.
KEEP_ALIVE_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class CrawlRange:
    """Pages `from_page` to `to_page` (None: to the end) of the list of a search."""

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
    def is_mendable(self) -> bool:
        """True where reading the pages that could not be read may make it whole."""
        return self.verdict is CrawlVerdict.INCOMPLETE and self.has_unreadable_pages


class Crawls:
    """What the database knows of crawls."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, wanted: CrawlRange) -> KnownCrawl | None:
        """Return the open crawl of these pages, or the newest that has ended, or None."""
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
        """Return the newest backfills, newest first, ready for people or JSON."""
        return [dict(row) for row in await self._database.fetch("last_crawls", limit)]

    @retry_conflicts
    async def begin(self, run: Run, wanted: CrawlRange, *, is_oldest_first: bool) -> int:
        """Begin `run` as the one that reads these pages, or go on with it; return its key.

        Raises RunTrimmed where the run's details are trimmed.

        Where another process has begun to read them at the same moment, its run is gone on with.
        Images that earlier calls tried may be tried again, as often as by a new run; so may pages
        that could not be read and have left the crawl incomplete, which is open again then.
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

        False where an image that the run tried is neither stored nor given up: it stays open.
        `joined_to` is the search key of the same list, newest first, where all of it was seen: runs
        of that search need not read behind it.
        """
        async with self._database.transaction() as session:
            if joined_to is not None:
                await session.execute("join_watermark", audit_id, joined_to)
            return await session.value("end_crawl", audit_id, verdict) is not None

    @asynccontextmanager
    async def reading(self, audit_id: int, stop: anyio.Event) -> AsyncIterator[None]:
        """Be the only process that reads the crawl; wait while another one is, or until `stop`.

        Two at once would stage pages in an order that is not that of their answers, and the ledger
        would prove what nobody has seen. The right ends with its process or its connection, which
        is kept alive meanwhile: where that is lost, what is done with it is cancelled, and Outage
        raised.
        """
        async with self._database.session() as session:
            is_told = False
            while not await session.value("take_reading", audit_id):
                if stop.is_set():
                    break
                if not is_told:
                    logger.info("another process reads this list; waiting for its end")
                    is_told = True
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
    """Cancel what is done meanwhile when the connection ends, set the event, and raise Outage."""
    connection, lost = session.connection, anyio.Event()
    with anyio.CancelScope() as scope:

        def lose(_: object) -> None:
            lost.set()
            scope.cancel()

        connection.add_termination_listener(lose)
        try:
            yield lost
        finally:
            # One that is lost has been taken from us already, with its listeners.
            if not lost.is_set():
                connection.remove_termination_listener(lose)
    if lost.is_set():
        raise Outage(Edge.DATABASE, "the connection that held the right to read the list is lost")


@asynccontextmanager
async def _kept_alive(session: Session) -> AsyncIterator[None]:
    """Ask something now and then; a connection without an answer is ended."""
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
    with anyio.move_on_after(RELEASE_SECONDS, shield=True) as releasing:
        await session.execute("end_reading", audit_id)
    if releasing.cancelled_caught:
        # Lent to the next one, it would hold the right still.
        session.connection.terminate()
