"""Migrations of large tables: others go on reading, and whoever is waited for is named."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import asyncpg
import pytest
from original import DEFINITIONS, ORIGINAL

from collector.catalog import Database, migrations, open_database
from collector.catalog import database as pool
from collector.catalog.migrations import Migration, Step, known_migrations, migrate

# They have a row or a few for each run: ten thousand runs are rewritten in a moment.
SMALL = {"run_audit", "run_stages", "run_loads", "searches", "crawls", "schema_migrations"}

# Rows of the tables that are large in the field, made as soon as the first file has made these.
ROWS = """
INSERT INTO draenei_content.run_loads (audit_id) VALUES (1);
INSERT INTO draenei_content.staged_pages
    (audit_id, page, search_key, ids, items, invalid, known, last_page, total, load_id)
SELECT 1, n, 'q', '{}', 0, 0, 0, 9, 9, 1 FROM generate_series(1, 9) AS n;
INSERT INTO draenei_content.staged_wallpapers (audit_id, page, position)
SELECT 1, n, 1 FROM generate_series(1, 9) AS n;
INSERT INTO draenei_content.run_items (audit_id, wallpaper_id, outcome)
SELECT 1, id, 'uploaded' FROM draenei_content.wallpapers;
INSERT INTO draenei_content.wallpaper_counters (wallpaper_id)
SELECT id FROM draenei_content.wallpapers;
INSERT INTO draenei_content.dead_letters (stage, item, code, reason, run_id)
SELECT 'load', n, 'bad_id', '', 'r' FROM generate_series(1, 9) AS n;
"""

LOCKED_OUT = """
SELECT c.relname
FROM pg_locks AS l
INNER JOIN pg_class AS c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.mode = 'AccessExclusiveLock' AND c.relkind = 'r'
    AND c.relnamespace = 'draenei_content'::regnamespace
"""
ROWS_READ = """
SELECT relname, seq_tup_read FROM pg_stat_xact_user_tables WHERE schemaname = 'draenei_content'
"""


async def rows_read(connection: asyncpg.Connection[asyncpg.Record]) -> Counter[str]:
    return Counter(dict(map(tuple, await connection.fetch(ROWS_READ))))


async def read_behind_closed_doors(
    connection: asyncpg.Connection[asyncpg.Record], step: Step
) -> set[str]:
    """Carry a step out; return tables that it read from end to end while it locked readers out."""
    if not step.in_transaction:
        await connection.execute(step.sql)
        return set()
    async with connection.transaction():
        before = await rows_read(connection)
        await connection.execute(step.sql)
        scanned = await rows_read(connection) - before
        locked = {row["relname"] for row in await connection.fetch(LOCKED_OUT)}
    return (scanned.keys() & locked) - SMALL


@pytest.mark.case("PG-25")
async def test_no_step_that_locks_readers_out_reads_a_large_table(empty_dsn: str) -> None:
    connection = await asyncpg.connect(empty_dsn)
    try:
        await connection.execute(ORIGINAL)
        for migration in known_migrations():
            for step in migration.steps():
                assert await read_behind_closed_doors(connection, step) == set(), step
            if migration.version == 1:
                await connection.execute(ROWS)
    finally:
        await connection.close()


def test_only_what_needs_no_transaction_has_none() -> None:
    steps = [step for migration in known_migrations() for step in migration.steps()]
    assert all(("CONCURRENTLY" in step.sql) is not step.in_transaction for step in steps)


@asynccontextmanager
async def reading(dsn: str) -> AsyncIterator[int]:
    """Be a backup that has read the wallpapers and is not done; yields its process id."""
    connection = await asyncpg.connect(dsn, server_settings={"application_name": "backup"})
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM draenei_content.wallpapers LIMIT 1")
            yield connection.get_server_pid()
    finally:
        await connection.close()


@pytest.mark.case("PG-25")
async def test_who_is_waited_for_is_named_and_readers_are_not_held_up(
    empty_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A reader that comes behind a migration that waits for its lock would wait as long as that."""
    caplog.set_level(logging.INFO)
    async with open_database(empty_dsn) as database, database.session() as reader:
        await reader.connection.execute(ORIGINAL)
        async with anyio.create_task_group() as tasks, reading(empty_dsn) as pid:
            tasks.start_soon(migrated, database)
            with anyio.fail_after(30):
                while f"waits for session {pid} (backup, idle in transaction" not in caplog.text:
                    rows = await reader.connection.fetch("SELECT * FROM draenei_content.wallpapers")
                    assert len(rows) == 3
                    await asyncio.sleep(0.01)
            # It is done: the migration goes on by itself.
        (waits,) = [
            record for record in caplog.records if f"session {pid} (" in record.getMessage()
        ]
        assert "001_create_tables.sql" in waits.getMessage()
        assert await migrated(database) == []


