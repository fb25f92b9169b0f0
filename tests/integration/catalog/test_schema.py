"""The schema: made once, repeatable, and the original's brought up to date without loss."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest
from original import DEFINITIONS, ORIGINAL

from collector.catalog import Database, open_database
from collector.catalog.migrations import known_migrations, migrate, require_schema
from collector.catalog.queries import load_queries, sql_folder
from collector.core.errors import SchemaMissing, SchemaTooNew

# Word for word from the first README.
FIRST_README = """
SELECT
  dag_id,
  run_id,
  metadata_inserted,
  metadata_updated,
  images_uploaded,
  download_failures,
  upload_failures,
  missing_s3_after_run,
  duration_seconds,
  ended_at
FROM draenei_content.run_audit
ORDER BY ended_at DESC
LIMIT 5;
"""


async def _definitions(dsn: str) -> list[asyncpg.Record]:
    async with open_database(dsn) as database, database.session() as session:
        return await session.connection.fetch(DEFINITIONS)


async def test_migrations_applied_twice_change_nothing(empty_dsn: str) -> None:
    async with open_database(empty_dsn) as database, database.session() as session:
        assert await migrate(session) == [m.path.name for m in known_migrations()]
        before = await session.connection.fetch(DEFINITIONS)
        assert await migrate(session) == []
        assert await session.connection.fetch(DEFINITIONS) == before


async def test_every_file_is_idempotent_by_itself(dsn: str) -> None:
    before = await _definitions(dsn)
    async with open_database(dsn) as database, database.session() as session:
        for migration in known_migrations():
            for step in migration.steps():
                await session.connection.execute(step.sql)
    assert await _definitions(dsn) == before


async def test_the_original_schema_is_upgraded_without_losing_a_row(
    empty_dsn: str, dsn: str
) -> None:
    async with open_database(empty_dsn) as database, database.session() as session:
        connection = session.connection
        await connection.execute(ORIGINAL)
        wallpapers = await connection.fetch("SELECT * FROM draenei_content.wallpapers")
        audits = await connection.fetch("SELECT * FROM draenei_content.run_audit")

        await migrate(session)

        for row in wallpapers:
            found = await connection.fetchrow(
                "SELECT * FROM draenei_content.wallpapers WHERE id = $1", row["id"]
            )
            assert found is not None
            assert dict(row).items() <= dict(found).items()
        (audit,) = await connection.fetch("SELECT * FROM draenei_content.run_audit")
        assert dict(audits[0]).items() <= dict(audit).items()
        assert audit["status"] == "succeeded"
        pending = await connection.fetch("SELECT wallpaper_id FROM draenei_content.transfers")
        assert [row["wallpaper_id"] for row in pending] == [3]
        await connection.execute(
            "UPDATE draenei_content.wallpapers SET updated_at = now()"
        )  # its odd keys do not bind
        assert len(await connection.fetch(FIRST_README)) == 1
    assert await _definitions(empty_dsn) == await _definitions(dsn)


async def test_the_first_file_alone_is_a_beginning_that_migrate_goes_on_with(
    empty_dsn: str, dsn: str
) -> None:
    async with open_database(empty_dsn) as database, database.session() as session:
        connection = session.connection
        await connection.execute((sql_folder() / "001_create_tables.sql").read_text())
        await connection.execute(
            "INSERT INTO draenei_content.run_audit (dag_id, run_id) VALUES ('d', 'r');"
            "INSERT INTO draenei_content.run_stages (audit_id, stage, status)"
            " VALUES (1, 'extract', 'running'), (1, 'transfer', 'running')"
        )
        newest = known_migrations()[-1].version
        with pytest.raises(SchemaMissing, match=f"version 1, not {newest}"):
            await require_schema(session)

        assert await migrate(session) == [m.path.name for m in known_migrations()[1:]]

        await require_schema(session)
        stages = await connection.fetch("SELECT stage, worker FROM draenei_content.run_stages")
        assert sorted(map(tuple, stages)) == [("extract", 0), ("transfer", 0)]
    assert await _definitions(empty_dsn) == await _definitions(dsn)


async def test_every_query_prepares(database: Database) -> None:
    async with database.session() as session:
        for name, query in load_queries().items():
            statement = await session.connection.prepare(query)
            assert statement is not None, name


async def test_a_database_without_schema_or_of_another_version_is_refused(
    empty_dsn: str, database: Database
) -> None:
    async with open_database(empty_dsn) as empty, empty.session() as session:
        with pytest.raises(SchemaMissing, match="collector migrate"):
            await require_schema(session)
    async with database.session() as session:
        await require_schema(session)
        await session.connection.execute(
            "INSERT INTO draenei_content.schema_migrations (version, name) VALUES (999, 'later')"
        )
        with pytest.raises(SchemaMissing, match="999"):
            await require_schema(session)


NEWEST = known_migrations()[-1].version
LATER = "INSERT INTO draenei_content.schema_migrations VALUES ($1, 'later', now(), $2)"


@pytest.mark.case("PG-20")
@pytest.mark.parametrize(
    ("later", "refused"),
    [
        ([(901, NEWEST)], None),
        ([(901, 1), (902, NEWEST)], None),
        ([(901, None)], 901),
        ([(901, NEWEST), (902, None)], 902),
        # It only adds to what the one before it has changed.
        ([(901, None), (902, 901)], 902),
        ([(901, NEWEST), (902, 901)], 902),
    ],
)
async def test_a_newer_schema_is_used_where_all_of_it_only_adds(
    database: Database, later: list[tuple[int, int | None]], refused: int | None
) -> None:
    async with database.session() as session:
        await session.connection.executemany(LATER, later)
        if refused is None:
            await require_schema(session)
            return
        with pytest.raises(SchemaTooNew, match=f"at version {refused}, this collector knows"):
            await require_schema(session)


async def test_a_newer_schema_makes_up_for_nothing_that_is_missing(database: Database) -> None:
    async with database.session() as session:
        await session.connection.executemany(LATER, [(901, NEWEST)])
        await session.connection.execute(
            "DELETE FROM draenei_content.schema_migrations WHERE version = 4"
        )
        with pytest.raises(SchemaMissing, match="lacks 4; run `collector migrate`"):
            await require_schema(session)


@pytest.mark.case("SEC-02")
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO draenei_content.wallpapers (wallhaven_id, url, s3_key, object_sha256,"
        " object_bytes, stored_at) VALUES ('x', 'u', 'elsewhere/x.jpg', repeat('0', 64), 1, now())",
        "INSERT INTO draenei_content.wallpapers (wallhaven_id, url, s3_key, stored_at)"
        " VALUES ('x', 'u', 'wallpapers/x.jpg', now())",
        "INSERT INTO draenei_content.run_audit (dag_id, run_id, status) VALUES ('d', 'r', 'fine')",
    ],
)
async def test_the_schema_refuses_what_must_not_be(database: Database, statement: str) -> None:
    async with database.session() as session:
        with pytest.raises(asyncpg.CheckViolationError):
            await session.connection.execute(statement)


@pytest.mark.case("SEC-06")
def test_sql_lives_in_sql_alone() -> None:
    package = sql_folder().parent / "collector"
    for path in package.rglob("*.py"):
        text = path.read_text().upper()
        for word in ("SELECT ", "INSERT INTO", "DELETE FROM", "CREATE TABLE", "UPDATE DRAENEI"):
            assert word not in text or _is_prose(path), f"{path}: {word}"


def _is_prose(path: Path) -> bool:
    # The embedded server's launcher creates its own database before any schema exists.
    return path.parent.name == "local"


UNCOMMENTED = """
SELECT c.relname || COALESCE('.' || a.attname, '')
FROM pg_class AS c
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE
    c.relnamespace = 'draenei_content'::regnamespace
    AND c.relkind IN ('r', 'v')
    AND (
        obj_description(c.oid, 'pg_class') IS NULL
        OR col_description(c.oid, a.attnum) IS NULL
    )
