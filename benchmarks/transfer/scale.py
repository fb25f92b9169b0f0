"""The cost of a claim in a backlog of any length: the buffers that PostgreSQL touches."""

from __future__ import annotations

from typing import Any

import asyncpg

from collector.catalog import ClaimPolicy, Runs, Transfers, open_database
from collector.core.runs import Run

CLAIMS, CLAIMED_AT_ONCE = 50, 16
# Enough for ten million rows and their indexes.
FILL_SECONDS = 1800.0

# The indexes that a claim needs are built after the rows, which is much faster.
_FILL = """
SET session_replication_role = replica;
SET synchronous_commit = off;
DROP INDEX draenei_content.ix_transfers_due;
ALTER TABLE draenei_content.transfers DROP CONSTRAINT transfers_pkey;
INSERT INTO draenei_content.wallpapers (wallhaven_id, url, file_type, file_size)
    SELECT 'w' || n, 'https://w.wallhaven.cc/' || n, 'image/jpeg', n
    FROM generate_series(1, {rows}) AS s (n);
INSERT INTO draenei_content.transfers (wallpaper_id, next_attempt_at)
    SELECT n, now() - n * interval '1 ms' FROM generate_series(1, {rows}) AS s (n);
ALTER TABLE draenei_content.transfers ADD PRIMARY KEY (wallpaper_id);
CREATE INDEX ix_transfers_due ON draenei_content.transfers (next_attempt_at, wallpaper_id)
    WHERE state = 'pending';
"""
_TOUCHED = """
SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit + idx_blks_read, 0))::bigint
FROM pg_statio_user_tables WHERE schemaname = 'draenei_content'
"""


async def claims(dsn: str, rows: int) -> dict[str, Any]:
    """Fill an empty catalog with pending images and claim some; return the cost."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(_FILL.format(rows=rows), timeout=FILL_SECONDS)
    await connection.execute("VACUUM ANALYZE", timeout=FILL_SECONDS)
    before = await connection.fetchval(_TOUCHED)
    async with open_database(dsn) as database:
        audit_id = await Runs(database).open_run(Run("bench", "claims"))
        transfers = Transfers(database, ClaimPolicy(lease_seconds=120, max_attempts=1))
        claimed = [await transfers.claim(audit_id, CLAIMED_AT_ONCE, 0) for _ in range(CLAIMS)]
    # A session reports its statistics at the latest when it ends.
    await _until_alone(connection)
    touched = await connection.fetchval(_TOUCHED) - before
    await connection.close()
    return {
        "rows": rows,
        "claimed": sum(map(len, claimed)),
        "buffers_per_claim": round(touched / CLAIMS, 1),
    }


async def _until_alone(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    while await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    ):
        pass
