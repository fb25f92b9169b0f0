from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from filelock import FileLock

from collector.local import folder, sharing
from collector.local.folder import RunningLock, Users, is_running, open_running_lock, record_path
from collector.local.leftovers import find_process, holds_within, until
from collector.local.process import Child, Command
from collector.local.records import LocalS3, LocalServerError
from collector.local.sharing import shared_server

SLEEP = ["/bin/sleep", "63.5"]
SOON_SECONDS = 10
LINE_BYTES = 100


@dataclass
class SleepServer:
    """A server that does nothing, started and stopped like the real ones."""

    folder: Path
    failure: Exception | None = None
    starts: list[int] = field(default_factory=list)

    name = "Sleep"
    record = LocalS3
    stop_seconds = 5.0

    async def answers(self, record: LocalS3) -> bool:
        return find_process(record.pid) is not None

    async def start(self, running: RunningLock, lifeline: ExitStack) -> LocalS3:
        if self.failure:
            raise self.failure
        log = self.folder / "log"
        child = Child(
            Command(
                self.name,
                SLEEP,
                env={},
                cwd=self.folder,
                log=log,
                pass_fds=[running.descriptor],
                cleanup_files=[record_path(self.folder)],
            )
        )
        await child.start(lifeline, Users(self.folder))
        child.close()
        running.write_holder(child.pid)
        self.starts.append(child.pid)
        return LocalS3("http://sleep", "key", "secret", "nowhere", log, child.pid)


@pytest.fixture
def server(tmp_path: Path) -> SleepServer:
    return SleepServer(tmp_path / "deep" / "sleep")


# A process that uses the server until its standard input ends.
USER = f"""
import sys, anyio, pathlib
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_sharing import SleepServer, shared_server
async def main():
    async with shared_server(SleepServer(pathlib.Path(sys.argv[1]))) as record:
        print(record.pid, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
anyio.run(main)
"""


@asynccontextmanager
async def user_elsewhere(server: SleepServer) -> AsyncIterator[tuple[anyio.abc.Process, int]]:
    """Another process that uses the server, and the server's pid that it printed."""
    command = [sys.executable, "-c", USER, str(server.folder)]
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdout
        with anyio.fail_after(SOON_SECONDS):
            stdout = BufferedByteReceiveStream(process.stdout)
            yield process, int(await stdout.receive_until(b"\n", LINE_BYTES))


async def test_the_second_uses_the_server_of_the_first(server: SleepServer) -> None:
    async with shared_server(server) as first, shared_server(server) as second:
        assert first == second
        assert record_path(server.folder).stat().st_mode & 0o777 == 0o600
        assert is_running(server.folder)
    assert len(server.starts) == 1
    assert not is_running(server.folder)
    assert not record_path(server.folder).exists()


async def test_concurrent_users_share_one_server(server: SleepServer) -> None:
    pids = []
    all_in = anyio.Event()

    async def use() -> None:
        async with shared_server(server) as record:
            pids.append(record.pid)
            if len(pids) == 5:
                all_in.set()
            await all_in.wait()

    with anyio.fail_after(SOON_SECONDS):
        async with anyio.create_task_group() as users:
            for _ in range(5):
                users.start_soon(use)
    assert pids == server.starts * 5
    assert not is_running(server.folder)


