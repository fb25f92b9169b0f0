"""The server's tables, schema or version are not as they should be; what its errors say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from database_faults import (
    REFRESH,
    ask,
    behind,
    cut_all,
    disarm,
    do,
    done,
    raising,
    require_outage,
    setting,
    table,
    trap,
)
from faulty_world import FaultyWorld, OpenFaults
from processes import collector
from world import EVERYTHING, small

from collector.catalog import open_database
from collector.catalog.migrations import migrate
from collector.catalog.queries import load_queries
from collector.cli.progress import SilentProgress
from collector.core.errors import Outage, SchemaMissing
from collector.core.runs import RunStatus, StageName
from collector.runtime.opening import RunOptions, open_runtime
from collector.simulator import Hooks

CANARY = "canary-of-a-row"


# --- PG-15 to PG-19: what it costs ---------------------------------------------------------------


@pytest.mark.case("PG-15")
@pytest.mark.case("PG-17")
async def test_what_is_listed_as_before_writes_no_row_and_uses_no_number_up(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 60)) as world:
        await world.run()
        before = await table(world, "wallpapers"), await table(world, "wallpaper_counters")
        number = await ask(world, LAST_NUMBER)
        audit = await world.run("again", REFRESH)
        assert (audit.metadata_unchanged, audit.metadata_updated) == (60, 0)
        assert (
            await table(world, "wallpapers"),
            await table(world, "wallpaper_counters"),
        ) == before
        assert await ask(world, LAST_NUMBER) == number
        await world.check()


LAST_NUMBER = "SELECT last_value FROM draenei_content.wallpapers_id_seq"


@pytest.mark.case("PG-17")
async def test_numbers_that_changes_use_up_last_for_ever(
    open_faults: OpenFaults, small_images: Path
) -> None:
    version = {"source": "one"}

    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | version for item in items]

    async with open_faults(small(small_images, 10), Hooks(listing=listing)) as world:
        await world.run()
        number = await ask(world, LAST_NUMBER)
        version["source"] = "two"
        audit = await world.run("again", REFRESH)
        assert audit.metadata_updated == 10
        assert await ask(world, LAST_NUMBER) - number <= 10, "one for each changed row at most"
        kind = "SELECT data_type FROM pg_sequences WHERE sequencename = 'wallpapers_id_seq'"
        assert (await ask(world, f"SELECT ({kind})::text")) == "bigint"
        await world.check()


@pytest.mark.case("PG-16")
async def test_rows_that_count_as_new_are_those_that_were_not_there(
    open_faults: OpenFaults, small_images: Path
) -> None:
    version: dict[str, Any] = {}

    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | (version if n % 3 == 0 else {}) for n, item in enumerate(items)]

    async with open_faults(small(small_images, 48), Hooks(listing=listing)) as world:
        await world.run("first", RunOptions(max_pages=1))
        version["source"] = "changed"
        await world.stage(StageName.EXTRACT, "second", REFRESH)
        new, changed = await ask(world, NEW_ITEMS), await ask(world, CHANGED_ITEMS)
        assert (new, changed) == (24, 8)
        audit = await world.run("second", REFRESH)
        assert (audit.metadata_inserted, audit.metadata_updated) == (new, changed)
        assert audit.metadata_unchanged == 48 - new - changed
        await world.check()


NEW_ITEMS = """
SELECT count(*) FROM draenei_content.staged_wallpapers AS s
WHERE NOT EXISTS (
    SELECT FROM draenei_content.wallpapers AS w WHERE w.wallhaven_id = s.wallhaven_id)
