"""Every rehearsal that the documents recommend comes to its end, with a search and with `*`.

Only the clock is faster: windows of the rate limit and latencies are a thirtieth of the profile's.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from world import OpenWorld, World

from collector.core.audit import AuditRow
from collector.core.runs import Run, RunStatus
from collector.runtime.backfilling import (
    BackfillOptions,
    find_crawl,
    is_over,
    run_backfill,
    run_for,
)
from collector.simulator import Profile, SimulatorOptions
from collector.simulator.profile import profile_of, read_profile, ready_profiles

ROOT = Path(__file__).parents[3]
WHOLE = BackfillOptions()
FASTER = 30
# What fails is tried again by the same command, five times in all, twice in each.
MAX_CALLS = 4
SOON_SECONDS = 60.0


def documented_profile() -> Profile:
    """Return the profile that docs/simulator.md shows as one of one's own."""
    text = (ROOT / "docs" / "simulator.md").read_text()
    (shown,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    return profile_of(tomllib.loads(shown), "rehearsal.toml")


# What docs/how-to/rehearse.md and docs/simulator.md say after `collector simulate`.
REHEARSALS = {
    **{name: (lambda name=name: read_profile(name), {}) for name in ready_profiles()},
    "without a profile": (Profile, {"wallpapers": 50}),
    "a profile of one's own": (documented_profile, {"wallpapers": 500}),
}


def rehearsal(name: str, images: Path) -> SimulatorOptions:
    read, given = REHEARSALS[name]
    profile = read()
    hurried = replace(
        profile,
        limit=replace(profile.limit, window_seconds=profile.limit.window_seconds / FASTER),
        defaults=replace(
            profile.defaults,
            latency_seconds=profile.defaults.latency_seconds / FASTER,
            image_latency_seconds=profile.defaults.image_latency_seconds / FASTER,
        ),
    )
    return SimulatorOptions.of(hurried, images=images, **given)


async def backfilled(world: World) -> list[AuditRow]:
    """Give the command again and again until it says that it is over, or what is missing."""
    rows: list[AuditRow] = []
    while len(rows) < MAX_CALLS:
        known = await find_crawl(world.runtime, WHOLE)
        if known is not None and (is_over(known, WHOLE) or known.verdict is not None):
            return rows
        run = run_for(known, Run("tests", f"call {len(rows)}"))
        rows.append(await run_backfill(world.runtime, run, WHOLE, lambda _: None))
    known = await find_crawl(world.runtime, WHOLE)
    assert known is not None
    assert known.verdict is not None, [row.notes for row in rows]
    return rows


@pytest.mark.case("API-32")
@pytest.mark.parametrize("query", ["draenei", "*"])
@pytest.mark.parametrize("name", REHEARSALS)
async def test_a_backfill_of_each_rehearsal_ends(
    open_world: OpenWorld, small_images: Path, name: str, query: str
) -> None:
    options = rehearsal(name, small_images)
    async with open_world(options, wallhaven_query=query) as world:
        with anyio.fail_after(SOON_SECONDS):
            rows = await backfilled(world)
        assert {row.run_id for row in rows} == {"call 0"}, "one crawl is one run"
        assert all(row.status in (RunStatus.SUCCEEDED, RunStatus.PARTIAL) for row in rows), [
            row.notes for row in rows
        ]
        if not options.profile.drift.upcoming:
            assert (len(rows), rows[0].status) == (1, RunStatus.SUCCEEDED), rows[0].notes
            assert await world.objects() == world.truth()


@pytest.mark.case("API-32")
@pytest.mark.parametrize("query", ["draenei", "*"])
@pytest.mark.parametrize("name", REHEARSALS)
async def test_runs_of_each_rehearsal_end(
    open_world: OpenWorld, small_images: Path, name: str, query: str
) -> None:
    async with open_world(rehearsal(name, small_images), wallhaven_query=query) as world:
        for day in ("today", "tomorrow"):
            with anyio.fail_after(SOON_SECONDS):
                row = await world.run(day)
            assert row.status in (RunStatus.SUCCEEDED, RunStatus.PARTIAL), row.notes


def test_the_documents_recommend_no_other_rehearsal() -> None:
    texts = [(ROOT / name).read_text() for name in ("docs/how-to/rehearse.md", "docs/simulator.md")]
    asked = {
        profile
        for text in texts
        for profile in re.findall(r"simulate .*--profile ([\w./-]+)", text)
    }
    assert asked - {"./rehearsal.toml", "FILE"} <= set(ready_profiles())
