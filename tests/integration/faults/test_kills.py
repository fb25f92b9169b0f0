"""The kill matrix: dead at each point, for small and large images; then the run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import oracle
import pytest
from processes import collector
from world import OpenWorld, World, small

from collector.failpoints import Point
from collector.simulator import SimulatorOptions

KILLED = -9
# The points of a run, K0 to K12, and those that only images of more than one part come to.
SINGLE = {
    "K0": Point.STARTED,
    "K1": Point.RUN_OPENED,
    "K2": Point.PAGE_FETCHED,
    "K3": Point.PAGE_COPIED,
    "K3 committed": Point.PAGE_STAGED,
    "K4": Point.MERGED,
    "K5": Point.CLAIMED,
    "K6": Point.BODY_ARRIVING,
    "K10": Point.WRITTEN,
    "K11": Point.VERIFIED,
    "K12": Point.CONFIRMED,
}
LARGE = {
    "K7": Point.UPLOAD_BEGUN,
    "K8 noted": Point.UPLOAD_NOTED,
    "K8": Point.PART_STORED,
    "K9": Point.PARTS_STORED,
}
# What `make test` tries: the object is stored, and its row does not know yet.
SMOKE = "K10 single"


def _case(images: str, name: str, point: Point) -> Any:
    marks = [pytest.mark.case(f"{name.split(maxsplit=1)[0]} {images}")]
    if f"{name} {images}" == SMOKE:
        marks.append(pytest.mark.smoke)
    return pytest.param(images, point, id=f"{name} {images}", marks=marks)


CASES = [
    _case(images, name, point)
    for images, points in (("single", SINGLE), ("multipart", {**SINGLE, **LARGE}))
    for name, point in points.items()
]
# Where the dead one leaves something behind, a run of another name finds it, too.
LEAVES = ("K1", "K3 committed", "K5", "K7", "K8", "K10")
OTHERS = [
    pytest.param(*case.values, id=case.id) for case in CASES if case.id.rpartition(" ")[0] in LEAVES
]
JANITOR = ("janitor", "--upload-age", "0", "--run-silence", "0", "--json")
# Long enough for a busy machine between two heartbeats, short enough to wait for.
LEASE = {"collector_lease_seconds": 3}


@pytest.fixture
def folders(small_images: Path, large_images: Path) -> dict[str, SimulatorOptions]:
    """What there is to mirror."""
    return {"single": small(small_images, 30), "multipart": small(large_images, 2)}


@pytest.mark.parametrize(("images", "point"), CASES)
async def test_the_same_run_goes_on(
    open_world: OpenWorld, folders: dict[str, SimulatorOptions], images: str, point: Point
) -> None:
    await _killed_and_gone_on(open_world, folders[images], point, "first")


@pytest.mark.parametrize(("images", "point"), OTHERS)
async def test_another_run_finds_what_it_left(
    open_world: OpenWorld, folders: dict[str, SimulatorOptions], images: str, point: Point
) -> None:
    await _killed_and_gone_on(open_world, folders[images], point, "second")


async def _killed_and_gone_on(
    open_world: OpenWorld, options: SimulatorOptions, point: Point, run_id: str
) -> None:
    async with open_world(options, **LEASE, collector_in_flight=2) as world:
        killed = await collector(
            world.settings, "run", "--run-id", "first", failpoint=f"{point}:kill"
        )
        assert killed.status == KILLED, killed.stderr
        # What the dead one had in its hands is free again when its lease has lapsed.
        await _lapse(world)
        went_on = await collector(world.settings, "run", "--run-id", run_id, "--json")
        assert went_on.status == 0, went_on.stderr
        tidied = await collector(world.settings, *JANITOR)
        assert tidied.status == 0, tidied.stderr
        await _checked(world)


async def _lapse(world: World) -> None:
    await world.rows(
        "UPDATE draenei_content.transfers SET lease_until = now() WHERE state = 'claimed'"
    )


async def _checked(world: World) -> None:
    assert world.settings.database_url is not None
    evidence = oracle.Evidence(world.truth())
    await oracle.check(
        world.settings.database_url.get_secret_value(), world.runtime.store, evidence
    )
    assert await world.objects() == world.truth()


def test_the_matrix_has_every_point_of_a_transfer() -> None:
    assert set(SINGLE.values()) | set(LARGE.values()) == set(Point)
