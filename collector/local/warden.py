"""Runs one child process and ends it when the last process that needs it has gone.

`process.py` executes it as a script, with nothing but the standard library. Standard input is the
order (JSON). Standard output is the report, one JSON array a line: `["pid", WARDEN, CHILD]`, then
`["exit", N]` (negative: the signal), or `["error", ERRNO, TEXT]` if the child could not be
started. Standard error is the log, which the child shares.

The order names a pipe, the `lifeline`: the child runs for as long as any process has it open for
writing, however these processes end. If the pipe has a name, further processes open it while they
hold the file lock `lock`. The warden removes the name under the same lock before it stops the
child, so none of them joins too late.

If the warden itself is killed, Linux sends the child its stop signal
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


def die_with_parent(stop_signal: int) -> Callable[[], None] | None:
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


def wait_for_the_last_user(pipe: int, name: str | None, lock: str | None) -> None:
    """Return once no process has `pipe` open for writing, and none can open it by its name."""
    while True:
        while os.read(pipe, 1):
            pass
        if name is None or lock is None:
            return
        with open(lock) as file:  # noqa: PTH123  (pathlib would double the start-up time)
            fcntl.flock(file, fcntl.LOCK_EX)
            if not has_writer(pipe):
                os.unlink(name)  # noqa: PTH108
                return


def has_writer(pipe: int) -> bool:
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
    with suppress(BrokenPipeError):  # the process that gave the order may have gone
        os.write(sys.stdout.fileno(), json.dumps(words).encode() + b"\n")


def main() -> None:
    order: dict[str, Any] = json.load(sys.stdin)
    # The process that gave the order may leave before other users do, and would not reap this one.
    if os.fork():
        return
    try:
        child = subprocess.Popen(
            **order["child"],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            preexec_fn=die_with_parent(order["stop"][0]),  # noqa: PLW1509  (one thread)
        )
    except OSError as error:
        report("error", error.errno, error.strerror)
        return
    report("pid", os.getpid(), child.pid)

    def stop() -> None:
        end(child, *order["stop"])

    def stop_after_the_last_user() -> None:
        # If the name or the lock file was removed, no process can join.
        with suppress(OSError):
            wait_for_the_last_user(*order["lifeline"])
        stop()

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop, daemon=True).start())
    threading.Thread(target=stop_after_the_last_user, daemon=True).start()
    status = child.wait()
    for path in order["cleanup_files"]:
        with suppress(OSError):
            os.unlink(path)  # noqa: PTH108
    report("exit", status)


if __name__ == "__main__":
    main()
    # Skips the interpreter's own shutdown, which has nothing to do here.
    os._exit(0)
