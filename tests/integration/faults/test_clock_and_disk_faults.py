"""Clocks that are wrong and disks that are full: neither loses a thing, and neither costs a try."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import anyio
import botocore.auth
import pytest
from databases import execute
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Asked, Exchange
from processes import COMMAND_TIMEOUT_SECONDS, collector, environment_of
from world import EVERYTHING, small

from collector.cli.progress import SilentProgress
from collector.core.audit import AuditRow
from collector.core.parts import PART_BYTES
from collector.core.runs import Run, RunStatus, StageName
from collector.failpoints import Point
from collector.runtime.opening import RunOptions, open_runtime
from collector.runtime.running import run_all_stages
from collector.settings import Settings
from collector.simulator import Hooks

LEASE_SECONDS = 60
HOURS = (2, -2)
KILLED = -9


def is_image(asked: Asked) -> bool:
    return asked.method == "GET"


async def attempts(world: FaultyWorld) -> int:
    """Return the attempts that are on record, of all items together."""
    count: int = await world.value(
        "SELECT coalesce(sum(attempts), 0)::int FROM draenei_content.transfers"
    )
    return count


# --- CLK-01, CLK-02: leases ----------------------------------------------------------------------


@pytest.fixture
def wandering_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine's clock be two hours fast and two hours slow by turns."""
    real, hours = time.time, cycle(HOURS)
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * next(hours))


@pytest.mark.smoke
@pytest.mark.case("CLK-01")
@pytest.mark.usefixtures("wandering_clock")
async def test_leases_and_deadlines_heed_no_clock_of_this_machine(
    open_faults: OpenFaults, small_images: Path
) -> None:
    lefts: list[float] = []
    async with open_faults(
        small(small_images, 20), collector_lease_seconds=LEASE_SECONDS, collector_in_flight=4
    ) as world:

        async def look(exchange: Exchange) -> None:
            lefts.extend(row["left"] for row in await world.rows(LEFT_OF_LEASES))
            await exchange.relay()

        world.images.on(is_image, look, times=3)
        world.images.on(is_image, http.status(503), skip=2)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 20)
        assert LEASE_SECONDS / 2 < min(lefts) <= max(lefts) <= LEASE_SECONDS
        assert 0 <= audit.duration_seconds < LEASE_SECONDS
        await world.check()


LEFT_OF_LEASES = """
SELECT extract(EPOCH FROM lease_until - clock_timestamp())::float AS left
FROM draenei_content.transfers WHERE state = 'claimed'
"""


@pytest.mark.case("CLK-02")
@pytest.mark.parametrize("images", ["small_images", "large_images"])
async def test_a_clock_of_the_database_that_jumps_past_all_leases_stores_nothing_twice(
    open_faults: OpenFaults, request: pytest.FixtureRequest, images: str
) -> None:
    folder: Path = request.getfixturevalue(images)
    count = 4 if images == "small_images" else 1
    async with open_faults(small(folder, count), collector_in_flight=count) as world:
        held, go_on = Gate(count), asyncio.Event()
        world.images.on(is_image, held.before(go_on), times=count)
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(world.run("slow"))
            await held.full.wait()
            # For the database it is two hours later now.
            await execute(world.dsn, JUMP)
            quick = await world.run("quick")
            go_on.set()
        assert quick.images_uploaded == count
        assert (slow.result().images_uploaded, slow.result().images_adopted) == (0, 0)
        assert await world.runtime.catalog.dead_letters.open_letters() == []
        await world.check()


JUMP = """
UPDATE draenei_content.transfers SET lease_until = lease_until - interval '2 hours'
WHERE state = 'claimed'
"""


class Gate:
    """Holds requests back; `full` once all that were expected are here."""

    def __init__(self, count: int) -> None:
        self.full = asyncio.Event()
        self.left = count

    def before(self, opened: asyncio.Event) -> http.Fault:
        async def fault(exchange: Exchange) -> None:
            self.left -= 1
            if self.left == 0:
                self.full.set()
            await opened.wait()
            await exchange.relay()

        return fault


