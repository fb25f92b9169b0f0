"""Asked to end, at each point of a run: it does so in time, hands all back, and can go on."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Asked
from processes import COMMAND_TIMEOUT_SECONDS, Running, collector, environment_of, started
from world import small

from collector.failpoints import VARIABLE, Point
from collector.simulator import SimulatorOptions

# Airflow kills five seconds after it has asked; a second of these is its own.
LONGEST_END_SECONDS = 4.0
INTERRUPTED, TERMINATED = 75, -15
OF_LARGE_IMAGES = {
    *(Point.UPLOAD_BEGUN, Point.UPLOAD_NOTED, Point.PART_STORED, Point.PARTS_STORED),
}
POINTS = [
    pytest.param(images, point, id=f"{point} {images}")
    for images in ("single", "multipart")
    for point in Point
    if images == "multipart" or point not in OF_LARGE_IMAGES
]
# `make reliability` asks more often, for the figure on its page.
REPEATS = int(os.environ.get("CASE_REPEATS", "1"))
LEASE = {"collector_lease_seconds": 3, "collector_in_flight": 2}

Record = Callable[[str, object], None]


@pytest.fixture
def folders(small_images: Path, large_images: Path) -> dict[str, SimulatorOptions]:
    """What there is to mirror."""
    return {"single": small(small_images, 30), "multipart": small(large_images, 2)}


def _is_abort(asked: Asked) -> bool:
    # Not those of the probe, which comes first.
    return asked.method == "DELETE" and "/wallpapers/" in asked.path


async def _ended(running: Running, since: float) -> tuple[int, float]:
    ended = await running.ended(3 * LONGEST_END_SECONDS)
    return ended.status, time.monotonic() - since


async def _nothing_is_held(world: FaultyWorld) -> None:
    held = await world.rows(
        "SELECT state, attempts FROM draenei_content.transfers WHERE state <> 'pending' OR"
        " attempts > 0"
    )
    assert [tuple(row) for row in held] == []
    runs = await world.rows("SELECT status FROM draenei_content.run_audit")
    assert {row["status"] for row in runs} <= {"interrupted"}


@pytest.mark.case("PROC-01")
@pytest.mark.parametrize("repeat", range(REPEATS))
@pytest.mark.parametrize(("images", "point"), POINTS)
async def test_sigterm_at_any_point_hands_all_back_in_time(
    open_faults: OpenFaults,
    folders: dict[str, SimulatorOptions],
    record_property: Record,
    images: str,
    point: Point,
    repeat: int,
) -> None:
    async with open_faults(folders[images], **LEASE) as world:
        async with started(
            world.settings, "run", "--run-id", "first", failpoint=f"{point}:stop"
        ) as running:
            await running.stopped()
            status, seconds = await _ended(running, running.go_on(signal.SIGTERM))
        record_property("sigterm_seconds", seconds)
        assert status == INTERRUPTED
        assert seconds < LONGEST_END_SECONDS
        await _nothing_is_held(world)
        went_on = await collector(world.settings, "run", "--run-id", "first", "--json")
        assert went_on.status == 0, went_on.stderr
        # An upload that was being begun when the signal came is nobody's: the janitor finds it.
        await world.tidy_up()
        await world.check()


@pytest.mark.case("PROC-02")
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once_and_loses_nothing(
    open_faults: OpenFaults, folders: dict[str, SimulatorOptions], second: signal.Signals
) -> None:
    async with open_faults(folders["multipart"], **LEASE) as world:
        # So that the clean end takes a while.
        world.store.on(_is_abort, http.hang, times=None)
        async with started(
            world.settings, "run", "--run-id", "first", failpoint=f"{Point.PART_STORED}:stop"
        ) as running:
            await running.stopped()
            running.go_on(signal.SIGTERM)
            while not world.store.count(_is_abort):
                await anyio.sleep(0.01)
            running.process.send_signal(second)
            status, seconds = await _ended(running, time.monotonic())
        assert status == TERMINATED
        assert seconds < 1
        await world.converge("second")


@pytest.mark.case("PROC-03")
async def test_an_abort_that_is_not_answered_does_not_hold_up_the_end(
    open_faults: OpenFaults, folders: dict[str, SimulatorOptions], record_property: Record
) -> None:
    async with open_faults(folders["multipart"], **LEASE) as world:
        world.store.on(_is_abort, http.hang, times=None)
        async with started(
            world.settings, "run", "--run-id", "first", failpoint=f"{Point.PART_STORED}:stop"
        ) as running:
            await running.stopped()
            status, seconds = await _ended(running, running.go_on(signal.SIGTERM))
        record_property("sigterm_seconds", seconds)
        assert status == INTERRUPTED
        assert seconds < LONGEST_END_SECONDS
        # Its id is noted, so that it can be aborted later.
        assert await world.value(
            "SELECT count(*) FROM draenei_content.transfers WHERE upload_id IS NOT NULL"
        )
        await world.converge("second")


class Terminal:
    """A terminal with one program on it."""

    def __init__(self) -> None:
        self._keyboard, self._screen = pty.openpty()

    def start(self, words: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a program as the leader of a session of this terminal."""
        return subprocess.Popen(
            words,
            env=env,
            stdin=self._screen,
            stdout=self._screen,
            stderr=self._screen,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )

    def hang_up(self) -> None:
        """Go away, as a dropped connection makes a terminal do."""
        for descriptor in (self._keyboard, self._screen):
            if descriptor >= 0:
                os.close(descriptor)
        self._keyboard = self._screen = -1


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal that is gone in the end."""
    opened = Terminal()
    yield opened
    opened.hang_up()


@pytest.mark.case("PROC-15")
async def test_a_terminal_that_hangs_up_ends_a_run_as_sigterm_does(
    open_faults: OpenFaults, folders: dict[str, SimulatorOptions], terminal: Terminal
) -> None:
    async with open_faults(folders["single"], **LEASE) as world:
        words = [sys.executable, "-m", "collector", "run", "--run-id", "first"]
        armed = {VARIABLE: f"{Point.CLAIMED}:stop"}
        process = terminal.start(words, environment_of(world.settings, **armed))
        try:
            _, state = await anyio.to_thread.run_sync(os.waitpid, process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(state)
            terminal.hang_up()  # which also lets it go on
            status = await anyio.to_thread.run_sync(process.wait, COMMAND_TIMEOUT_SECONDS)
        finally:
            process.kill()
        assert status == INTERRUPTED
        await _nothing_is_held(world)
        await world.converge("first")