async def migrated(database: Database) -> list[str]:
    async with database.session() as session:
        return await migrate(session)


async def test_of_two_migrations_at_once_one_does_the_work(
    empty_dsn: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(migrations, "LOOK_AGAIN_SECONDS", 0.01)
    async with open_database(empty_dsn) as database:
        done = await asyncio.gather(*(migrated(database) for _ in range(3)))
        assert sorted(map(len, done)) == [0, 0, len(known_migrations())]
        assert await migrated(database) == []
    assert "waits for another migration, by session" in caplog.text


def migration(folder: Path, sql: str) -> Migration:
    path = folder / "901_later.sql"
    path.write_text(sql)
    return Migration(901, path)


RECORD = "INSERT INTO draenei_content.schema_migrations (version, name) VALUES (901, 'later');"


def test_a_file_without_steps_is_one_and_comments_are_none(tmp_path: Path) -> None:
    assert [step.sql for step in migration(tmp_path, "-- All.\nSELECT 1;\n").steps()] == [
        "-- All.\nSELECT 1;\n"
    ]
    text = "-- All.\n\n-- step: one\nSELECT 1;\n-- concurrently: two\n-- Why.\nSELECT 2;\n"
    found = [(step.what, step.in_transaction) for step in migration(tmp_path, text).steps()]
    assert found == [("one", True), ("two", False)]


@pytest.mark.case("PG-25")
async def test_no_limit_of_time_ends_a_step(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the pool's nor one of the database; for the session they hold again afterwards."""
    monkeypatch.setattr(pool, "STATEMENT_TIMEOUT_SECONDS", 0.2)
    admin = await asyncpg.connect(dsn)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} SET statement_timeout = '200ms'")
    await admin.close()
    slow = "SELECT pg_sleep(0.6);"
    migration(
        tmp_path, f"-- step: slow\n{slow}\n-- concurrently: slow\n{slow}\n-- step: it\n{RECORD}"
    )
    async with open_database(dsn) as database, database.session() as session:
        assert await migrate(session, tmp_path) == ["901_later.sql"]
        assert await session.connection.fetchval("SHOW statement_timeout") == "200ms"
        assert await session.connection.fetchval("SHOW lock_timeout") == "0"


@pytest.mark.case("PG-25")
async def test_a_migration_that_breaks_off_goes_on_where_it_was(
    database: Database, tmp_path: Path
) -> None:
    made = "CREATE TABLE draenei_content.made ();"
    migration(
        tmp_path, f"-- step: one\n{made}\n-- step: two\nSELECT 1 / 0;\n-- step: three\n{RECORD}"
    )
    async with database.session() as session:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(session, tmp_path)
        await session.connection.execute("SELECT FROM draenei_content.made")
    migration(tmp_path, f"-- step: one\n{made.replace('TABLE', 'TABLE IF NOT EXISTS')}\n{RECORD}")
    async with database.session() as session:
        assert await migrate(session, tmp_path) == ["901_later.sql"]


async def test_an_index_that_was_left_half_built_is_built_anew(database: Database) -> None:
    async with database.session() as session:
        connection = session.connection
        before = await connection.fetch(DEFINITIONS)
        await connection.execute(
            "INSERT INTO draenei_content.wallpapers (wallhaven_id, url)"
            " VALUES ('a', 'u'), ('b', 'u');"
            " DROP INDEX draenei_content.ix_wallpapers_s3_key"
        )
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.execute(
                "CREATE UNIQUE INDEX CONCURRENTLY ix_wallpapers_s3_key"
                " ON draenei_content.wallpapers (url)"
            )
        await connection.execute("DELETE FROM draenei_content.schema_migrations WHERE version = 8")
        assert await migrate(session) == ["008_quarantine.sql"]
        assert await connection.fetch(DEFINITIONS) == before
        broken = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        assert await connection.fetchval(broken) == 0
