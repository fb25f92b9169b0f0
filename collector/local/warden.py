"""Runs one child process and ends it when the owner of this script ends.

Executed as a script by `process.py` with nothing but the standard library. Standard input is the
owner's lifeline: its first line is the order (JSON), and its end means that the owner closed it
or died, by whatever means. Standard output is the report: `pid N`, then `exit N` (negative: the
signal), or `error ERRNO TEXT` where the child could not be started. Standard error is the log,
which the child shares.

Should this script itself be killed, Linux sends the child its stop signal
(https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html, read 2026-11); elsewhere the
owner notices and ends the child.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
# Nobody but the child's own user reads what it writes.
CHILD_UMASK = 0o077


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


def start(order: dict[str, Any]) -> subprocess.Popen[bytes]:
    as_user = {"user": order["user"], "group": order["group"], "extra_groups": []}
    return subprocess.Popen(  # noqa: S603
        order["argv"],
        env=order["env"],
        cwd=order["cwd"],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        pass_fds=order["pass_fds"],
        process_group=0,
        umask=CHILD_UMASK,
        preexec_fn=bound_to_this_process(order["stop_signal"]),  # noqa: PLW1509  (one thread)
        **(as_user if order["user"] is not None else {}),
    )


def end(child: subprocess.Popen[bytes], stop_signal: int, stop_seconds: float) -> None:
    child.send_signal(stop_signal)
    try:
        child.wait(stop_seconds)
    except subprocess.TimeoutExpired:
        kill_group(child.pid)


def kill_group(leader: int) -> None:
    """Kill what is left of the child's process group, most often nothing."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS: EPERM where only zombies are left
        return


def report(line: str) -> None:
    try:
        os.write(sys.stdout.fileno(), f"{line}\n".encode())
    except BrokenPipeError:  # the owner died: nobody asks any more
        return


def main() -> None:
    order = json.loads(sys.stdin.buffer.readline() or "null")
    if order is None:
        return
    try:
        child = start(order)
    except OSError as error:
        report(f"error {error.errno or 0} {error.strerror}")
        return
    report(f"pid {child.pid}")

    def stop() -> None:
        end(child, order["stop_signal"], order["stop_seconds"])

    def stop_at_end_of_lifeline() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        stop()

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop, daemon=True).start())
    threading.Thread(target=stop_at_end_of_lifeline, daemon=True).start()
    status = child.wait()
    kill_group(child.pid)
    report(f"exit {status}")


if __name__ == "__main__":
    main()
    # Skips the interpreter's own shutdown, which would wait for nothing of use.
    os._exit(0)
