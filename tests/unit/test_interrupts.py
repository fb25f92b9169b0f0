"""Signals: the first one cancels cleanly, the second one ends the process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import collector
from collector.core.errors import Edge, Outage
from collector.interrupts import run_interruptible

CHECKOUT = Path(collector.__file__).parents[1]
RESUMABLE = 75
# A process that hangs fails its test after this; it takes a fraction of a second.
TIMEOUT_SECONDS = 30

SCRIPT = """
import signal
import sys
import anyio
from collector.interrupts import Interrupted, run_interruptible

async def told():
    await usr1.__anext__()

async def main():
    global usr1
    try:
        receiver = anyio.open_signal_receiver(signal.SIGUSR1)
        usr1 = receiver.__enter__()
        print("ready", flush=True)
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            print("cleaning", flush=True)
            await {cleanup}
            print("cleaned", flush=True)

try:
    run_interruptible(main, lambda: print("told", flush=True))
except Interrupted as interrupted:
    print(interrupted.number.name)
    sys.exit(75)
"""
TOLD = "told()"
QUICK, ENDLESS = "anyio.sleep(0)", "anyio.sleep_forever()"

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]
each_signal = pytest.mark.parametrize("number", SIGNALS)


@contextmanager
def running(cleanup: str, *before: str) -> Iterator[subprocess.Popen[str]]:
    command = [*before, sys.executable, "-c", SCRIPT.format(cleanup=cleanup)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert next_line(process) == "ready"
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


@each_signal
def test_the_first_signal_cancels_and_waits_for_the_cleanup(number: signal.Signals) -> None:
    with running(QUICK) as process:
        process.send_signal(number)
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert output.split() == ["told", "cleaning", "cleaned", number.name]
    assert process.returncode == RESUMABLE


def test_a_hangup_that_was_ignored_at_the_start_stays_ignored() -> None:
    with running(QUICK, "sh", "-c", 'trap "" HUP; exec "$@"', "nohup") as process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert output.split() == ["told", "cleaning", "cleaned", "SIGTERM"]
    assert process.returncode == RESUMABLE


@pytest.mark.case("PROC-16")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_descriptor_is_opened_on_the_null_device(closed: str) -> None:
    script = (
        "import os, sys; from collector.interrupts import run_interruptible\n"
        "async def main(): pass\n"
        "run_interruptible(main)\n"
        "kinds = {os.fstat(number).st_rdev for number in range(3)}\n"
        "sys.exit(os.stat(os.devnull).st_rdev not in kinds)\n"
    )
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", script]
    ended = subprocess.run(
        words, cwd=CHECKOUT, capture_output=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert ended.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    with running(ENDLESS) as process:
        process.send_signal(signal.SIGTERM)
        assert [next_line(process), next_line(process)] == ["told", "cleaning"]
        process.send_signal(number)
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert output == ""
    assert process.returncode == -signal.SIGTERM


def test_a_hangup_beside_another_signal_is_the_same_end() -> None:
    with running(TOLD) as process:
        process.send_signal(signal.SIGTERM)
        assert [next_line(process), next_line(process)] == ["told", "cleaning"]
        process.send_signal(signal.SIGHUP)
        # The cleanup waits for a SIGUSR1, which comes after the SIGHUP.
        process.send_signal(signal.SIGUSR1)
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert output.split() == ["cleaned", "SIGTERM"]
    assert process.returncode == RESUMABLE


def test_without_a_signal_the_result_is_returned() -> None:
    async def main() -> str:
        await anyio.lowlevel.checkpoint()
        return "done"

    before = list(map(signal.getsignal, SIGNALS))
    assert run_interruptible(main) == "done"
    assert list(map(signal.getsignal, SIGNALS)) == before


def test_nothing_is_a_result_too() -> None:
    async def main() -> None:
        await anyio.lowlevel.checkpoint()

    assert run_interruptible(main) is None


def test_an_error_is_raised_as_it_is() -> None:
    async def main() -> None:
        raise Outage(Edge.DATABASE, "gone")

    with pytest.raises(Outage, match="database: gone"):
        run_interruptible(main)


class _TimeOut(Exception):
    """What a caller's handler of SIGALRM raises."""


@pytest.mark.case("AF-03")
def test_an_alarm_of_the_caller_cancels_and_then_reaches_the_caller() -> None:
    ends: list[str] = []

    def handler(*_: object) -> None:
        ends.append("handled")
        raise _TimeOut

    async def main() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            await anyio.sleep(TIMEOUT_SECONDS)
        finally:
            ends.append("cleaned up")

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(_TimeOut):
            run_interruptible(main)
        assert signal.getsignal(signal.SIGALRM) is handler
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ends == ["cleaned up", "handled"]


def test_handlers_of_the_caller_are_put_back() -> None:
    def handler(*_: object) -> None:
        """Stand for the handler of a scheduler."""

    before = signal.signal(signal.SIGTERM, handler)
    try:
        run_interruptible(anyio.lowlevel.checkpoint)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
