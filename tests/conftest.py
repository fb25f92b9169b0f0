"""What holds for every test: none may block the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

# A callback of this length is seen by every other task as a stall. Ours take milliseconds; the
# rest is room for a machine that is busy with other things.
LONGEST_CALLBACK_SECONDS = 1.0


@pytest.fixture(autouse=True)
def _no_blocked_loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test in which one callback kept the event loop to itself for too long."""
    stalls: list[str] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        cpu, wall = time.thread_time(), time.monotonic()
        run(handle)
        # Blocking by work shows in CPU time; blocking by waiting shows in wall time without it.
        if time.monotonic() - wall > LONGEST_CALLBACK_SECONDS:
            stalls.append(f"{handle!r}: {time.thread_time() - cpu:.2f} s of CPU")

    monkeypatch.setattr(asyncio.Handle, "_run", timed)
    yield
    assert not stalls, f"the event loop was blocked: {stalls}"
