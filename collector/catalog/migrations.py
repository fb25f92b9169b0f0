"""Bring the schema up to date: numbered files of `sql/`, each applied once, in order.

A file is a row of steps, each begun by a line that says what it does:

    -- step: TEXT          statements in a transaction of their own
    -- concurrently: TEXT  one statement outside of any transaction, such as an index that is built
                           while others read and write

What is slow shares no step with what locks a table, so others are kept waiting for moments. A step
may be repeated; the last one of a file records it in `schema_migrations`. A file without such lines
is one step.

A file that only adds may record in `compatible_from` the oldest version whose programs can go on
with the database (`require_schema`): then workers are rolled one by one. A file that records
nothing lets no older program in. That works from version 11 on, which made the column: programs
before it refuse every newer schema.
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
from collector.logs import logger

# Whoever comes while we wait for a lock waits behind us, readers too: so not for long, and again
# after a pause in which they pass.
LOCK_WAIT_SECONDS = 0.25
LOCK_PAUSE_SECONDS = 1.0
# Another migration takes seconds or minutes.
LOOK_AGAIN_SECONDS = 0.5
# After a signal there are 4 s in all; with its session the lock ends in any case.
RELEASE_SECONDS = 1.0
# A step takes as long as its table is large.
NO_LIMIT_SECONDS = math.inf

_STEP = re.compile(r"^-- (step|concurrently): (.+)\n", re.MULTILINE)
_COMMENT = re.compile(r"^--.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file, such as `001_create_tables.sql`; it records itself."""

    version: int
    path: Path

    def steps(self) -> list[Step]:
        """Return its steps in order; what stands before the first line of a step is one, too."""
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
    """Statements that are carried out together, or one that no transaction may hold."""

    file: str
    what: str
    sql: str
    in_transaction: bool = True


@dataclass(frozen=True, slots=True)
class Applied:
    """A version that the database has, and the oldest one whose programs may use it, or None."""

    version: int
    compatible_from: int | None


def known_migrations(folder: Path | None = None) -> list[Migration]:
    """Return the migrations that this version of the collector carries, in order."""
    found = sorted((folder or sql_folder()).glob("[0-9][0-9][0-9]_*.sql"))
    return [Migration(int(path.name[:3]), path) for path in found]


async def applied_versions(session: Session) -> list[int]:
    """Return the versions that the database has, [] where it has no schema of ours."""
    return [applied.version for applied in await _applied(session)]


async def migrate(session: Session, folder: Path | None = None) -> list[str]:
    """Apply what is missing, step by step, and return the names of the applied files.

    Safe to repeat and to run twice at once: a lock lets one through, the other finds nothing to
    do. On failure or cancellation the steps that were done stay done, and the next call goes on
    from there. No step has a limit of time. No lock that stops others is waited for longer than
    LOCK_WAIT_SECONDS at once; who holds it up is logged.
    """
    if not await _missing(session, folder):
        return []
    async with _alone(session):
        missing = await _missing(session, folder)
        for migration in missing:
            for step in migration.steps():
                await _carry_out(session, step)
    return [migration.path.name for migration in missing]


async def require_schema(session: Session) -> None:
    """Raise SchemaMissing, SchemaTooNew unless this program can use the database's schema.

    It can where all is applied that it knows, and what it does not know declares itself compatible
    with it.
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
    """Be the only session that migrates, without limits of time; the session is as before then."""
    is_told = False
    while not await session.value("lock_migrations"):
        if not is_told and (other := await session.first("migrating_session")):
            logger.info("migrate: waits for another migration, by session %d (%s)", *other)
            is_told = True
        await anyio.sleep(LOOK_AGAIN_SECONDS)
    try:
        await session.execute("allow_long_statements")
        yield
    finally:
        if not session.connection.is_closed():
            await _release(session)


async def _release(session: Session) -> None:
    with anyio.move_on_after(RELEASE_SECONDS, shield=True) as releasing:
        await session.execute("restore_limits")
        await session.execute("unlock_migrations")
    if releasing.cancelled_caught:
        # Lent to the next one, it would hold the lock still.
        session.connection.terminate()


async def _carry_out(session: Session, step: Step) -> None:
    logger.debug("migrate: %s: %s", step.file, step.what)
    if step.in_transaction:
        await _until_locked(session, step, step.sql)
        return
    await _until_locked(session, step, load_queries()["drop_broken_indexes"])
    await _say_who_is_in_the_way(session, step)
    await session.connection.execute(step.sql, timeout=NO_LIMIT_SECONDS)


async def _until_locked(session: Session, step: Step, sql: str) -> None:
    """Run statements in a transaction, again and again until it has had all its locks."""
    is_told = False
    while True:
        try:
            await _in_transaction(session, sql)
        except asyncpg.LockNotAvailableError:
            if not is_told:
                await _say_who_is_in_the_way(session, step)
                is_told = True
            await anyio.sleep(LOCK_PAUSE_SECONDS)
        else:
            return


@retry_conflicts
async def _in_transaction(session: Session, sql: str) -> None:
    async with session.connection.transaction():
        await session.execute("wait_briefly", round(1000 * LOCK_WAIT_SECONDS))
        await session.connection.execute(sql, timeout=NO_LIMIT_SECONDS)


async def _say_who_is_in_the_way(session: Session, step: Step) -> None:
    others = await session.fetch("sessions_in_the_way", LOCK_WAIT_SECONDS)
    if others:
        named = ", ".join(
            f"{pid} ({program}, {state} for {seconds} s)" for pid, program, state, seconds in others
        )
        logger.info("migrate: %s, %s: waits for session %s", step.file, step.what, named)
