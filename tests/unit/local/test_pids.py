from __future__ import annotations

import os
import signal
import sys

import anyio

from collector.local.pids import command_of, end_process, is_running
from collector.local.polling import holds_within

SLEEP = ["/bin/sleep", "9.5"]


def test_the_command_of_this_process_is_known_and_of_none_is_empty() -> None:
    # A runner may have given this process a title of its own, so only that there is one is sure.
    assert command_of(os.getpid())
    assert not is_running(2**22 + 1, SLEEP)


async def test_a_process_ends_only_where_its_command_is_the_expected_one() -> None:
    async with await anyio.open_process(SLEEP) as sleeper:
        # The kernel shows the new command line an instant after exec.
        assert await holds_within(5, lambda: is_running(sleeper.pid, SLEEP))
        assert await end_process(
            sleeper.pid, ["/bin/sleep", "62"], stop_signal=signal.SIGTERM, stop_seconds=1
        )
        assert sleeper.returncode is None
        assert await end_process(sleeper.pid, SLEEP, stop_signal=signal.SIGTERM, stop_seconds=5)
        assert not is_running(sleeper.pid, SLEEP)
        assert await sleeper.wait() == -signal.SIGTERM


async def test_a_process_that_ignores_the_signal_is_killed() -> None:
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)\n"
    argv = [sys.executable, "-I", "-S", "-c", script + "signal.pause()"]
    async with await anyio.open_process(argv) as stubborn:
        assert stubborn.stdout
        await stubborn.stdout.receive()
        with anyio.fail_after(5):
            assert await end_process(
                stubborn.pid, argv, stop_signal=signal.SIGTERM, stop_seconds=0.2
            )
        assert await stubborn.wait() == -signal.SIGKILL
