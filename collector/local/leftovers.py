"""Processes that another process started: find them, wait for them, end them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress

import anyio
import psutil

# Short compared with the second or so that a server takes to start or stop, and cheap.
POLL_SECONDS = 0.02
# After SIGKILL only the kernel has work left.
KILLED_SECONDS = 5.0
# A process's start time comes from the wall clock, which may be set while the process runs.
CLOCK_SECONDS = 2.0


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition()` holds; polls, because nothing announces what other processes do."""
    while not condition():
        await anyio.sleep(POLL_SECONDS)


async def holds_within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether `condition()` comes to hold within `seconds`."""
    with anyio.move_on_after(seconds):
        await until(condition)
        return True
    return False


def find_process(pid: int, created: float | None = None) -> psutil.Process | None:
    """Return the living process `pid`, if it started at `created` (seconds since 1970).

    None for a zombie, and for another process that has got the same id since then.
    """
    with suppress(psutil.NoSuchProcess, ValueError, OverflowError):
        process = psutil.Process(pid)
        is_same = created is None or abs(process.create_time() - created) < CLOCK_SECONDS
        return process if is_same and is_alive(process) else None
    return None


def is_alive(process: psutil.Process) -> bool:
    """Whether this very process still runs: no zombie, and no other process with its id."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def end_process(process: psutil.Process, stop_signal: int, stop_seconds: float) -> None:
    """End the process: `stop_signal`, then SIGKILL after `stop_seconds`.

    Another process that has got the same id is never touched.
    """
    for number, seconds in ((stop_signal, stop_seconds), (signal.SIGKILL, KILLED_SECONDS)):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
        if await holds_within(seconds, lambda: not is_alive(process)):
            return
