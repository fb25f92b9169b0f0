"""An edge that goes down with the last images: too few to tell, so it is asked once more."""

from __future__ import annotations

from pathlib import Path

import pytest
from faulty_world import OpenFaults
from peers import http
from world import small

from collector.core.runs import RunStatus


@pytest.mark.case("CDN-16")
async def test_a_host_that_goes_down_for_the_last_images_is_an_outage(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=2) as world:
        world.images.on(lambda _: len(world.images.asked) > 9, http.status(503), times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.FAILED, 9)
        assert "failed for the last images" in str(audit.notes)
        tried = await world.rows("SELECT attempts FROM draenei_content.transfers")
        assert {row["attempts"] for row in tried} == {0}
        await world.converge()
        assert await world.objects() == world.truth()


@pytest.mark.case("CDN-16")
async def test_an_image_that_fails_last_is_no_outage_where_the_host_delivers_others(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 6)) as world:
        bad = world.simulator.catalogue[2].id
        world.images.on(lambda asked: bad in asked.path, http.status(503), times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 5)
        await world.converge()
