"""Runs one child process and ends it when the last process that needs it has gone.

Executed as a script by `process.py`, with nothing but the standard library. Standard input is the
order (JSON). Standard output is the report, an array of JSON on each line: `["pid", WARDEN,
CHILD]`, then `["exit", N]` (negative: the signal), or `["error", ERRNO, TEXT]` if the child could
not be started. Standard error is the log, which the child shares.

The order names a pipe, the `lifeline`: the child runs for as long as any process has it open for
writing, and these may die by whatever means. If the pipe has a name, further processes open it
under the lock of the file `door`. The warden removes the name under the same lock before it stops
the child, so none of them joins too late.

If this script itself is killed, Linux sends the child its stop signal
(https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html, read 2026-11).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PR_SET_PDEATHSIG = 1


def bound_to_this_process(stop_signal: int) -> Callable[[], None] | None:
    """Return what the child calls before exec, so that it does not outlive this process."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    warden = os.getpid()

    def bind() -> None:
        prctl(PR_SET_PDEATHSIG, stop_signal)
        if os.getppid() != warden:
            os._exit(1)

    return bind


def wait_for_the_last_user(pipe: int, name: str | None, door: str | None) -> None:
    drain(pipe)
    if name is None or door is None:
        return
    while not is_closed(pipe, name, door):
        drain(pipe)


def drain(pipe: int) -> None:
    """Return once no process has `pipe` open for writing."""
    while os.read(pipe, 1):
        pass


def is_closed(pipe: int, name: str, door: str) -> bool:
    """Remove the pipe's name, unless somebody has opened it meanwhile."""
    with open(door) as lock:  # noqa: PTH123  (pathlib would double the start-up time)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_held(pipe):
            return False
        os.unlink(name)  # noqa: PTH108
    return True


def is_held(pipe: int) -> bool:
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 1) != b""
    except BlockingIOError:
        return True
    finally:
        os.set_blocking(pipe, True)


def end(child: subprocess.Popen[bytes], stop_signal: int, stop_seconds: float) -> None:
    child.send_signal(stop_signal)
    try:
        child.wait(stop_seconds)
    except subprocess.TimeoutExpired:
        child.kill()


def report(*words: object) -> None:
    with suppress(BrokenPipeError):  # whoever gave the order need not be there any more
        os.write(sys.stdout.fileno(), json.dumps(words).encode() + b"\n")


def main() -> None:
    order: dict[str, Any] = json.load(sys.stdin)
    # Whoever gave it may leave earlier than others who use the child, and would not reap this.
    if os.fork():
        return
    try:
        child = subprocess.Popen(
            **order["child"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            preexec_fn=bound_to_this_process(order["stop"][0]),  # noqa: PLW1509  (one thread)
        )
    except OSError as error:
        report("error", error.errno, error.strerror)
        return
    report("pid", os.getpid(), child.pid)

    def stop() -> None:
        end(child, *order["stop"])

    def stop_after_the_last_user() -> None:
        # Nobody joins by a name or a door that somebody has removed.
        with suppress(OSError):
            wait_for_the_last_user(*order["lifeline"])
        stop()

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop, daemon=True).start())
    threading.Thread(target=stop_after_the_last_user, daemon=True).start()
    status = child.wait()
    for path in order["litter"]:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108
    report("exit", status)


if __name__ == "__main__":
    main()
    # Skips the interpreter's own shutdown, which would wait for nothing of use.
    os._exit(0)
