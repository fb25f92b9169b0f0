from __future__ import annotations

import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest

from collector.local import sharing
from collector.local.errors import LocalServerError
from collector.local.locks import is_locked, lock_file, try_lock
from collector.local.pids import command_of
from collector.local.polling import until
from collector.local.process import open_child
from collector.local.records import LocalS3
from collector.local.sharing import Running, shared_server, wait_stopped

SLEEP = ["/bin/sleep", "63.5"]
SOON_SECONDS = 10


@dataclass
class SleepServer:
    """A server that does nothing, started and stopped like the real ones."""

    folder: Path
    failure: Exception | None = None
    runs: list[str] = field(default_factory=list)

    name = "Sleep"
    record = LocalS3

    async def answers(self, record: LocalS3) -> bool:
        return command_of(record.pid) != ""

    @asynccontextmanager
    async def run(self, running: Running) -> AsyncIterator[LocalS3]:
        if self.failure:
            raise self.failure
        log = self.folder / "log"
        async with open_child(
            SLEEP, env={}, cwd=self.folder, log=log, pass_fds=[running.descriptor]
        ) as child:
            running.name(child.pid, SLEEP)
            self.runs.append("start")
            try:
                yield LocalS3("http://sleep", "key", "secret", "nowhere", log, child.pid)
            finally:
                self.runs.append("stop")


@pytest.fixture
def server(tmp_path: Path) -> SleepServer:
    return SleepServer(tmp_path / "deep" / "sleep")


async def test_the_second_uses_the_server_of_the_first(server: SleepServer) -> None:
    async with shared_server(server) as first, shared_server(server) as second:
        assert first == second
        assert (server.folder / "server.json").stat().st_mode & 0o777 == 0o600
    assert server.runs == ["start", "stop"]
    assert not is_locked(server.folder / "running.lock")
    assert not (server.folder / "server.json").exists()


async def test_those_who_come_at_once_share_one_server(server: SleepServer) -> None:
    pids = set()
    everybody_in = anyio.Event()

    async def use() -> None:
        async with shared_server(server) as record:
            pids.add(record.pid)
            seats.append(1)
            if len(seats) == 5:
                everybody_in.set()
            await everybody_in.wait()

    seats: list[int] = []
    with anyio.fail_after(SOON_SECONDS):
        async with anyio.create_task_group() as users:
            for _ in range(5):
                users.start_soon(use)
    assert len(pids) == 1
    assert server.runs == ["start", "stop"]


@pytest.mark.parametrize("failing", [False, True])
async def test_an_owner_that_leaves_waits_for_its_users(
    server: SleepServer, failing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "collector.local")
    ready, leave = anyio.Event(), anyio.Event()

    async def own() -> None:
        try:
            async with shared_server(server):
                ready.set()
                await leave.wait()
                assert not failing
        except AssertionError:
            server.runs.append("error")

    with anyio.fail_after(SOON_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(own)
            await ready.wait()
            async with shared_server(server) as record:
                leave.set()
                await until(lambda: "waiting for them" in caplog.text)
                assert await server.answers(record)
                async with shared_server(server) as late:
                    assert late == record
                assert server.runs == ["start"]
    assert server.runs == ["start", "stop", "error"][: 3 if failing else 2]


async def test_an_owner_that_is_cancelled_stops_at_once(server: SleepServer) -> None:
    ready = anyio.Event()

    async def own() -> None:
        async with shared_server(server):
            ready.set()
            await anyio.sleep_forever()

    with anyio.fail_after(SOON_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(own)
            await ready.wait()
            async with shared_server(server) as record:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await wait_stopped(server.folder)
                assert not await server.answers(record)


async def test_a_failed_start_leaves_the_place_to_the_next(server: SleepServer) -> None:
    server.failure = LocalServerError("Sleep", "is tired")
    with pytest.raises(LocalServerError, match="is tired"):
        async with shared_server(server):
            pytest.fail("must not get here")
    server.failure = None
    async with shared_server(server):
        assert server.runs == ["start"]


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


async def test_a_server_left_over_is_ended(
    server: SleepServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "LEFTOVER_SECONDS", 0.1)
    server.folder.mkdir(parents=True)
    with lock_file(server.folder / "running.lock") as descriptor:
        assert try_lock(descriptor)
        leftover = await anyio.open_process(SLEEP, pass_fds=[descriptor])
        Running(descriptor).name(leftover.pid, SLEEP)
    async with leftover:
        async with shared_server(server) as record:
            assert record.pid != leftover.pid
        assert await leftover.wait() == -signal.SIGINT


async def test_a_process_that_holds_the_lock_but_is_another_is_left_alone(
    server: SleepServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "LEFTOVER_SECONDS", 0.1)
    monkeypatch.setattr(sharing, "LEFTOVER_STOP_SECONDS", 0.1)
    server.folder.mkdir(parents=True)
    with lock_file(server.folder / "running.lock") as descriptor:
        assert try_lock(descriptor)
        Running(descriptor).name(os.getpid(), SLEEP)
        with pytest.raises(LocalServerError, match="an earlier server still runs"):
            async with shared_server(server):
                pytest.fail("must not get here")


async def test_a_stale_record_is_not_believed(server: SleepServer) -> None:
    async with shared_server(server):
        stale = (server.folder / "server.json").read_text()
    (server.folder / "server.json").write_text(stale)
    async with shared_server(server) as record:
        assert await server.answers(record)
    assert server.runs == ["start", "stop"] * 2


async def test_a_lock_held_by_somebody_who_never_publishes_is_an_error_in_the_end(
    server: SleepServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "TURN_SECONDS", 0.2)
    server.folder.mkdir(parents=True)
    with lock_file(server.folder / "lock") as descriptor:
        assert try_lock(descriptor)
        with pytest.raises(LocalServerError, match="another process holds"):
            async with shared_server(server):
                pytest.fail("must not get here")