@pytest.mark.parametrize("end", ["return", "error", "cancellation"])
async def test_the_first_leaves_at_once_and_the_last_one_stops_the_server(
    server: SleepServer, end: str
) -> None:
    ready, leave = anyio.Event(), anyio.Event()

    async def use_first() -> None:
        with anyio.CancelScope() as scope:
            try:
                async with shared_server(server):
                    ready.set()
                    await leave.wait()
                    assert end != "error"
                    if end == "cancellation":
                        scope.cancel()
                        await anyio.sleep_forever()
            except AssertionError:
                pass

    with anyio.fail_after(SOON_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(use_first)
            await ready.wait()
            second = shared_server(server)
            record = await second.__aenter__()
            leave.set()
        assert await server.answers(record)
        async with shared_server(server) as late:
            assert late == record
        assert await server.answers(record)
        await second.__aexit__(None, None, None)
    assert not is_running(server.folder)
    assert server.starts == [record.pid]


async def test_the_process_that_started_a_server_may_be_killed_and_others_keep_it(
    server: SleepServer,
) -> None:
    async with user_elsewhere(server) as (other, pid):
        async with shared_server(server) as record:
            assert record.pid == pid
            other.kill()
            await other.wait()
            async with shared_server(server) as late:
                assert late == record
        assert not is_running(server.folder)


async def test_a_server_ends_with_its_last_user_even_if_that_is_killed(
    server: SleepServer,
) -> None:
    async with user_elsewhere(server) as (first, pid), user_elsewhere(server) as (second, same):
        assert pid == same
        first.kill()
        second.kill()
    assert await holds_within(SOON_SECONDS, lambda: not is_running(server.folder))
    assert not (server.folder / "users").exists()
    assert not record_path(server.folder).exists()


async def test_users_that_come_and_go_find_a_server_each_time(server: SleepServer) -> None:
    async def come_and_go() -> None:
        for _ in range(10):
            async with shared_server(server) as record:
                assert await server.answers(record)

    with anyio.fail_after(6 * SOON_SECONDS):
        async with anyio.create_task_group() as users:
            for _ in range(4):
                users.start_soon(come_and_go)
    assert not is_running(server.folder)


async def test_a_server_ends_even_if_its_folder_was_removed(server: SleepServer) -> None:
    async with shared_server(server) as record:
        shutil.rmtree(server.folder)
    assert await holds_within(SOON_SECONDS, lambda: find_process(record.pid) is None)


async def test_a_failed_start_does_not_block_the_next_one(server: SleepServer) -> None:
    server.failure = LocalServerError("Sleep", "is tired")
    with pytest.raises(LocalServerError, match="is tired"):
        async with shared_server(server):
            pytest.fail("must not get here")
    server.failure = None
    async with shared_server(server):
        assert len(server.starts) == 1


async def test_a_folder_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    server = SleepServer(tmp_path / "file" / "sleep")
    with pytest.raises(LocalServerError, match=r"Sleep: cannot use .*file"):
        async with shared_server(server):
            pytest.fail("must not get here")


async def test_an_error_of_the_body_is_not_taken_for_one_of_the_server(
    server: SleepServer,
) -> None:
    with pytest.raises(PermissionError):
        async with shared_server(server):
            raise PermissionError


@contextmanager
def running_of(server: SleepServer) -> Iterator[RunningLock]:
    server.folder.mkdir(parents=True)
    with open_running_lock(server.folder) as running:
        assert running.try_acquire()
        yield running


async def test_a_leftover_server_is_ended(
    server: SleepServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "LEFTOVER_SECONDS", 0.1)
    with running_of(server) as running:
        leftover = await anyio.open_process(SLEEP, pass_fds=[running.descriptor])
        running.write_holder(leftover.pid)
    async with leftover:
        assert is_running(server.folder)
        async with shared_server(server) as record:
            assert record.pid != leftover.pid
        assert await leftover.wait() == -signal.SIGINT


async def test_a_process_that_has_the_same_id_is_left_alone(
    server: SleepServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "LEFTOVER_SECONDS", 0.1)
    monkeypatch.setattr(folder, "LEFTOVER_STOP_SECONDS", 0.1)
    with running_of(server) as running:
        os.pwrite(running.descriptor, f"[{os.getpid()}, 1.5]".encode(), 0)
        with pytest.raises(LocalServerError, match="an earlier server still runs"):
            async with shared_server(server):
                pytest.fail("must not get here")


async def test_a_stale_record_is_ignored(server: SleepServer) -> None:
    async with shared_server(server):
        stale = record_path(server.folder).read_text()
    record_path(server.folder).write_text(stale)
    async with shared_server(server) as record:
        assert await server.answers(record)
    assert len(server.starts) == 2


async def test_a_lock_that_is_never_released_is_an_error_in_the_end(
    server: SleepServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "START_OR_JOIN_SECONDS", 0.2)
    server.folder.mkdir(parents=True)
    refused = pytest.raises(LocalServerError, match="another process holds")
    with FileLock(server.folder / "lock"), refused:
        async with shared_server(server):
            pytest.fail("must not get here")


async def test_waiting_for_the_end_returns_once_the_server_was_killed(
    server: SleepServer,
) -> None:
    async with shared_server(server) as record:
        os.kill(record.pid, signal.SIGKILL)
        with anyio.fail_after(SOON_SECONDS):
            await until(lambda: not is_running(server.folder))
