from __future__ import annotations

import os
import signal
import sys

import anyio
import psutil

from collector.local.leftovers import end_process, find_process, holds_within, is_alive

SLEEP = ["/bin/sleep", "9.5"]
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)\n"


def test_a_process_is_known_by_its_id_and_start_alone() -> None:
    created = psutil.Process().create_time()
    assert find_process(os.getpid(), created) == psutil.Process()
    assert find_process(os.getpid(), created - 60) is None
    assert find_process(2**22 + 1) is None


async def test_a_zombie_is_not_alive() -> None:
    async with await anyio.open_process(SLEEP) as sleeper:
        process = find_process(sleeper.pid)
        assert process
        process.suspend()
        assert is_alive(process)
        process.kill()
        assert await holds_within(5, lambda: not is_alive(process))
        assert find_process(sleeper.pid) is None


async def test_a_process_ends_by_its_signal() -> None:
    async with await anyio.open_process(SLEEP) as sleeper:
        process = psutil.Process(sleeper.pid)
        await end_process(process, signal.SIGTERM, 5)
        assert not is_alive(process)
        assert await sleeper.wait() == -signal.SIGTERM
        await end_process(process, signal.SIGTERM, 5)


async def test_a_process_that_ignores_the_signal_is_killed() -> None:
    argv = [sys.executable, "-I", "-S", "-c", STUBBORN + "signal.pause()"]
    async with await anyio.open_process(argv) as stubborn:
        assert stubborn.stdout
        await stubborn.stdout.receive()
        with anyio.fail_after(5):
            await end_process(psutil.Process(stubborn.pid), signal.SIGTERM, 0.2)
        assert await stubborn.wait() == -signal.SIGKILL
