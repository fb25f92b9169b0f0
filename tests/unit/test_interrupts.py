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
import sys
import anyio
from collector.interrupts import Interrupted, run_interruptible

async def main():
    try:
        print("ready", flush=True)
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            print("cleaning", flush=True)
            await {cleanup}
            print("cleaned", flush=True)

try:
    run_interruptible(main, lambda: print("told", flush=True))
except Interrupted:
    sys.exit(75)
"""
QUICK, ENDLESS = "anyio.sleep(0)", "anyio.sleep_forever()"

each_signal = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@contextmanager
def running(cleanup: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SCRIPT.format(cleanup=cleanup)]
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
    assert output.split() == ["told", "cleaning", "cleaned"]
    assert process.returncode == RESUMABLE


@each_signal
def test_the_second_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    with running(ENDLESS) as process:
        process.send_signal(signal.SIGTERM)
        assert [next_line(process), next_line(process)] == ["told", "cleaning"]
        process.send_signal(number)
        output, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert output == ""
    assert process.returncode == -signal.SIGTERM


def test_without_a_signal_the_result_is_returned() -> None:
    async def main() -> str:
        await anyio.lowlevel.checkpoint()
        return "done"

    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert run_interruptible(main) == "done"
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


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