# --- CLK-03: signatures --------------------------------------------------------------------------


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the clock that signs requests to the store, by hours."""
    real = botocore.auth.get_current_datetime

    def set_by(hours: float) -> None:
        shift = timedelta(hours=hours)
        monkeypatch.setattr(
            botocore.auth, "get_current_datetime", lambda *args, **kwargs: real() + shift
        )

    return set_by


@pytest.mark.case("CLK-03")
@pytest.mark.parametrize("hours", HOURS)
async def test_a_clock_that_the_store_does_not_believe_stops_a_run_before_its_first_claim(
    open_faults: OpenFaults,
    small_images: Path,
    set_clock: Callable[[float], None],
    hours: float,
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        set_clock(hours)
        audit = await run_anew(world)
        require_clock(audit)
        assert (audit.metadata_inserted, await attempts(world)) == (5, 0)
        assert world.images.asked == []
        set_clock(0)
        await world.converge(max_attempts=1)


async def run_anew(world: FaultyWorld) -> AuditRow:
    """Run as a process does that starts now."""
    async with open_runtime(world.settings, EVERYTHING, SilentProgress()) as runtime:
        return await run_all_stages(runtime, Run("tests", "run"), RunOptions(), lambda _: None)


def require_clock(audit: AuditRow) -> None:
    assert audit.status is RunStatus.FAILED
    assert "set the clock [RequestTimeTooSkewed]" in (audit.notes or "")


@pytest.mark.case("CLK-03")
async def test_a_clock_that_jumps_in_the_middle_costs_no_try(
    open_faults: OpenFaults,
    small_images: Path,
    set_clock: Callable[[float], None],
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=2) as world:

        async def jump(exchange: Exchange) -> None:
            set_clock(2)
            await exchange.relay()

        world.images.on(is_image, jump, skip=4)
        audit = await world.run()
        require_clock(audit)
        assert 3 <= audit.images_uploaded <= 5
        assert await attempts(world) == 0
        assert await world.runtime.catalog.dead_letters.open_letters() == []
        set_clock(0)
        await world.converge(max_attempts=1)


# --- CLK-04, CLK-05: what is written down ---------------------------------------------------------


@pytest.mark.case("CLK-04")
async def test_a_run_that_ends_before_it_began_has_lasted_no_time(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        for stage in (StageName.EXTRACT, StageName.LOAD, StageName.TRANSFER):
            await world.stage(stage)
        await execute(world.dsn, "UPDATE draenei_content.run_audit SET started_at = now() + '1 h'")
        audit = await world.stage(StageName.AUDIT)
        assert isinstance(audit, AuditRow)
        assert (audit.status, audit.duration_seconds) == (RunStatus.SUCCEEDED, 0.0)
        await world.check()


# When clocks in Berlin went from 02:00 to 03:00, and from 03:00 back to 02:00.
ODD_HOURS = ("2024-03-31 02:30:00", "2024-10-27 02:30:00", "2024-10-27 00:30:00")


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch, dsn: str) -> Iterator[str]:
    """Let the process live where clocks are changed twice a year; what moves the database there."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield f"ALTER DATABASE {urlsplit(dsn).path[1:]} SET timezone = 'Europe/Berlin'"
    monkeypatch.undo()
    time.tzset()


@pytest.mark.case("CLK-05")
async def test_times_are_those_of_the_source_wherever_it_is_summer(
    open_faults: OpenFaults, small_images: Path, dsn: str, berlin: str
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | {"created_at": at} for item, at in zip(items, ODD_HOURS, strict=True)]

    await execute(dsn, berlin)
    async with open_faults(small(small_images, 3), Hooks(listing=listing)) as world:
        audit = await world.run()
        times = await world.rows("SELECT source_created_at AS at FROM draenei_content.wallpapers")
        assert {row["at"].astimezone(UTC).strftime("%F %T") for row in times} == {*ODD_HOURS}
        assert audit.started_at is not None
        assert audit.started_at.utcoffset() is not None
        assert (await world.run("again", RunOptions(refresh=True))).metadata_unchanged == 3
        await world.check()


