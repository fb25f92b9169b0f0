"""The queue of the enrichment at 1,000,000 wallpapers: what a choice of it costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from collector.catalog import Database, Enrichments
from collector.catalog.queries import load_queries

WALLPAPERS = 1_000_000
BIG = {"wallpapers", "wallpaper_details"}
# A batch of 4 from the top of an index: a few pages down each tree, and the rows themselves.
MAX_BLOCKS = 200

# Every 10th wallpaper is enriched, every 50th of these due again; 1000 others are not due yet.
# What only slows this down is dropped before, and the indexes of the queue are built after it.
FILL = f"""
DROP INDEX draenei_content.ux_wallpapers_wallhaven_id, draenei_content.ix_wallpapers_stored,
    draenei_content.ix_wallpapers_pending_upload;
ALTER TABLE draenei_content.wallpaper_details
    DROP CONSTRAINT wallpaper_details_wallpaper_id_fkey;
CREATE TEMPORARY TABLE definitions AS
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
FROM pg_index
WHERE indrelid = 'draenei_content.wallpaper_details'::regclass AND NOT indisprimary;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT d.name FROM definitions AS d LOOP EXECUTE 'DROP INDEX ' || name; END LOOP;
END $$;
INSERT INTO draenei_content.wallpapers (id, wallhaven_id, url)
SELECT n, to_hex(n), '' FROM generate_series(1, {WALLPAPERS}) AS s (n);
INSERT INTO draenei_content.wallpaper_details
    (wallpaper_id, favorites, enriched_at, next_attempt_at)
SELECT
    n,
    n * 7919::bigint % 5000,
    CASE WHEN n % 10 = 0 THEN now() END,
    now() + make_interval(days => CASE WHEN n % 500 = 0 OR n % 10 > 0 AND n % 1000 > 1
        THEN -1 ELSE 90 END)
FROM generate_series(1, {WALLPAPERS}) AS s (n);
DO $$ DECLARE line text; BEGIN
    FOR line IN SELECT d.definition FROM definitions AS d LOOP EXECUTE line; END LOOP;
END $$;
ANALYZE draenei_content.wallpapers, draenei_content.wallpaper_details;
"""


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def explained(
    connection: asyncpg.pool.PoolConnectionProxy[Any], name: str, *arguments: Any
) -> dict[str, Any]:
    """Run a query for its plan and undo it."""
    explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
    transaction = connection.transaction()
    await transaction.start()
    try:
        (plan,) = json.loads(await connection.fetchval(explain + load_queries()[name], *arguments))
    finally:
        await transaction.rollback()
    return plan["Plan"]


@pytest.mark.slow
async def test_a_choice_among_a_million_reads_a_few_pages_of_an_index(database: Database) -> None:
    async with database.session() as session:
        await session.connection.execute(FILL, timeout=100)
        for query, arguments in {
            "claim_first": (UUID(int=1), 4, 60.0),
            "claim_again": (UUID(int=1), 4, 60.0),
            "reap_details": (),
        }.items():
            plan = await explained(session.connection, query, *arguments)
            scanned = {
                node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"
            }
            blocks = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            assert not scanned & BIG, query
            assert blocks < MAX_BLOCKS, (query, blocks)
    targets = await Enrichments(database).claim(4)
    favorites = "SELECT favorites FROM draenei_content.wallpaper_details WHERE wallpaper_id = $1"
    async with database.session() as session:
        found = [
            await session.connection.fetchval(favorites, target.wallpaper_id) for target in targets
        ]
    assert found == [4999] * 4
