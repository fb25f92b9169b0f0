"""Is a process still the one that was started, and ending one whose parent is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from collector.local.polling import holds_within

# After SIGKILL only the kernel is left to do something.
KILLED_SECONDS = 5.0


def is_running(pid: int, argv: Sequence[str]) -> bool:
    """Whether `pid` runs the command `argv`; False for a zombie or a reused id.

    The program's own name is left out of the comparison: an interpreter may stand before it.
    """
    command = command_of(pid)
    return command != "" and command.endswith(" ".join(argv[1:]))


def command_of(pid: int) -> str:
    """Return the command line of a process, words joined by spaces; empty for none or a zombie."""
    if sys.platform == "linux":
        return _proc_command(pid)
    asked = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    answer = subprocess.run(asked, capture_output=True, check=False)  # noqa: S603
    return answer.stdout.decode(errors="surrogateescape").strip()


def _proc_command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return words.rstrip(b"\0").replace(b"\0", b" ").decode(errors="surrogateescape")


async def end_process(
    pid: int, argv: Sequence[str], *, stop_signal: int, stop_seconds: float
) -> bool:
    """End `pid`, with `stop_signal` first and SIGKILL after `stop_seconds`, if it runs `argv`.

    Returns whether it is gone; never touches a process with another command line.
    """
    steps = ((stop_signal, stop_seconds), (signal.SIGKILL, KILLED_SECONDS))
    for number, patience_seconds in steps:
        if not is_running(pid, argv):
            return True
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if await holds_within(patience_seconds, lambda: not is_running(pid, argv)):
            return True
    return False
