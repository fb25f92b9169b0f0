from __future__ import annotations

import logging
import os
import signal
import sys
import textwrap
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from collector.local import process
from collector.local.leftovers import find_process, holds_within, until
from collector.local.process import Command, open_child

GONE_SECONDS = 5
READY_SECONDS = 10
LINE_BYTES = 100

# Prints its environment and folder, then ends in the way that its argument names.
SCRIPT = """
import os, signal, sys, time
def stop(number, frame):
    print("stopping", flush=True)
    if sys.argv[1] != "stubborn":
        sys.exit(7)
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
print("ready", os.environ.get("WORD"), os.getcwd(), os.getsid(0), flush=True)
if sys.argv[1] == "leave":
    sys.exit(3)
while True:
    time.sleep(60)
"""


def command(log: Path, way: str = "stay", **options: Any) -> Command:
    return run_command(log, sys.executable, "-c", SCRIPT, way, **options)


def run_command(log: Path, *argv: str, **options: Any) -> Command:
    return Command(
        **{"name": "Mule", "env": {}, "cwd": log.parent, "log": log} | options, argv=argv
    )


def is_gone(pid: int) -> bool:
    return find_process(pid) is None


async def until_logged(log: Path, text: str) -> None:
    with anyio.fail_after(READY_SECONDS):
        await until(lambda: log.exists() and text in log.read_text())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


async def test_child_gets_its_environment_and_folder_and_writes_to_the_log(log: Path) -> None:
    folder = log.parent.resolve()
    async with open_child(command(log, env={"WORD": "wide"}, cwd=folder)) as child:
        await until_logged(log, f"ready wide {folder}")
        assert child.running
    assert not child.running
    assert child.returncode == 7
    assert log.stat().st_mode & 0o777 == 0o600


async def test_child_has_a_session_of_its_own(log: Path) -> None:
    async with open_child(command(log)):
        await until_logged(log, "ready")
    assert str(os.getsid(0)) != log.read_text().split()[3]


async def test_concurrent_waits_all_return_the_exit_status(log: Path) -> None:
    statuses: list[int] = []
    async with open_child(command(log, "leave")) as child:

        async def wait() -> None:
            statuses.append(await child.wait())

        async with anyio.create_task_group() as waiters:
            waiters.start_soon(wait)
            waiters.start_soon(wait)
        assert not child.running
    assert statuses == [3, 3]


async def test_a_child_that_ignores_the_signal_is_killed_in_bounded_time(log: Path) -> None:
    began = anyio.current_time()
    async with open_child(command(log, "stubborn", stop_seconds=0.3)) as child:
        await until_logged(log, "ready")
    assert child.returncode == -signal.SIGKILL
    assert "stopping" in log.read_text()
    assert anyio.current_time() - began < 4


async def test_a_slow_stop_is_logged_once(
    log: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(process, "SLOW_STOP_SECONDS", 0.05)
    caplog.set_level(logging.INFO, "collector.local")
    async with open_child(command(log, "stubborn", stop_seconds=0.3)):
        await until_logged(log, "ready")
    assert caplog.messages == ["waiting for Mule to stop, at most 0.3 s"]
    assert caplog.records[0].levelno == logging.INFO


async def test_a_quick_stop_is_not_logged(log: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "collector.local")
    async with open_child(run_command(log, "/bin/sleep", "60")):
        pass
    assert caplog.messages == []


async def test_the_stop_signal_can_be_chosen(log: Path) -> None:
    async with open_child(run_command(log, "/bin/sleep", "60", stop_signal=signal.SIGINT)) as child:
        pass
    assert child.returncode == -signal.SIGINT


async def test_cancellation_stops_the_child_and_passes_through(log: Path) -> None:
    with anyio.CancelScope() as scope:
        async with open_child(command(log)) as child:
            await until_logged(log, "ready")
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert child.returncode == 7
    assert is_gone(child.pid)


async def test_a_cancelled_wait_loses_no_status(log: Path) -> None:
    async with open_child(command(log)) as child:
        await until_logged(log, "ready")
        with anyio.move_on_after(0):
            await child.wait()
        assert child.running
        os.kill(child.pid, signal.SIGKILL)
        with anyio.fail_after(GONE_SECONDS):
            assert await child.wait() == -signal.SIGKILL


async def test_a_command_that_does_not_exist_is_an_os_error(log: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with open_child(run_command(log, "/nonexistent/server")):
            pytest.fail("must not get here")


async def test_kill_of_the_warden_leaves_no_child(log: Path) -> None:
    async with open_child(command(log)) as child:
        await until_logged(log, "ready")
        os.kill(child.warden_pid, signal.SIGKILL)
        with anyio.fail_after(GONE_SECONDS):
            assert await child.wait() == -signal.SIGKILL
        assert is_gone(child.pid)


async def test_kill_of_the_owner_leaves_no_child(log: Path) -> None:
    async with await anyio.open_process([sys.executable, "-c", owner_script(log)]) as owner:
        assert owner.stdout
        line = await BufferedByteReceiveStream(owner.stdout).receive_until(b"\n", LINE_BYTES)
        child, warden = map(int, line.split())
        assert not is_gone(child)
        owner.kill()
    assert await holds_within(GONE_SECONDS, lambda: is_gone(child) and is_gone(warden))
    assert "stopping" in log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent death signal of Linux")
async def test_kill_of_owner_and_warden_at_once_leaves_no_child(log: Path) -> None:
    async with await anyio.open_process([sys.executable, "-c", owner_script(log)]) as owner:
        assert owner.stdout
        line = await BufferedByteReceiveStream(owner.stdout).receive_until(b"\n", LINE_BYTES)
        child, warden = map(int, line.split())
        os.kill(warden, signal.SIGSTOP)
        owner.kill()
        os.kill(warden, signal.SIGKILL)
    assert await holds_within(GONE_SECONDS, lambda: is_gone(child))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop to another user")
async def test_child_runs_as_the_user_asked_for(log: Path) -> None:
    async with open_child(
        run_command(log, "/usr/bin/id", env={"PATH": os.defpath}, cwd=Path("/"), user=65534)
    ) as child:
        assert await child.wait() == 0
    assert log.read_text().startswith("uid=65534")
    assert "root" not in log.read_text()


def owner_script(log: Path) -> str:
    """A program that runs a child until it is killed, and prints the pids of child and warden."""
    return textwrap.dedent(
        f"""
        import anyio, pathlib, collections
        from collector.local.process import Command, open_child
        async def main():
            log = pathlib.Path({str(log)!r})
            argv = {list(command(log).argv)!r}
            command = Command("Mule", argv, env={{}}, cwd=log.parent, log=log)
            async with open_child(command) as child:
                while not log.exists() or "ready" not in log.read_text():
                    await anyio.sleep(0.01)
                print(child.pid, child.warden_pid, flush=True)
                await anyio.sleep_forever()
        anyio.run(main)
        """
    )