"""
CHANGED_ITEMS = """
SELECT count(*) FROM draenei_content.staged_wallpapers AS s
INNER JOIN draenei_content.wallpapers AS w USING (wallhaven_id)
WHERE w.source IS DISTINCT FROM s.source
"""


@pytest.mark.case("PG-18")
async def test_claims_and_their_leases_never_touch_the_wide_rows(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        await done(world, StageName.EXTRACT, StageName.LOAD)
        before = await table(world, "wallpapers")
        audit_id = await ask(world, "SELECT id FROM draenei_content.run_audit")
        catalog = world.runtime.catalog.transfers
        for _ in range(20):
            claims = await catalog.claim(audit_id, 30)
            assert len(await catalog.heartbeat(claims)) == 30
            await catalog.release(claims)
        assert await table(world, "wallpapers") == before
        await world.run()
        assert await ask(world, "SELECT count(*) FROM draenei_content.transfers") == 0
        await world.check()


@pytest.mark.case("PG-19")
async def test_a_claim_finds_what_is_due_among_many_by_its_index(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        await do(world, FILL_BACKLOG, "ANALYZE")
        arguments = "1, '00000000-0000-0000-0000-000000000001', 2, 50, 60, FALSE"
        async with behind(world) as connection:
            await connection.execute(f"PREPARE claims AS {load_queries()['claim']}")
            for mode in ("force_custom_plan", "force_generic_plan"):
                await connection.execute(f"SET plan_cache_mode = {mode}")
                plan = "\n".join(
                    line
                    for (line,) in await connection.fetch(f"EXPLAIN EXECUTE claims({arguments})")
                )
                assert "ix_transfers_due" in plan
                # That one has a row for each run at most, and none here.
                assert "Seq Scan" not in plan.replace("Seq Scan on run_limits", "")
        await do(world, "DELETE FROM draenei_content.wallpapers")
        await world.run()
        await world.check()


FILL_BACKLOG = """
WITH filled AS (
    INSERT INTO draenei_content.wallpapers (wallhaven_id, url)
    SELECT 'w' || n, 'https://w.wallhaven.cc/' || n FROM generate_series(1, 10000) AS n
    RETURNING id
)
INSERT INTO draenei_content.transfers (wallpaper_id) SELECT id FROM filled
"""


@pytest.mark.case("PG-19")
async def test_a_backlog_without_its_indexes_is_slow_and_not_wrong(
    open_faults: OpenFaults, small_images: Path
) -> None:
    names = ("due", "leased", "listed", "retry", "spent")
    async with open_faults(small(small_images, 30)) as world:
        await do(world, *(f"DROP INDEX draenei_content.ix_transfers_{name}" for name in names))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 30)
        await world.check()


# --- PG-20, PG-21: another schema, another server ------------------------------------------------


FORGET = "DELETE FROM draenei_content.schema_migrations WHERE version {}"
OTHER_SCHEMAS = {
    "none": ("DROP SCHEMA draenei_content CASCADE", "no draenei_content schema.*collector migrate"),
    "older": (FORGET.format("> 3"), "at version 3, .*collector migrate"),
    "one left out": (FORGET.format("= 4"), "^(?!.*version 8, not 8).*collector migrate"),
    "newer": (
        "INSERT INTO draenei_content.schema_migrations VALUES (999, 'later')",
        "999(?!.*run `collector migrate`)",
    ),
}


@pytest.mark.case("PG-20")
@pytest.mark.parametrize(("statement", "message"), OTHER_SCHEMAS.values(), ids=OTHER_SCHEMAS)
async def test_another_schema_is_refused_before_anything_is_done(
    open_faults: OpenFaults, small_images: Path, statement: str, message: str
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        await do(world, statement)
        with pytest.raises(SchemaMissing) as caught:
            async with open_runtime(world.settings, EVERYTHING, SilentProgress()):
                pass
        assert world.api.asked == []
        await bring_up_to_date(world)
        await world.converge()
        assert re.search(message, str(caught.value)), str(caught.value)


async def bring_up_to_date(world: FaultyWorld) -> None:
    async with open_database(world.dsn) as mended, mended.session() as session:
        await migrate(session)
    await do(world, FORGET.format("= 999"))
    await cut_all(world)


@pytest.mark.case("PG-20")
async def test_another_schema_is_told_in_one_line_and_as_wrong_usage(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        await do(world, FORGET.format("> 3"))
        said = await collector(world.settings, "run", "--json")
        assert (said.status, said.stdout) == (2, "")
        assert "collector migrate" in said.stderr
        assert "Traceback" not in said.stderr
        await bring_up_to_date(world)
        await world.converge()


@pytest.mark.case("PG-20")
async def test_columns_that_others_added_are_no_concern_of_ours(
    open_faults: OpenFaults, small_images: Path
) -> None:
    tables = ("wallpapers", "transfers", "run_audit", "dead_letters")
    add = "ALTER TABLE draenei_content.{} ADD COLUMN theirs TEXT DEFAULT 'theirs'"
    async with open_faults(small(small_images, 5)) as world:
        await do(world, *map(add.format, tables))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 5)
        await world.check()


@pytest.mark.case("PG-21")
async def test_a_replica_is_refused_by_the_first_statement_of_a_run(
    open_faults: OpenFaults, small_images: Path
) -> None:
    """A replica may lag, but lets nobody write: what it says is never acted upon."""
    async with open_faults(small(small_images, 5)) as world:
        await world.run("before", RunOptions(limit=2))
        await setting(world, "default_transaction_read_only", "on")
        asked, world.database.statements[:] = len(world.api.asked + world.images.asked), []
        with pytest.raises(Outage, match="read-only"):
            await world.run()
        assert [text for text in world.database.statements if b"draenei_content" in text] == [
            load_queries()["open_run"].encode()
        ]
        assert len(world.api.asked + world.images.asked) == asked
        await setting(world, "default_transaction_read_only", "off")
        await world.converge()


# --- PG-22: what errors say ----------------------------------------------------------------------


@pytest.mark.case("PG-22")
async def test_what_an_outage_says_of_rows_is_not_written_down(
    open_faults: OpenFaults, small_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        await trap(world, "merge", raising("53100", DETAIL=CANARY, HINT=CANARY))
        audit = await world.run()
        require_outage(audit, StageName.LOAD)
        assert "a trap" in (audit.notes or "")
        await disarm(world)
        await world.converge(secrets=[CANARY], texts=[caplog.text])


@pytest.mark.case("PG-22")
async def test_what_a_defect_says_of_rows_is_not_written_down(
    open_faults: OpenFaults, small_images: Path
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | {"source": CANARY} for item in items]

    async with open_faults(small(small_images, 5), Hooks(listing=listing)) as world:
        await do(
            world,
            "ALTER TABLE draenei_content.wallpapers"
            f" ADD CONSTRAINT theirs CHECK (source <> '{CANARY}')",
        )
        said = await collector(world.settings, "run", "--run-id", "run", "--json")
        assert said.status == 1
        assert "CheckViolationError" in said.stdout
        assert CANARY not in said.stdout + said.stderr
        await do(world, "ALTER TABLE draenei_content.wallpapers DROP CONSTRAINT theirs")
        await world.converge()
