"""The process itself in trouble: killed by an item, stopped, starved, doubled, cut off."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.http import Fault
from peers.postgres import Cut
from processes import collector, started
from world import small

from collector.core.images import ImageType
from collector.core.runs import RunStatus
from collector.failpoints import Point
from collector.runtime.wiring import JanitorOptions, run_janitor
from collector.simulator import SimulatorOptions

ROOT = Path(__file__).resolve().parents[3]
LEASE = {"collector_lease_seconds": 3}
LEASE_SECONDS = 3
FEW_FILES = 64


@pytest.fixture
def folders(small_images: Path, large_images: Path) -> dict[str, SimulatorOptions]:
    """What there is to mirror."""
    return {"single": small(small_images, 12), "multipart": small(large_images, 1)}


async def codes(world: FaultyWorld) -> dict[str, str]:
    letters = await world.runtime.catalog.dead_letters.open_letters()
    return {str(letter.wallhaven_id): letter.code for letter in letters}


@pytest.mark.case("PROC-04")
async def test_an_image_that_kills_its_process_each_time_is_given_up(
    open_faults: OpenFaults, folders: dict[str, SimulatorOptions]
) -> None:
    async with open_faults(folders["multipart"], **LEASE, collector_max_attempts=3) as world:
        (poison,) = world.simulator.catalogue
        for number in range(3):
            killed = await collector(
                world.settings,
                *("run", "--run-id", f"{number}"),
                failpoint=f"{Point.BODY_ARRIVING}:kill",
            )
            assert killed.status == -signal.SIGKILL
            await world.rows(
                "UPDATE draenei_content.transfers SET lease_until = now() WHERE state = 'claimed'"
            )
        # A fourth process outlives it, because it is not tried again.
        audit = await world.run("last")
        assert audit.status is RunStatus.PARTIAL
        assert await codes(world) == {poison.id: "exhausted"}
        await world.tidy_up()
        await world.check()


@pytest.mark.case("PROC-05")
async def test_who_slept_for_half_a_lease_does_not_write_what_it_held(
    open_faults: OpenFaults, folders: dict[str, SimulatorOptions]
) -> None:
    async with open_faults(folders["single"], **LEASE, collector_in_flight=1) as world:
        async with started(
            world.settings, "run", failpoint=f"{Point.BODY_ARRIVING}:stop"
        ) as running:
            await running.stopped()
            # Its lease has not lapsed, and nobody else has come: it must not write all the same.
            await anyio.sleep(LEASE_SECONDS * 0.6)
            (asked,) = [it.path for it in world.images.asked]
            running.go_on()
            ended = await running.ended()
        assert ended.status == 0, ended.stderr
        assert ended.stderr.count("is lost") == 1
        # It was fetched for nothing, and fetched again when its lease had lapsed.
        assert world.images.count(lambda it: it.path == asked) == 2
        await world.converge()


@pytest.mark.case("PROC-06")
async def test_too_few_files_are_nobodys_fault_but_the_hosts(
    open_faults: OpenFaults, small_images: Path
) -> None:
    few = ("sh", "-c", f'ulimit -n {FEW_FILES}; exec "$@"', "sh")
    async with open_faults(small(small_images, 200), collector_in_flight=100) as world:
        async with started(world.settings, "run", "--json", before=few) as running:
            ended = await running.ended()
        # It may get through with those that it has; if not, it says so.
        assert ended.status in (0, 1), ended.stderr
        assert "internal_error" not in ended.stdout + str(await codes(world))
        if ended.status:
            assert await codes(world) == {}
        await world.converge()


MIXED: dict[str, Fault] = {
    "not_found": http.status(404),
    "gone": http.status(410),
    "html_response": http.status(200, b"<html>", content_type="text/html"),
    "source_error": http.status(500),
    "empty": http.status(200, content_type="image/jpeg"),
}


@pytest.mark.case("PROC-07")
async def test_failures_at_once_are_told_apart_and_a_signal_is_none(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_max_attempts=1) as world:
        bad = dict(zip((it.id for it in world.simulator.catalogue), MIXED.items(), strict=False))
        for wallhaven_id, (_, fault) in bad.items():
            world.images.on(_about(wallhaven_id), fault, times=None)
        held = list(world.simulator.catalogue)[-1].id
        world.images.on(_about(held), http.hang, times=1)
        async with started(world.settings, "run", "--run-id", "first") as running:
            while (
                await world.value("SELECT count(*) FROM draenei_content.run_items")
                < len(world.truth()) - 1
            ):
                await anyio.sleep(0.05)
            running.process.send_signal(signal.SIGTERM)
            assert (await running.ended()).status == 75
        assert await codes(world) == {id_: code for id_, (code, _) in bad.items()}
        waiting = await world.rows(
            "SELECT state, attempts FROM draenei_content.transfers WHERE state <> 'dead'"
        )
        assert [tuple(row) for row in waiting] == [("pending", 0)]
        world.heal()
        await world.run("first")
        await world.check()


def _about(wallhaven_id: str) -> Callable[..., bool]:
    return lambda asked: wallhaven_id in asked.path


@pytest.mark.smoke
@pytest.mark.case("PROC-08")
async def test_a_dead_letter_that_cannot_be_written_leaves_the_item_to_be_tried(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 6), **LEASE) as world:
        bad = world.simulator.catalogue[2].id
        world.images.on(_about(bad), http.status(410), times=None)
        world.database.on("-- A claim ($1", Cut.BEFORE)
        audit = await world.run()
        assert audit.status is RunStatus.FAILED
        assert await codes(world) == {}
        # The host still says so, and this time it can be written down.
        world.database.heal()
        assert (await world.run("again")).status is RunStatus.PARTIAL
        assert await codes(world) == {bad: "gone"}
        await world.tidy_up()
        await world.check()


@pytest.mark.case("PROC-09")
async def test_who_comes_late_to_tidy_up_takes_nothing_away(
    open_faults: OpenFaults, folders: dict[str, SimulatorOptions]
) -> None:
    async with open_faults(folders["multipart"]) as world:
        (wallpaper,) = world.simulator.catalogue
        late = await world.bucket.begin(
            f"wallpapers/{wallpaper.id}.{wallpaper.extension}",
            content_type=ImageType.PNG,
            token="late",
        )
        assert (await world.run()).images_uploaded == 1
        await world.bucket.abort(late)
        assert await world.objects() == world.truth()
        await world.check()


@pytest.mark.case("PROC-10")
def test_an_import_opens_nothing_so_that_a_fork_has_nothing_to_share() -> None:
    program = (
        "import asyncio, os, threading\n"
        "import collector.cli, collector.runtime\n"
        "assert threading.active_count() == 1\n"
        "assert not [f for f in os.listdir('/dev/fd') if int(f) > 2 and os.path.exists("
        "f'/dev/fd/{f}') and 'socket' in os.readlink(f'/dev/fd/{f}')]\n"
        "child = os.fork()\n"
        "async def main(): pass\n"
        "asyncio.run(main())\n"
        "assert child == 0 or os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.case("PROC-11")
async def test_two_processes_of_one_run_share_it(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 60), collector_in_flight=4) as world:
        async with (
            started(world.settings, "run", "--run-id", "twice", "--json") as first,
            started(world.settings, "run", "--run-id", "twice", "--json") as second,
        ):
            ended = [await each.ended() for each in (first, second)]
        assert {each.status for each in ended} == {0}, [each.stderr for each in ended]
        (row,) = await world.rows("SELECT * FROM draenei_content.run_audit")
        assert row["images_uploaded"] == len(world.truth())
        await world.check()


@pytest.mark.case("PROC-12")
@pytest.mark.parametrize("point", [Point.BODY_ARRIVING, Point.WRITTEN, Point.VERIFIED])
@pytest.mark.parametrize("images", ["single", "multipart"])
async def test_who_slept_beyond_the_lease_changes_nothing(
    open_faults: OpenFaults, folders: dict[str, SimulatorOptions], images: str, point: Point
) -> None:
    async with open_faults(folders[images], **LEASE, collector_in_flight=1) as world:
        async with started(
            world.settings, "run", "--run-id", "asleep", failpoint=f"{point}:stop"
        ) as running:
            await running.stopped()
            await world.rows(
                "UPDATE draenei_content.transfers SET lease_until = now() WHERE state = 'claimed'"
            )
            awake = await collector(world.settings, "run", "--run-id", "awake", "--json")
            assert awake.status == 0, awake.stderr
            await anyio.sleep(LEASE_SECONDS / 2)
            running.go_on()
            ended = await running.ended()
        assert ended.status == 0, ended.stderr
        assert await world.objects() == world.truth()
        await world.tidy_up()
        await world.check()


@pytest.mark.case("PROC-13")
def test_a_signal_to_the_container_reaches_python() -> None:
    entries = re.findall(
        r"^(?:ENTRYPOINT|CMD) (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )
    assert entries
    # A shell between would be process 1, and pass no signal on.
    assert [entry for entry in entries if not entry.startswith("[")] == []


@pytest.mark.case("PROC-14")
async def test_nobody_who_listens_is_no_failure_of_an_image(
    open_faults: OpenFaults, small_images: Path, tmp_path: Path
) -> None:
    status = tmp_path / "status"
    deaf = ("sh", "-c", '{ "$@" 2>&1; echo $? > "$0"; } | true', str(status))
    async with open_faults(small(small_images, 30)) as world:
        async with started(world.settings, "run", before=deaf) as running:
            await running.ended()
        await _without_work(world)
        assert status.read_text() == "0\n"
        assert await world.objects() == world.truth()
        assert await codes(world) == {}
        await run_janitor(world.runtime, JanitorOptions(run_silence_seconds=0))
        await world.check()


@pytest.mark.case("PROC-16")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
async def test_a_descriptor_that_is_closed_at_the_start_changes_nothing(
    open_faults: OpenFaults, small_images: Path, closed: str
) -> None:
    without = ("sh", "-c", f'exec "$@" {closed}', "sh")
    async with open_faults(small(small_images, 3)) as world:
        async with started(world.settings, "run", before=without) as running:
            ended = await running.ended()
        assert ended.status == 0, ended.stderr
        await world.check()


async def _without_work(world: FaultyWorld) -> None:
    """Wait until the run has ended; the shell has, before it."""
    with anyio.fail_after(30):
        while (
            await world.value(
                "SELECT count(*) FROM draenei_content.run_audit WHERE status <> 'running'"
            )
            < 1
        ):
            await anyio.sleep(0.1)
