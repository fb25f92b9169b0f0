# ruff: noqa: INP001 - a script
"""The peers of `load.py`: the synchronous original, dlt, and a COPY without validation and ledger.

The original reads one answer in one task, passes the dictionaries on as an XCom, and in the next
task upserts them with psycopg2's `execute_values(page_size=500)` and one commit. It requires an id
and an address and checks nothing else. Here it does the same with all columns; views and
favourites are in the same row, and there is no ledger and no backlog. In its favour, it keeps its
connection, and the rate that counts commits 50 pages at a time without XComs.

`run_copy` is the limit of the driver without validation, ledger and staging between two tasks: the
same dictionaries, COPY into a temporary table, one merge that skips unchanged rows. The difference
from the collector is what these safeguards cost.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import psycopg2
from psycopg2.extras import execute_values

BATCH_PAGES = 50
STATEMENT_ROWS = 500

FIELDS = {
    "url": "path",
    "page_url": "url",
    "short_url": "short_url",
    "source": "source",
    "category": "category",
    "purity": "purity",
    "dimension_x": "dimension_x",
    "dimension_y": "dimension_y",
    "resolution": "resolution",
    "ratio": "ratio",
    "file_size": "file_size",
    "file_type": "file_type",
    "source_created_at": "created_at",
    "colors": "colors",
    "views": "views",
    "favorites": "favorites",
}
THUMBS = {"thumb_large": "large", "thumb_original": "original", "thumb_small": "small"}
COLUMNS = ("wallhaven_id", *FIELDS, *THUMBS)
UPSERT = f"""
    INSERT INTO draenei_content.wallpapers ({", ".join(COLUMNS)})
    VALUES %s
    ON CONFLICT (wallhaven_id) DO UPDATE SET
        {", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS[1:])},
        updated_at = NOW()
    RETURNING (xmax = 0) AS inserted
"""  # noqa: S608 - constant column names
MERGE = f"""
    INSERT INTO draenei_content.wallpapers AS w ({", ".join(COLUMNS)})
    SELECT {", ".join(f"i.{name}" for name in COLUMNS)}
    FROM incoming AS i
    LEFT JOIN draenei_content.wallpapers AS k USING (wallhaven_id)
    WHERE k.id IS NULL
        OR ({", ".join(f"i.{name}" for name in COLUMNS[1:])})
        IS DISTINCT FROM ({", ".join(f"k.{name}" for name in COLUMNS[1:])})
    ORDER BY wallhaven_id
    ON CONFLICT (wallhaven_id) DO UPDATE SET
        {", ".join(f"{name} = EXCLUDED.{name}" for name in COLUMNS[1:])},
        updated_at = NOW()
"""  # noqa: S608


def add_counters(dsn: str) -> None:
    """Add the two counters, which the collector keeps elsewhere, and a table for XComs."""
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE draenei_content.wallpapers ADD views INTEGER, ADD favorites INTEGER;"
            " CREATE TABLE public.xcom (id SERIAL PRIMARY KEY, value JSONB)"
        )
    connection.close()


def scraped(body: bytes) -> list[dict[str, Any]]:
    """Return the items of an answer by column names, without validation."""
    found = []
    for item in json.loads(body).get("data", []):
        thumbs = item.get("thumbs") or {}
        record = {"wallhaven_id": item.get("id")}
        record.update({column: item.get(field) for column, field in FIELDS.items()})
        record.update({column: thumbs.get(name) for column, name in THUMBS.items()})
        found.append(record)
    return found


def batches(answers: list[bytes], pages: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the items of `pages` pages at a time."""
    for start in range(0, len(answers), pages):
        yield [item for body in answers[start : start + pages] for item in scraped(body)]


def run_execute_values(dsn: str, answers: list[bytes], pages: int) -> None:
    """Upsert and commit `pages` pages at a time."""
    connection = psycopg2.connect(dsn)
    for items in batches(answers, pages):
        _upsert(connection, items)
    connection.close()


def run_through_xcom(dsn: str, answers: list[bytes]) -> None:
    """Do the same with XComs: the items pass through a row of JSON between the two tasks."""
    connection = psycopg2.connect(dsn)
    for items in batches(answers, BATCH_PAGES):
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO public.xcom (value) VALUES (%s) RETURNING id", [json.dumps(items)]
            )
            cursor.execute("SELECT value FROM public.xcom WHERE id = %s", cursor.fetchone())
            (value,) = cursor.fetchone()
        _upsert(connection, value)
    connection.close()


def _upsert(connection: Any, items: list[dict[str, Any]]) -> None:
    rows = [
        tuple(item.get(column) for column in COLUMNS)
        for item in items
        if item.get("wallhaven_id") and item.get("url")
    ]
    with connection.cursor() as cursor:
        execute_values(cursor, UPSERT, rows, page_size=STATEMENT_ROWS)
        cursor.fetchall()
    connection.commit()


async def run_copy(dsn: str, answers: list[bytes]) -> None:
    """COPY 50 pages at a time into a temporary table and merge them."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "CREATE TEMP TABLE incoming (LIKE draenei_content.wallpapers) ON COMMIT DELETE ROWS;"
        " ALTER TABLE incoming ALTER id DROP NOT NULL, ALTER created_at DROP NOT NULL"
    )
    for items in batches(answers, BATCH_PAGES):
        for item in items:
            item["source_created_at"] = datetime.fromisoformat(f"{item['source_created_at']}Z")
        async with connection.transaction():
            await connection.copy_records_to_table(
                "incoming",
                columns=COLUMNS,
                records=[tuple(item[column] for column in COLUMNS) for item in items],
            )
            await connection.execute(MERGE)
    await connection.close()


def run_dlt(dsn: str, answers: list[bytes], folder: Path) -> None:
    """Merge the same dictionaries by key in one run of a dlt pipeline with default settings."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"
    import dlt  # noqa: PLC0415 - slow to import, and needed last

    @dlt.resource(
        name="wallpapers",
        write_disposition="merge",
        primary_key="wallhaven_id",
        # Otherwise dlt puts colors into another table, which is slower still.
        columns={"colors": {"data_type": "json"}},
    )
    def wallpapers() -> Iterator[list[dict[str, Any]]]:
        yield from batches(answers, BATCH_PAGES)

    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=str(folder),
        destination=dlt.destinations.postgres(dsn),
        dataset_name="peer",
    )
    pipeline.run(wallpapers())
