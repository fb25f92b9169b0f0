"""Bring the schema up to date: numbered files of `sql/`, each applied once, in order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from collector.adapters.postgres.database import Session, retry_conflicts
from collector.adapters.sql import sql_folder
from collector.core.errors import SchemaMissing, SchemaTooNew


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file, such as `001_create_tables.sql`; it records itself."""

    version: int
    path: Path


def known_migrations(folder: Path | None = None) -> list[Migration]:
    """Return the migrations that this version of the collector carries, in order."""
    found = sorted((folder or sql_folder()).glob("[0-9][0-9][0-9]_*.sql"))
    return [Migration(int(path.name[:3]), path) for path in found]


async def applied_versions(session: Session) -> list[int]:
    """Return the versions that the database has, [] where it has no schema of ours."""
    if not await session.value("has_migrations"):
        return []
    return [row["version"] for row in await session.fetch("applied_migrations")]


@retry_conflicts
async def migrate(session: Session) -> list[str]:
    """Apply what is missing in one transaction and return the names of the applied files.

    Safe to repeat and to run twice at once: a lock lets one through, the other finds nothing to
    do. On failure or cancellation the schema is as it was.
    """
    async with session.connection.transaction():
        await session.execute("lock_migrations")
        applied = await applied_versions(session)
        missing = [m for m in known_migrations() if m.version not in applied]
        for migration in missing:
            await session.connection.execute(migration.path.read_text(encoding="utf-8"))
    return [migration.path.name for migration in missing]


async def require_schema(session: Session) -> None:
    """Raise SchemaMissing, SchemaTooNew unless the database is at exactly this version's schema."""
    applied = await applied_versions(session)
    known = [migration.version for migration in known_migrations()]
    if not applied:
        raise SchemaMissing("the database has no draenei_content schema")
    if newer := sorted(set(applied) - set(known)):
        raise SchemaTooNew(newer[-1], known[-1])
    if missing := sorted(set(known) - set(applied)):
        older = missing[0] > applied[-1]
        state = f"is at version {applied[-1]}, not {known[-1]}" if older else f"lacks {missing[0]}"
        raise SchemaMissing(f"the schema {state}")
