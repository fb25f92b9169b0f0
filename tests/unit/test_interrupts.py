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
    run_interruptible(main)
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
    assert output.split() == ["cleaning", "cleaned"]
    assert process.returncode == RESUMABLE


@each_signal
def test_the_second_signal_ends_the_process_at_once(number: signal.Signals) -> None:
    with running(ENDLESS) as process:
        process.send_signal(signal.SIGTERM)
        assert next_line(process) == "cleaning"
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
