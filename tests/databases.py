"""Databases for one test each, as copies of a template that has the schema."""

from __future__ import annotations

from urllib.parse import urlsplit

import asyncpg

from collector.catalog import open_database
from collector.catalog.migrations import migrate

TEMPLATE = "collector_template"


async def make_template(dsn: str) -> None:
    """Make the template, at the newest schema."""
    await execute(dsn, f"CREATE DATABASE {TEMPLATE}")
    async with open_database(with_name(dsn, TEMPLATE)) as database, database.session() as session:
        await migrate(session)


async def execute(dsn: str, statement: str) -> None:
    """Run one statement outside of any transaction."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def with_name(dsn: str, name: str) -> str:
    """Return the address of another database of the same server."""
    return urlsplit(dsn)._replace(path=f"/{name}").geturl()
