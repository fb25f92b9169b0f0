from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from collector.local import open_local_servers
from collector.local.folder import is_running
from collector.local.leftovers import find_process, holds_within, until

NOTICED_SECONDS = 10
GONE_SECONDS = 15


def is_gone(pid: int) -> bool:
    return find_process(pid) is None


def parent_of(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("PPid"))


@pytest.mark.parametrize("victim", ["postgres", "s3"])
async def test_a_killed_server_leaves_no_process_and_its_data_are_there_at_the_next_start(
    home: Path, client: Any, victim: str
) -> None:
    async with open_local_servers(home, postgres=victim == "postgres", s3=victim == "s3") as first:
        if first.postgres:
            await client.query(first.postgres, "create table t as select 1 as one")
            os.kill(first.postgres.pid, signal.SIGKILL)
        else:
            await client.put(first.s3, "key", b"kept")
            os.kill(first.s3.pid, signal.SIGKILL)
        with anyio.fail_after(NOTICED_SECONDS):
            await until(lambda: not is_running(home / victim))
    async with open_local_servers(home, postgres=victim == "postgres", s3=victim == "s3") as again:
        if again.postgres:
            assert await client.query(again.postgres, "select one from t") == 1
        else:
            assert await client.get(again.s3, "key") == b"kept"


async def test_a_killed_user_leaves_the_servers_to_the_others(
    home: Path, client: Any, open_elsewhere: Any
) -> None:
    first = await open_elsewhere("postgres", "s3")
    async with open_local_servers(home) as servers:
        await client.query(servers.postgres, "create table t as select 1 as one")
        await client.put(servers.s3, "key", b"kept")
        first.process.kill()
        await first.process.wait()
        async with open_local_servers(home) as late:
            assert late == servers
            assert await client.query(late.postgres, "select one from t") == 1
            assert await client.get(late.s3, "key") == b"kept"


async def test_the_last_user_killed_leaves_no_server_and_no_data_are_lost(
    home: Path, client: Any, open_elsewhere: Any
) -> None:
    last = await open_elsewhere("postgres", "s3")
    killed = [server["pid"] for server in last.opened.values()]
    async with open_local_servers(home) as servers:
        await client.query(servers.postgres, "create table t as select 1 as one")
        await client.put(servers.s3, "key", b"kept")
    last.process.kill()
    assert await holds_within(GONE_SECONDS, lambda: all(map(is_gone, killed)))
    async with open_local_servers(home) as again:
        assert {again.postgres.pid, again.s3.pid}.isdisjoint(killed)
        assert await client.query(again.postgres, "select one from t") == 1
        assert await client.get(again.s3, "key") == b"kept"


async def test_killed_wardens_and_users_at_once_leave_no_server(
    home: Path, open_elsewhere: Any
) -> None:
    if sys.platform != "linux":
        pytest.skip("needs the parent death signal of Linux")
    last = await open_elsewhere("postgres", "s3")
    killed = [server["pid"] for server in last.opened.values()]
    wardens = [parent_of(pid) for pid in killed]
    for warden in wardens:
        os.kill(warden, signal.SIGSTOP)
    last.process.kill()
    for warden in wardens:
        os.kill(warden, signal.SIGKILL)
    assert await holds_within(GONE_SECONDS, lambda: all(map(is_gone, [*killed, *wardens])))


async def test_a_user_that_comes_as_the_last_one_is_killed_starts_a_new_server(
    home: Path, client: Any, open_elsewhere: Any
) -> None:
    owner = await open_elsewhere("postgres")
    owner.process.kill()
    await owner.process.wait()
    async with open_local_servers(home, s3=False) as servers:
        assert await client.query(servers.postgres, "select 1") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent death signal of Linux")
async def test_a_killed_warden_takes_its_server_along(home: Path) -> None:
    async with open_local_servers(home) as servers:
        for pid in (servers.postgres.pid, servers.s3.pid):
            os.kill(parent_of(pid), signal.SIGKILL)
        assert await holds_within(
            GONE_SECONDS, lambda: is_gone(servers.postgres.pid) and is_gone(servers.s3.pid)
        )
        with anyio.fail_after(NOTICED_SECONDS):
            await until(lambda: not is_running(home / "postgres"))


async def test_an_interrupted_first_start_is_repeated(home: Path, client: Any) -> None:
    with anyio.move_on_after(0.2):
        async with open_local_servers(home, s3=False):
            await anyio.sleep_forever()
    async with open_local_servers(home, s3=False) as servers:
        assert await client.query(servers.postgres, "select 1") == 1


async def test_a_stale_pid_file_with_a_living_pid_is_no_obstacle(home: Path, client: Any) -> None:
    async with open_local_servers(home, s3=False) as servers:
        pid_file = home / "postgres" / "cluster" / "data" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
    # A process of the same user, as a restarted container has it.
    async with await anyio.open_process(
        ["/bin/sleep", "60"],
        **({"user": 65534, "group": 65534, "extra_groups": ()} if os.geteuid() == 0 else {}),
    ) as bystander:
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
        async with open_local_servers(home, s3=False) as servers:
            assert await client.query(servers.postgres, "select 1") == 1
        assert bystander.returncode is None
        bystander.kill()