"""


async def test_every_table_view_and_column_has_a_comment(dsn: str) -> None:
    async with open_database(dsn) as database, database.session() as session:
        assert [row[0] for row in await session.connection.fetch(UNCOMMENTED)] == []


async def test_the_views_show_what_people_ask_for(dsn: str) -> None:
    async with open_database(dsn) as database, database.session() as session:
        ask = session.connection
        await ask.execute("""
            INSERT INTO draenei_content.run_audit (id, dag_id, run_id, status, download_failures,
                upload_failures) VALUES (7, 'tests', 'daily', 'partial', 2, 1);
            INSERT INTO draenei_content.staged_pages (audit_id, page, search_key, ids, items,
                invalid, known, last_page, total, staged)
                VALUES (7, 1, 'elf', '{}', 0, 0, 0, 1, 0, 0);
            INSERT INTO draenei_content.wallpapers (id, wallhaven_id, url, page_url, s3_key) VALUES
                (1, 'stored', 'u1', 'p1', 'wallpapers/stored.jpg'),
                (2, 'later', 'u2', 'p2', NULL), (3, 'dead', 'u3', 'p3', NULL);
            INSERT INTO draenei_content.transfers (wallpaper_id, state, next_attempt_at) VALUES
                (2, 'pending', now() + interval '1 hour'), (3, 'dead', now());
            INSERT INTO draenei_content.dead_letters (stage, item, wallhaven_id, code, reason,
                run_id) VALUES ('transfer', 'dead', 'dead', 'gone', '410', 'daily');
            INSERT INTO draenei_content.tags (tag_id, name) VALUES (1, 'sea'), (2, 'moon');
            INSERT INTO draenei_content.wallpaper_tags VALUES (1, 1), (1, 2);
        """)
        runs = await ask.fetch("SELECT run_id, search, failures FROM draenei_content.runs")
        assert [tuple(row) for row in runs] == [("daily", "elf", 3)]
        backlog = await ask.fetch("SELECT wallhaven_id, state, code FROM draenei_content.backlog")
        assert {tuple(row) for row in backlog} == {
            ("later", "waiting", None),
            ("dead", "dead", "gone"),
        }
        failures = await ask.fetch("SELECT wallhaven_id, page_url FROM draenei_content.failures")
        assert [tuple(row) for row in failures] == [("dead", "p3")]
        stored = await ask.fetch("SELECT wallhaven_id, tags FROM draenei_content.collection")
        assert [tuple(row) for row in stored] == [("stored", ["moon", "sea"])]
