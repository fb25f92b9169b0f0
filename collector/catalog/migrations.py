"""Bring the schema up to date: numbered files of `sql/`, each applied once, in order.

A file is a sequence of steps, each begun by a line that describes it:

    -- step: TEXT          statements in a transaction of their own
    -- concurrently: TEXT  one statement outside any transaction, such as an index that is built
                           while others read and write

Slow statements and statements that lock a table are in different steps, so others wait only
briefly. A step may be repeated; the last one of a file records it in `schema_migrations`. A file
without such lines is one step.

A file that only adds may record in `compatible_from` the oldest version whose programs can still
use the database (`require_schema`), so that workers can be upgraded one by one. If a file records
nothing, no older program may use the database. This works since version 11, which added the column:
older programs refuse every newer schema.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import asyncpg

from collector.catalog.database import Session, retry_conflicts
from collector.catalog.queries import load_queries, sql_folder
from collector.core.errors import SchemaMissing, SchemaTooNew
from collector.flow import CLEANUP_SECONDS
from collector.logs import logger

# While a migration waits for a lock, all later sessions queue behind it, readers too. So it waits
# only briefly, and tries again after a pause that lets them through.
LOCK_WAIT_SECONDS = 0.25
LOCK_PAUSE_SECONDS = 1.0
# Another migration takes seconds or minutes.
LOOK_AGAIN_SECONDS = 0.5
# How long a step takes depends on the size of its table.
NO_LIMIT_SECONDS = math.inf

_STEP = re.compile(r"^-- (step|concurrently): (.+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^--.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file, such as `001_create_tables.sql`; it records itself."""

    version: int
    path: Path

    def steps(self) -> list[Step]:
        """Return its steps in order; statements before the first step line are a step, too."""
        head, *parts = _STEP.split(self.path.read_text(encoding="utf-8"))
        named = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        steps = [("step", "beginning", head), *named]
        return [
            Step(self.path.name, what, sql, kind == "step")
            for kind, what, sql in steps
            if _COMMENT.sub("", sql).strip()
        ]


@dataclass(frozen=True, slots=True)
class Step:
    """Statements of one transaction, or one statement that must run outside any."""

    file: str
    what: str
    sql: str
    in_transaction: bool = True


@dataclass(frozen=True, slots=True)
class Applied:
    """An applied version, and the oldest one whose programs may use the database, or None."""

    version: int
    compatible_from: int | None


def known_migrations(folder: Path | None = None) -> list[Migration]:
    """Return the migrations that this version of the collector carries, in order."""
    found = sorted((folder or sql_folder()).glob("[0-9][0-9][0-9]_*.sql"))
    return [Migration(int(path.name[:3]), path) for path in found]


async def applied_versions(session: Session) -> list[int]:
    """Return the applied versions, [] without a `draenei_content` schema."""
    return [applied.version for applied in await _applied(session)]


async def migrate(session: Session, folder: Path | None = None) -> list[str]:
    """Apply the missing files, step by step, and return their names.

    Safe to repeat and to run twice at once: a lock lets one through, the other finds nothing to
    do. On failure or cancellation, completed steps stay, and the next call continues after them.
    Steps have no time limit. A lock that blocks others is waited for at most LOCK_WAIT_SECONDS at
    a time; sessions that hold it are logged.
    """
    if not await _missing(session, folder):
        return []
    async with _alone(session):
        missing = await _missing(session, folder)
        for migration in missing:
            for step in migration.steps():
                await _run_step(session, step)
    return [migration.path.name for migration in missing]


async def require_schema(session: Session) -> None:
    """Raise SchemaMissing, SchemaTooNew unless this program can use the database's schema.

    It can if all versions that it knows are applied, and all others that are applied declare
    themselves compatible with it.
    """
    applied = await _applied(session)
    known = [migration.version for migration in known_migrations()]
    if not applied:
        raise SchemaMissing("the database has no draenei_content schema")
    newer = [each for each in applied if each.version not in known]
    if not all(each.compatible_from and each.compatible_from <= known[-1] for each in newer):
        raise SchemaTooNew(applied[-1].version, known[-1])
    if missing := sorted(set(known) - {each.version for each in applied}):
        newest = applied[-1].version
        older = missing[0] > newest
        state = f"is at version {newest}, not {known[-1]}" if older else f"lacks {missing[0]}"
        raise SchemaMissing(f"the schema {state}")


async def _applied(session: Session) -> list[Applied]:
    if not await session.value("has_migrations"):
        return []
    return [Applied(*row) for row in await session.fetch("applied_migrations")]


async def _missing(session: Session, folder: Path | None) -> list[Migration]:
    applied = await applied_versions(session)
    return [each for each in known_migrations(folder) if each.version not in applied]


@asynccontextmanager
async def _alone(session: Session) -> AsyncIterator[None]:
    """Hold the migration lock, without time limits; restores the session's limits at the end."""
    is_logged = False
    while not await session.value("lock_migrations"):
        if not is_logged and (other := await session.first("migrating_session")):
            logger.info("migrate: waits for another migration, by session %d (%s)", *other)
            is_logged = True
        await anyio.sleep(LOOK_AGAIN_SECONDS)
    try:
        await session.execute("allow_long_statements")
        yield
    finally:
        if not session.connection.is_closed():
            await _release(session)


async def _release(session: Session) -> None:
    # The lock ends with its session in any case.
    with anyio.move_on_after(CLEANUP_SECONDS, shield=True) as releasing:
        await session.execute("restore_limits")
        await session.execute("unlock_migrations")
    if releasing.cancelled_caught:
        # Back in the pool, the connection would still hold the lock.
        session.connection.terminate()


async def _run_step(session: Session, step: Step) -> None:
    logger.debug("migrate: %s: %s", step.file, step.what)
    if step.in_transaction:
        await _until_locked(session, step, step.sql)
        return
    await _until_locked(session, step, load_queries()["drop_broken_indexes"])
    await _log_blockers(session, step)
    await session.connection.execute(step.sql, timeout=NO_LIMIT_SECONDS)


async def _until_locked(session: Session, step: Step, sql: str) -> None:
    """Run statements in a transaction, again and again until it gets all its locks."""
    is_logged = False
    while True:
        try:
            await _in_transaction(session, sql)
        except asyncpg.LockNotAvailableError:
            if not is_logged:
                await _log_blockers(session, step)
                is_logged = True
            await anyio.sleep(LOCK_PAUSE_SECONDS)
        else:
            return


@retry_conflicts
async def _in_transaction(session: Session, sql: str) -> None:
    async with session.connection.transaction():
        await session.execute("wait_briefly", round(1000 * LOCK_WAIT_SECONDS))
        await session.connection.execute(sql, timeout=NO_LIMIT_SECONDS)


async def _log_blockers(session: Session, step: Step) -> None:
    others = await session.fetch("blocking_sessions", LOCK_WAIT_SECONDS)
    if others:
        named = ", ".join(
            f"{pid} ({program}, {state} for {seconds} s)" for pid, program, state, seconds in others
        )
        logger.info("migrate: %s, %s: waits for session %s", step.file, step.what, named)
