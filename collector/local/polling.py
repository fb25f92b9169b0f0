"""Waiting for what nobody announces: other processes, their locks and their ends."""

from __future__ import annotations

from collections.abc import Callable

import anyio

# Short against the second or so that a server takes to start or stop, and cheap.
POLL_SECONDS = 0.05


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition()` holds, asked right away and then every POLL_SECONDS."""
    while not condition():
        await anyio.sleep(POLL_SECONDS)


async def holds_within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Whether `condition()` comes to hold within `seconds`."""
    with anyio.move_on_after(seconds):
        await until(condition)
        return True
    return False
