"""Dead letters by the thousand: closing them costs as much for each as closing few does."""

from __future__ import annotations

import gc
import time

import pytest

from collector.catalog import Database, DeadLetters
from collector.core.history import Choice

FEW, MANY = 2_000, 16_000
# Eight times as many letters: linear work takes eight times as long, quadratic 64 times.
MAX_TIMES_AS_LONG = 20.0

FILL = """
TRUNCATE draenei_content.wallpapers, draenei_content.dead_letters RESTART IDENTITY CASCADE;
INSERT INTO draenei_content.wallpapers (wallhaven_id, url)
    SELECT 'w' || n, 'https://w/' || n FROM generate_series(1, {letters}) AS n;
INSERT INTO draenei_content.transfers (wallpaper_id, state, attempts)
    SELECT id, 'dead', 5 FROM draenei_content.wallpapers;
INSERT INTO draenei_content.dead_letters (stage, item, wallhaven_id, code, reason, run_id)
    SELECT 'transfer', wallhaven_id, wallhaven_id, 'gone', 'HTTP 410', 'run'
    FROM draenei_content.wallpapers ORDER BY id;
ANALYZE;
"""


@pytest.fixture
def letters(database: Database) -> DeadLetters:
    return DeadLetters(database)


async def fill(database: Database, count: int) -> None:
    async with database.session() as session:
        await session.connection.execute(FILL.format(letters=count))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["all", "by item", "by number"])
@pytest.mark.parametrize("done", ["requeue", "resolve"])
async def test_closing_many_costs_as_much_for_each_as_closing_few(
    database: Database, letters: DeadLetters, way: str, done: str
) -> None:
    seconds = {}
    for count in (FEW, MANY):
        await fill(database, count)
        names = {
            "all": None,
            "by item": [f"w{n}" for n in range(1, count + 1)],
            "by number": [str(n) for n in range(1, count + 1)],
        }[way]
        # What earlier tests have left in memory is no part of the work.
        gc.disable()
        began = time.process_time()
        changed = await getattr(letters, done)(Choice(names))
        seconds[count] = time.process_time() - began
        gc.enable()
        assert (len(changed.closed), changed.left, changed.unknown) == (count, [], [])
        assert await letters.open_letters() == []
    assert seconds[MANY] <= MAX_TIMES_AS_LONG * seconds[FEW], seconds


async def test_a_name_that_is_an_item_is_no_number(
    database: Database, letters: DeadLetters
) -> None:
    await fill(database, 5)
    async with database.session() as session:
        await session.connection.execute(
            "UPDATE draenei_content.dead_letters SET item = '2' WHERE id = 4;"
            "UPDATE draenei_content.dead_letters SET code = 'not_found' WHERE id = 5"
        )
    changed = await letters.resolve(Choice(["2", "2", "3", "5", "w5", "nobody"], "gone"))
    assert [letter.id for letter in changed.closed] == [3, 4]
    assert changed.unknown == ["5", "w5", "nobody"]
