"""Staging and merging: what goes wrong half-way leaves nothing, and merges never meet badly."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import anyio
import asyncpg
import pytest

from collector.catalog import (
    Database,
    LoadCounts,
    Loads,
    Pages,
    Runs,
    open_database,
    staging,
)
from collector.core.errors import Code, Edge, Outage
from collector.core.runs import Run
from collector.core.wallpapers import Page, Rejected, Wallpaper

SOON_SECONDS = 10.0


def wallpaper(wallhaven_id: str, **values: Any) -> Wallpaper:
    nothing = dict.fromkeys(Wallpaper._fields)
    given = {"wallhaven_id": wallhaven_id, "url": f"https://w/{wallhaven_id}.jpg", "views": 1}
    return Wallpaper(**{**nothing, **given, **values})


def page(number: int, *items: Wallpaper | Rejected) -> Page:
    return Page(number, items, last_page=9, total=200, per_page=24)


async def open_run(database: Database, name: str = "run") -> int:
    return await Runs(database).open_run(Run("tests", name))


async def rows(database: Database, statement: str) -> list[asyncpg.Record]:
    async with database.session() as session:
        return await session.connection.fetch(statement)


async def staged(database: Database) -> tuple[int, int]:
    """Return the rows of the ledger and of the staging table."""
    (found,) = await rows(
        database,
        "SELECT (SELECT count(*) FROM draenei_content.staged_pages),"
        " (SELECT count(*) FROM draenei_content.staged_wallpapers)",
    )
    return found[0], found[1]


# --- Merges that meet ---------------------------------------------------------------------------


async def test_merges_of_the_same_rows_at_once_wait_for_each_other_and_count_exactly(
    database: Database,
) -> None:
    """Each run has two thirds of the ids, in an order of its own; some rows are there before."""
    draws = random.Random(7)
    ids = [f"w{n}" for n in range(900)]
    await merged(database, await open_run(database, "before"), ids[::5], file_type="image/png")
    wanted = {}
    for number in range(6):
        audit_id = await open_run(database, f"run {number}")
        wanted[audit_id] = draws.sample(ids, 600)
        await stage(database, audit_id, wanted[audit_id], file_type="image/jpeg")
    counted: dict[int, LoadCounts] = {}

    async def merge(audit_id: int) -> None:
        await Loads(database).merge(audit_id)
        counted[audit_id] = await Loads(database).loaded(audit_id)

    async with anyio.create_task_group() as tasks:
        for audit_id in wanted:
            tasks.start_soon(merge, audit_id)

    there, met = set(ids[::5]), set().union(*wanted.values())
    assert sum(counts.inserted for counts in counted.values()) == len(met - there)
    assert sum(counts.updated for counts in counted.values()) == len(met & there)
    for audit_id, counts in counted.items():
        items = counts.inserted + counts.updated + counts.unchanged
        assert (items, counts.invalid, counts.duplicates) == (len(wanted[audit_id]), 0, 0)
    (found,) = await rows(
        database,
        "SELECT count(*), (SELECT count(*) FROM draenei_content.transfers),"
        " (SELECT count(*) FROM draenei_content.wallpaper_counters),"
        " (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database())"
        " FROM draenei_content.wallpapers",
    )
    assert tuple(found) == (len(met | there), len(met | there), len(met | there), 0)
    assert (await staged(database))[1] == 0


async def stage(
    database: Database, audit_id: int, ids: list[str], reading: int = 1, **values: Any
) -> None:
    catalog = Pages(database)
    for start in range(0, len(ids), 24):
        items = [wallpaper(found, **values) for found in ids[start : start + 24]]
        await catalog.stage_page(audit_id, "q", page(start // 24 + 1, *items), reading)


async def merged(database: Database, audit_id: int, ids: list[str], **values: Any) -> LoadCounts:
    await stage(database, audit_id, ids, **values)
    return await load(database, audit_id)


async def load(database: Database, audit_id: int, **options: int) -> LoadCounts:
    """Do what the stage does."""
    loads = Loads(database, **options)
    await loads.merge(audit_id)
    await loads.merge_leftovers(audit_id)
    return await loads.loaded(audit_id)


# --- What is written, and what is not -----------------------------------------------------------


async def versions(database: Database) -> list[tuple[str, ...]]:
    """Return which transaction has written, and which has locked, each row of the merge."""
    tables = ("wallpapers", "wallpaper_counters", "transfers")
    found = [
        await rows(database, f"SELECT ctid::text, xmin::text, xmax::text FROM draenei_content.{it}")
        for it in tables
    ]
    return [tuple(row) for table in found for row in table]


async def test_an_unchanged_row_is_neither_written_nor_locked(database: Database) -> None:
    ids = [f"w{n}" for n in range(50)]
    first = await merged(database, await open_run(database, "first"), ids)
    before = await versions(database)
    second = await merged(database, await open_run(database, "second"), ids)
    assert (first.inserted, second.unchanged) == (50, 50)
    assert (second.inserted, second.updated, second.duplicates) == (0, 0, 0)
    assert await versions(database) == before


async def test_changed_views_touch_no_wide_row(database: Database) -> None:
    await merged(database, await open_run(database, "first"), ["a", "b"], views=1)
    before = await rows(database, "SELECT xmin::text, * FROM draenei_content.wallpapers")
    counts = await merged(database, await open_run(database, "second"), ["a", "b"], views=2)
    assert counts.unchanged == 2
    assert await rows(database, "SELECT xmin::text, * FROM draenei_content.wallpapers") == before
    (views,) = await rows(
        database, "SELECT array_agg(views) FROM draenei_content.wallpaper_counters"
    )
    assert views[0] == [2, 2]


async def staged_of(database: Database, audit_id: int) -> list[tuple[Any, ...]]:
    found = await rows(
        database,
        "SELECT page, wallhaven_id, url, views FROM draenei_content.staged_wallpapers"
        f" WHERE audit_id = {audit_id} ORDER BY page, position",
    )
    return [tuple(row) for row in found]


async def test_only_what_is_new_is_staged(database: Database) -> None:
    await merged(database, await open_run(database, "before"), ["a", "b", "c", "d"], views=1)
    audit_id, catalog = await open_run(database), Pages(database)
    rejected = Rejected("a", Code.INVALID_METADATA, "path: Field required", "{}")
    items = (
        *(wallpaper("a"), wallpaper("b", views=2), wallpaper("c", category="anime")),
        *(wallpaper("d", views=None), rejected, wallpaper("e")),
    )
    entry = await catalog.stage_page(audit_id, "q", page(1, *items))
    assert (entry.items, entry.known, entry.invalid) == (6, 4, 1)
    assert await staged_of(database, audit_id) == [
        (1, "b", None, 2),
        (1, "c", "https://w/c.jpg", 1),
        (1, "a", None, None),
        (1, "e", "https://w/e.jpg", 1),
    ]
    await Loads(database).merge(audit_id)
    counts = await Loads(database).loaded(audit_id)
    assert counts == LoadCounts(
        pages=1, inserted=1, updated=1, unchanged=3, invalid=0, duplicates=1
    )
    assert await column(database, "category") == {
        **dict.fromkeys(("a", "b", "d", "e")),
        "c": "anime",
    }


async def column(database: Database, name: str) -> dict[str, Any]:
    found = await rows(database, f"SELECT wallhaven_id, {name} FROM draenei_content.wallpapers")
    return dict(map(tuple, found))


async def test_the_last_of_a_page_that_has_an_item_twice_wins(database: Database) -> None:
    audit_id = await open_run(database)
    twice = [wallpaper("a", category=category) for category in ("anime", "people")]
    await Pages(database).stage_page(audit_id, "q", page(1, *twice))
    await Loads(database).merge(audit_id)
    assert await column(database, "category") == {"a": "people"}


async def test_what_an_ended_run_left_does_not_win_over_a_newer_listing_of_the_old_state(
    database: Database,
) -> None:
    """A run reads a change and dies; the change is taken back; the next run sees nothing new."""
    await merged(database, await open_run(database, "before"), ["a", "b"], category="anime")
    dead = await open_run(database, "dead")
    await stage(database, dead, ["a", "b"], category="people")
    await end(database, dead)
    counts = await merged(database, await open_run(database), ["a"], category="anime")
    assert (counts.pages, counts.updated, counts.unchanged) == (2, 1, 1)
    assert await column(database, "category") == {"a": "anime", "b": "people"}


@pytest.mark.parametrize(
    "change",
    [
        "category = 'people'",
        "url = 'https://w/other.jpg'",
        "colors = '{#000000}'",
        "raw = '{}'",
        "listed_digest = NULL",
    ],
)
async def test_a_row_that_somebody_changed_is_put_right_by_the_next_listing(
    database: Database, change: str
) -> None:
    await merged(database, await open_run(database, "before"), ["a", "b"])
    before = await rows(database, "SELECT * FROM draenei_content.wallpapers ORDER BY id")
    await rows(database, f"UPDATE draenei_content.wallpapers SET {change} WHERE wallhaven_id = 'a'")
    counts = await merged(database, await open_run(database), ["a", "b"])
    updated = int("digest" not in change)
    assert (counts.updated, counts.unchanged) == (updated, 2 - updated)
    after = await rows(database, "SELECT * FROM draenei_content.wallpapers ORDER BY id")
    for was, became in zip(before, after, strict=True):
        assert dict(became) | {"updated_at": None, "listed_at": was["listed_at"]} == dict(was)
    assert (after[0]["updated_at"] is not None) == bool(updated)


async def test_an_address_that_came_after_the_image_is_used_when_the_image_is_wanted_again(
    database: Database,
) -> None:
    await merged(database, await open_run(database, "first"), ["a"], url="https://w/1.jpg")
    await rows(database, "UPDATE draenei_content.wallpapers SET s3_key = 'wallpapers/a.jpg'")
    for name in ("second", "third"):
        await merged(database, await open_run(database, name), ["a"], url="https://w/2.jpg")
        assert await column(database, "url") == {"a": "https://w/1.jpg"}
        assert await column(database, "pending_url") == {"a": "https://w/2.jpg"}
    await rows(database, "UPDATE draenei_content.wallpapers SET s3_key = NULL")
    await merged(database, await open_run(database, "fourth"), ["a"], url="https://w/2.jpg")
    assert await column(database, "url") == {"a": "https://w/2.jpg"}
    assert await column(database, "pending_url") == {"a": None}


async def test_an_address_that_is_merged_while_the_image_is_confirmed_is_noted(
    database: Database,
) -> None:
    await merged(database, await open_run(database, "first"), ["a"], url="https://w/1.jpg")
    audit_id = await open_run(database, "second")
    await stage(database, audit_id, ["a"], url="https://w/2.jpg")
    async with anyio.create_task_group() as tasks, database.transaction() as other:
        await other.connection.execute(
            "UPDATE draenei_content.wallpapers SET s3_key = 'wallpapers/a.jpg'"
        )
        tasks.start_soon(Loads(database).merge, audit_id)
        while not await rows(
            database,
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'",
        ):
            await anyio.sleep(0.01)
    assert await column(database, "url") == {"a": "https://w/1.jpg"}
    assert await column(database, "pending_url") == {"a": "https://w/2.jpg"}


async def test_an_old_page_of_a_run_that_died_takes_nothing_newer_away(
    database: Database,
) -> None:
    dead = await open_run(database, "dead")
    await stage(database, dead, ["a"], category="anime")
    newer = await open_run(database, "newer")
    await merged(database, newer, ["a"], category="people")
    rejected = Rejected("a", Code.INVALID_METADATA, "path: Field required", "{}")
    await Pages(database).stage_page(newer, "q", page(2, rejected))
    await Loads(database).merge(newer)
    await end(database, dead)
    counts = await merged(database, await open_run(database, "last"), ["b"])
    assert (counts.pages, counts.inserted, counts.updated) == (2, 1, 0)
    assert await column(database, "category") == {"a": "people", "b": None}
    (open_ones,) = await rows(
        database, "SELECT count(*) FROM draenei_content.dead_letters WHERE resolved_at IS NULL"
    )
    assert open_ones["count"] == 1


async def test_an_item_that_is_listed_as_before_is_no_dead_letter(database: Database) -> None:
    await merged(database, await open_run(database, "before"), ["a"])
    rejected = Rejected("a", Code.INVALID_METADATA, "path: Field required", "{}")
    for name, item in (("bad", rejected), ("good", wallpaper("a"))):
        audit_id = await open_run(database, name)
        await Pages(database).stage_page(audit_id, "q", page(1, item))
        await Loads(database).merge(audit_id)
        (found,) = await rows(
            database,
            "SELECT count(*) FROM draenei_content.dead_letters WHERE resolved_at IS NULL",
        )
        assert found["count"] == int(item is rejected)


async def test_an_item_counts_once_over_the_loads_of_a_run(database: Database) -> None:
    await merged(database, await open_run(database, "before"), ["c", "d"])
    audit_id, loads = await open_run(database), Loads(database)
    catalog = Pages(database)
    rejected = Rejected(None, Code.BAD_ID, "id: is not 1 to 16 letters and digits", '{"id": "/"}')
    await catalog.stage_page(audit_id, "q", page(1, wallpaper("a"), rejected, wallpaper("a")))
    await loads.merge(audit_id)
    assert await loads.loaded(audit_id) == LoadCounts(
        pages=1, inserted=1, updated=0, unchanged=0, invalid=1, duplicates=1
    )
    changed = [wallpaper(each, category="anime") for each in "ac"]
    await catalog.stage_page(audit_id, "q", page(2, *changed, rejected, wallpaper("b")))
    await loads.merge(audit_id)
    again = [wallpaper("c", category="people"), wallpaper("d"), wallpaper("b")]
    await catalog.stage_page(audit_id, "q", page(3, *again))
    await loads.merge(audit_id)
    assert await loads.loaded(audit_id) == LoadCounts(
        pages=3, inserted=2, updated=1, unchanged=1, invalid=1, duplicates=5
    )
    found = await rows(
        database,
        "SELECT wallhaven_id, category FROM draenei_content.wallpapers ORDER BY wallhaven_id",
    )
    assert dict(map(tuple, found)) == {"a": "anime", "b": None, "c": "people", "d": None}


async def test_an_item_that_is_rejected_once_counts_as_the_row_that_it_is(
    database: Database,
) -> None:
    audit_id, loads = await open_run(database), Loads(database)
    catalog = Pages(database)
    rejected = Rejected("a", Code.INVALID_METADATA, "path: Field required", '{"id": "a"}')
    counted = []
    for number, items in enumerate([[rejected], [wallpaper("a"), wallpaper("b")], [rejected]], 1):
        await catalog.stage_page(audit_id, "q", page(number, *items))
        await loads.merge(audit_id)
        counts = await loads.loaded(audit_id)
        counted.append((counts.inserted, counts.invalid, counts.duplicates))
    assert counted == [(0, 1, 0), (2, 0, 1), (2, 0, 2)]


async def test_two_processes_that_load_one_run_count_each_item_once(database: Database) -> None:
    audit_id, ids = await open_run(database), [f"w{n}" for n in range(240)]
    await merged(database, await open_run(database, "before"), ids[::3], file_type="image/png")
    await stage(database, audit_id, ids, file_type="image/jpeg")
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(Loads(database).merge, audit_id)
            await stage(database, audit_id, ids, reading=2, file_type="image/jpeg")
    await Loads(database).merge(audit_id)
    counts = await Loads(database).loaded(audit_id)
    assert (counts.inserted, counts.updated, counts.unchanged) == (160, 80, 0)
    assert (counts.invalid, counts.duplicates) == (0, 240)


# --- Merges of bounded size ---------------------------------------------------------------------


async def loads_of(database: Database, audit_id: int) -> list[int]:
    """Return how many pages each load of the run has taken, in their order."""
    found = await rows(
        database, f"SELECT pages FROM draenei_content.run_loads WHERE audit_id = {audit_id}"
    )
    return [row["pages"] for row in found]


@pytest.mark.case("PG-23")
async def test_pages_are_merged_in_transactions_of_bounded_size(database: Database) -> None:
    ids = [f"w{n}" for n in range(24 * 10)]
    await merged(database, await open_run(database, "before"), ids[::3], file_type="image/png")
    audit_id = await open_run(database)
    await stage(database, audit_id, [*ids, *ids[:24]], file_type="image/jpeg")
    counts = await load(database, audit_id, max_items=72)
    assert await loads_of(database, audit_id) == [3, 3, 3, 2]
    assert counts == LoadCounts(
        pages=11, inserted=160, updated=80, unchanged=0, invalid=0, duplicates=24
    )
    assert (await staged(database))[1] == 0


@pytest.mark.case("PG-23")
@pytest.mark.parametrize("seed", range(4))
async def test_the_newest_listing_wins_over_any_number_of_transactions(
    database: Database, seed: int
) -> None:
    """Two runs read the same items, which change and change back; one of them ends before."""
    draws = random.Random(seed)
    ids, newest = [f"w{n}" for n in range(8)], {}
    await merged(database, await open_run(database, "before"), ids, category="anime", views=0)
    dead, living = await open_run(database, "dead"), await open_run(database, "living")
    catalog = Pages(database)
    for number in range(1, 31):
        listed = [
            wallpaper(each, category=draws.choice(("anime", "people")), views=draws.randrange(3))
            for each in draws.sample(ids, 3)
        ]
        newest.update({item.wallhaven_id: (item.category, item.views) for item in listed})
        await catalog.stage_page(draws.choice((dead, living)), "q", page(number, *listed))
    await end(database, dead)
    counts = await load(database, living, max_items=draws.choice((1, 6, 12)))
    found = await rows(
        database,
        "SELECT wallhaven_id, category, views FROM draenei_content.wallpapers"
        " INNER JOIN draenei_content.wallpaper_counters ON wallpaper_id = id",
    )
    assert {row[0]: (row[1], row[2]) for row in found if row[0] in newest} == newest
    assert (counts.pages, counts.duplicates) == (30, 90 - len(newest))
    assert (await staged(database))[1] == 0


async def end(database: Database, audit_id: int) -> None:
    await rows(
        database, f"UPDATE draenei_content.run_audit SET status = 'crashed' WHERE id = {audit_id}"
    )


@pytest.mark.case("PG-23")
async def test_a_merge_that_breaks_off_between_two_transactions_loses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit_id, ids = await open_run(database), [f"w{n}" for n in range(24 * 6)]
    catalog, sound = Pages(database), Loads._merge_pages
    await stage(database, audit_id, ids)
    await catalog.note_reading(audit_id, "q", ids[:24])

    async def dying(*arguments: Any) -> None:
        if len(await loads_of(database, audit_id)) == 2:
            raise Outage(Edge.DATABASE, "gone")
        await sound(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Loads, "_merge_pages", dying)
        with pytest.raises(Outage):
            await load(database, audit_id, max_items=48)
    assert (await Loads(database).loaded(audit_id)).inserted == 96
    assert await catalog.watermark("q") == []
    assert await staged(database) == (6, 48)

    counts = await load(database, audit_id, max_items=48)
    assert counts == LoadCounts(
        pages=6, inserted=144, updated=0, unchanged=0, invalid=0, duplicates=0
    )
    assert await catalog.watermark("q") == ids[:24]


@pytest.mark.case("PG-24")
async def test_pages_of_an_ended_run_that_cannot_be_merged_are_left_and_block_nobody(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    dead = await open_run(database, "dead")
    left = [f"d{n}" for n in range(24 * 9)]
    await stage(database, dead, left)
    await end(database, dead)
    await rows(
        database,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no %', NEW.wallhaven_id; END $$",
    )
    await rows(
        database,
        "CREATE TRIGGER refuse BEFORE INSERT ON draenei_content.wallpapers"
        " FOR EACH ROW WHEN (NEW.wallhaven_id IN ('d50', 'd200')) EXECUTE FUNCTION refuse()",
    )
    audit_id, catalog = await open_run(database), Pages(database)
    await stage(database, audit_id, ["a", "b"])
    await catalog.note_reading(audit_id, "q", ["a", "b"])
    counts = await load(database, audit_id, max_items=96)
    assert counts.inserted == 2 + 7 * 24
    assert await catalog.watermark("q") == ["a", "b"]
    assert await staged(database) == (10, 48), "two pages wait"
    assert "2 pages of run dead cannot be merged" in caplog.text

    await rows(database, "DROP TRIGGER refuse ON draenei_content.wallpapers")
    later = await load(database, await open_run(database, "later"))
    assert (later.pages, later.inserted) == (2, 48)


@pytest.mark.case("PG-24")
async def test_a_database_that_ends_a_merge_of_leftovers_fails_no_run(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        dead = await open_run(database, name)
        await stage(database, dead, [f"{name}{n}" for n in range(30)])
        await end(database, dead)
    audit_id, sound, asked = await open_run(database), Loads._merge_pages, []
    await stage(database, audit_id, ["a"])

    async def slow(self: Loads, mine: int, read_by: int, pages: Any) -> None:
        asked.append(read_by)
        if read_by != mine:
            raise Outage(Edge.DATABASE, "no answer in time")
        await sound(self, mine, read_by, pages)

    monkeypatch.setattr(Loads, "_merge_pages", slow)
    assert (await load(database, audit_id)).inserted == 1
    assert len(asked) == 2, "no second attempt where the database does not answer"
    assert "pages of ended runs wait for the next load" in caplog.text


async def test_what_is_staged_by_a_run_that_waits_is_its_own(database: Database) -> None:
    """Its next task stands in a pool for hours."""
    waits = await open_run(database, "waits")
    await stage(database, waits, ["a", "b"])
    await rows(
        database, "UPDATE draenei_content.run_audit SET heartbeat_at = now() - interval '30 h'"
    )
    assert (await merged(database, await open_run(database, "other"), ["c"])).inserted == 1
    assert (await load(database, waits)).inserted == 2


# --- Images that were given up, and are listed anew ----------------------------------------------


GIVE_UP = """
UPDATE draenei_content.transfers SET state = 'dead', attempts = 5, run_attempts = 2;
INSERT INTO draenei_content.dead_letters (stage, item, wallhaven_id, code, reason, run_id)
SELECT 'transfer', wallhaven_id, wallhaven_id, 'not_found', 'HTTP 404', 'before'
FROM draenei_content.wallpapers
"""


async def given_up(database: Database) -> dict[str, tuple[Any, ...]]:
    """Return how each transfer stands, and whether its letter is open."""
    found = await rows(
        database,
        "SELECT w.wallhaven_id, t.state, t.attempts, t.run_attempts, d.resolved_at IS NULL"
        " FROM draenei_content.wallpapers AS w"
        " INNER JOIN draenei_content.transfers AS t ON t.wallpaper_id = w.id"
        " INNER JOIN draenei_content.dead_letters AS d ON d.item = w.wallhaven_id",
    )
    return {row[0]: tuple(row)[1:] for row in found}


@pytest.mark.parametrize(
    ("change", "is_requeued"),
    [
        ({"url": "https://w/other.jpg"}, True),
        ({"file_size": 7}, True),
        ({"file_type": "image/png"}, True),
        ({"category": "people"}, False),
        ({"views": 2}, False),
        ({}, False),
    ],
)
async def test_an_image_that_was_given_up_is_due_again_when_its_listing_changes(
    database: Database, change: dict[str, Any], is_requeued: bool
) -> None:
    before = {"file_size": 5, "file_type": "image/jpeg", "category": "anime", "views": 1}
    await merged(database, await open_run(database, "before"), ["a", "b"], **before)
    async with database.session() as session:
        await session.connection.execute(GIVE_UP)
    audit_id, catalog = await open_run(database), Pages(database)
    listed = [wallpaper("a", **before), wallpaper("b", **{**before, **change})]
    await catalog.stage_page(audit_id, "q", page(1, *listed))
    await load(database, audit_id)
    dead = ("dead", 5, 2, True)
    assert await given_up(database) == {
        "a": dead,
        "b": ("pending", 0, 0, False) if is_requeued else dead,
    }


async def test_an_older_listing_requeues_no_image_that_was_given_up(database: Database) -> None:
    await merged(database, await open_run(database, "before"), ["a"])
    async with database.session() as session:
        await session.connection.execute(GIVE_UP)
    dead = await open_run(database, "dead")
    await stage(database, dead, ["a"], file_size=9)
    await end(database, dead)
    await merged(database, await open_run(database), ["a"])
    assert await given_up(database) == {"a": ("dead", 5, 2, True)}


# --- COPY that breaks off -----------------------------------------------------------------------


class Proxy:
    """Passes bytes on until the client has sent half of a COPY; then, once, it falls silent."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self.is_armed = True
        self.fell_silent = asyncio.Event()
        self.client_left = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until either side ends it."""
        from_server, to_server = await asyncio.open_connection(*self._server)
        answers = asyncio.ensure_future(self._answers(from_server, writer))
        try:
            silent = False
            while chunk := await reader.read(2**16):
                if self.is_armed and b"COPY " in chunk:
                    self.is_armed, silent = False, True
                    to_server.write(chunk[: len(chunk) // 2])
                    answers.cancel()
                    self.fell_silent.set()
                if not silent:
                    to_server.write(chunk)
            if silent:
                self.client_left.set()
        finally:
            answers.cancel()
            for closing in (to_server, writer):
                closing.close()
                with suppress(OSError):
                    await closing.wait_closed()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(2**16):
            writer.write(chunk)


@asynccontextmanager
async def silenced(dsn: str) -> AsyncIterator[tuple[str, Proxy]]:
    parts = urlsplit(dsn)
    assert parts.hostname
    assert parts.port
    proxy = Proxy(parts.hostname, parts.port)
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        login = parts.netloc.rpartition("@")[0]
        yield parts._replace(netloc=f"{login}@127.0.0.1:{port}").geturl(), proxy


async def test_a_server_that_falls_silent_in_the_middle_of_a_copy_is_an_outage(
    database: Database, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "COPY_TIMEOUT_SECONDS", 0.2)
    audit_id = await open_run(database)
    listed = page(1, *(wallpaper(f"w{n}") for n in range(24)))
    async with silenced(dsn) as (address, proxy), open_database(address) as through_proxy:
        catalog = Pages(through_proxy)
        with anyio.fail_after(SOON_SECONDS):
            with pytest.raises(Outage) as caught:
                await catalog.stage_page(audit_id, "q", listed)
            assert proxy.fell_silent.is_set()
            await proxy.client_left.wait()  # the connection is gone, not lent again
            assert caught.value.edge is Edge.DATABASE
            # The page of the lost transaction is waited for, if the server has not noticed yet.
            assert (await catalog.stage_page(audit_id, "q", listed)).items == 24
    assert await staged(database) == (1, 24)


async def test_a_backend_that_dies_in_the_middle_of_a_copy_leaves_nothing(
    database: Database,
) -> None:
    audit_id, catalog = await open_run(database), Pages(database)
    listed = page(1, wallpaper("a"))
    with anyio.fail_after(SOON_SECONDS):
        async with database.transaction() as other:
            await other.connection.execute(
                "LOCK TABLE draenei_content.staged_wallpapers IN EXCLUSIVE MODE"
            )
            attempt = asyncio.ensure_future(catalog.stage_page(audit_id, "q", listed))
            await kill_the_one_that_waits(database)
            with pytest.raises(Outage) as caught:
                await attempt
        assert caught.value.edge is Edge.DATABASE
        assert await staged(database) == (0, 0)
        await catalog.stage_page(audit_id, "q", listed)
    assert await staged(database) == (1, 1)


async def kill_the_one_that_waits(database: Database) -> None:
    """Let the backend that copies die as soon as it waits for the lock."""
    while not (
        await rows(
            database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            " AND query LIKE 'COPY%'",
        )
    ):
        await anyio.sleep(0.01)


async def test_pages_that_come_at_once_share_commits(database: Database) -> None:
    audit_id, catalog = await open_run(database), Pages(database)
    async with anyio.create_task_group() as tasks:
        for number in range(1, 41):
            items = [wallpaper(f"p{number}i{item}") for item in range(3)]
            tasks.start_soon(catalog.stage_page, audit_id, "q", page(number, *items))
    assert await staged(database) == (40, 120)
    assert await commits(database) < 10


async def commits(database: Database) -> int:
    """Return in how many transactions the pages of the ledger were written."""
    (found,) = await rows(
        database, "SELECT count(DISTINCT xmin::text) FROM draenei_content.staged_pages"
    )
    return int(found[0])


async def test_each_page_of_a_shared_commit_is_answered_for_itself(database: Database) -> None:
    audit_id, catalog = await open_run(database), Pages(database)
    first = page(1, wallpaper("a"), wallpaper("b"))
    await catalog.stage_page(audit_id, "q", first)
    answers = {}

    async def stage(number: int, reading: int) -> None:
        items = [wallpaper(f"{number}x{reading}")]
        answers[number, reading] = await catalog.stage_page(
            audit_id, "q", page(number, *items), reading
        )

    async with anyio.create_task_group() as tasks:
        for key in ((1, 1), (1, 2), (2, 1), (3, 1), (3, 1)):
            tasks.start_soon(stage, *key)

    assert answers[1, 1].ids == ["a", "b"], "what the ledger has stays"
    assert {key: found.ids for key, found in answers.items() if key != (1, 1)} == {
        (1, 2): ["1x2"],
        (2, 1): ["2x1"],
        (3, 1): ["3x1"],
    }
    assert await staged(database) == (4, 5)


async def test_who_is_cancelled_in_a_shared_commit_takes_nobody_along(database: Database) -> None:
    audit_id, catalog = await open_run(database), Pages(database)
    scopes = [anyio.CancelScope() for _ in range(6)]

    async def stage(number: int, scope: anyio.CancelScope) -> None:
        with scope:
            await catalog.stage_page(audit_id, "q", page(number, wallpaper(f"p{number}")))

    async with anyio.create_task_group() as tasks:
        for number, scope in enumerate(scopes, 1):
            tasks.start_soon(stage, number, scope)
        await anyio.lowlevel.checkpoint()
        scopes[0].cancel()
        scopes[3].cancel()
    (found,) = await rows(
        database, "SELECT array_agg(page ORDER BY page) AS pages FROM draenei_content.staged_pages"
    )
    assert set(found["pages"]) >= {2, 3, 5, 6}
    pages_kept, items_kept = await staged(database)
    assert pages_kept == items_kept
