"""The peers themselves: what no rule is about passes unchanged, and a rule does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from faulty_world import OpenFaults
from peers import http
from peers.postgres import Cut
from world import small

from collector.core.runs import RunStatus


@pytest.mark.parametrize("images", ["small", "large"])
async def test_what_no_rule_is_about_passes(
    open_faults: OpenFaults, small_images: Path, large_images: Path, images: str
) -> None:
    options = small(small_images, 30) if images == "small" else small(large_images, 1)
    async with open_faults(options) as world:
        audit = await world.run()
        assert audit.status is RunStatus.SUCCEEDED
        assert audit.images_uploaded == len(world.truth())
        probes = [key for key in world.store.commits if key.startswith(".probe/")]
        assert sorted({*world.store.commits} - {*probes}) == sorted(world.truth())
        assert world.images.count(lambda asked: True) == len(world.truth())
        assert any(b"-- The object of a claim" in text for text in world.database.statements)
        await world.check()


async def test_a_reply_that_is_lost_leaves_what_was_done(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        world.store.on(lambda asked: "/wallpapers/" in asked.path, http.lose_reply)
        audit = await world.run()
        assert audit.images_uploaded == 3
        await world.check()


async def test_a_database_that_goes_down_is_an_outage(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        world.database.on("-- The object of a claim", Cut.AFTER)
        assert (await world.run()).status is RunStatus.FAILED
        await world.converge()