@pytest.mark.case("CLK-05")
async def test_no_column_holds_a_time_without_a_zone(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        kinds = await world.rows(
            "SELECT DISTINCT data_type AS kind FROM information_schema.columns"
            " WHERE table_schema = 'draenei_content' AND data_type ~ 'time|date'"
        )
        assert [row["kind"] for row in kinds] == ["timestamp with time zone"]
        await world.run()
        await world.check()


# --- DSK-01 to DSK-03: disks ---------------------------------------------------------------------


# A Python that becomes one which can write not one byte into any file; pipes are none.
WITHOUT_DISK = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


async def command(
    settings: Settings, *before: str, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run `collector run --json` with its output in pipes, unless `options` say otherwise."""
    with anyio.fail_after(COMMAND_TIMEOUT_SECONDS):
        return await anyio.run_process(
            [sys.executable, *before, "-m", "collector", "run", "--run-id", "run", "--json"],
            env=environment_of(settings, PYTHONDONTWRITEBYTECODE="1"),
            check=False,
            **options,
        )


@pytest.mark.case("DSK-01")
@pytest.mark.parametrize("images", ["small_images", "large_images"])
async def test_a_run_needs_no_disk(
    open_faults: OpenFaults, request: pytest.FixtureRequest, images: str
) -> None:
    options = small(request.getfixturevalue(images), 30 if images == "small_images" else 1)
    async with open_faults(options) as world:
        ended = await command(world.settings, "-c", WITHOUT_DISK)
        assert ended.returncode == 0, ended.stderr
        assert f'"images_uploaded": {len(world.truth())}'.encode() in ended.stdout
        await world.check()


@pytest.mark.case("DSK-02")
async def test_who_is_killed_in_the_middle_of_an_image_leaves_no_file(
    open_faults: OpenFaults, large_images: Path, tmp_path: Path
) -> None:
    async with open_faults(small(large_images, 1), collector_lease_seconds=3) as world:
        places = {name: str(tmp_path) for name in ("TMPDIR", "HOME", "COLLECTOR_HOME")}
        killed = await collector(
            world.settings, "run", failpoint=f"{Point.PART_STORED}:kill", env=places
        )
        assert killed.status == KILLED, killed.stderr
        assert list(tmp_path.iterdir()) == []
        await world.converge()


@pytest.fixture
def full() -> Iterator[BinaryIO]:
    """A file on a disk that is full."""
    with Path("/dev/full").open("wb") as file:
        yield file


@pytest.mark.case("DSK-03")
@pytest.mark.parametrize("stream", ["stderr", "stdout"])
async def test_a_full_disk_under_the_log_loses_no_image(
    open_faults: OpenFaults, small_images: Path, full: BinaryIO, stream: str
) -> None:
    async with open_faults(small(small_images, 10)) as world:
        ended = await command(world.settings, **{stream: full})
        # Where the answer is lost, who called must learn of it.
        assert ended.returncode == (0 if stream == "stderr" else 1), ended.stderr
        assert await world.objects() == world.truth()
        await world.check()
        assert b"Traceback" not in (ended.stderr or b"")


# --- DSK-04: memory ------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.case("DSK-04")
async def test_bodies_in_flight_are_bounded_in_bytes_and_not_by_their_count(
    open_faults: OpenFaults, large_images: Path
) -> None:
    budget = 4 * PART_BYTES
    async with open_faults(
        small(large_images, 3), collector_in_flight=64, collector_memory_bytes=budget
    ) as world:
        watch = Watch()
        world.images.on(is_image, watch.relay, times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 3)
        assert watch.most == budget // (2 * PART_BYTES), "each holds two parts at most"
        stages: Any = audit.report["stages"]
        assert stages["transfer"]["peak_body_bytes"] == budget
        await world.check()


class Watch:
    """Counts the bodies that are under way at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def relay(self, exchange: Exchange) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await exchange.relay()
        self.now -= 1
