from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from collector.local import LocalServerError, open_local_servers
from collector.local.folder import is_running
from collector.local.leftovers import until
from collector.local.records import LOOPBACK

SYSTEM_POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
LONG_NAME = "a-home-in-a-very-deep-folder" * 4
LOOPBACK_HEX = "0100007F"
LISTEN_STATE = "0A"


async def test_rows_password_and_port_survive_a_restart_and_rows_a_change_of_port(
    home: Path, client: Any
) -> None:
    async with open_local_servers(home, s3=False) as first:
        await client.query(first.postgres, "create table t as select 'kept' as word")
        assert await client.query(first.postgres, "show data_checksums") in ("on", "off")
    async with open_local_servers(home, s3=False) as second:
        assert await client.query(second.postgres, "select word from t") == "kept"
        assert second.s3 is None
        assert second.postgres.dsn == first.postgres.dsn
    with occupied(home / "postgres", "postgres"):
        async with open_local_servers(home, s3=False) as third:
            assert third.postgres.dsn != first.postgres.dsn
            assert await client.query(third.postgres, "select word from t") == "kept"


async def test_database_is_durable_utf8_and_utc(home: Path, client: Any) -> None:
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "server_encoding": "UTF8",
        "timezone": "UTC",
        "password_encryption": "scram-sha-256",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
    }
    async with open_local_servers(home, s3=False) as servers:
        for name, value in expected.items():
            assert await client.query(servers.postgres, f"show {name}") == value
        assert await client.query(servers.postgres, "select current_database()") == "collector"
        assert await client.query(servers.postgres, "select current_user::text") == "collector"


async def test_settings_are_passed_on_and_statements_reach_the_log(home: Path, client: Any) -> None:
    settings = {"fsync": "off", "log_statement": "all"}
    async with open_local_servers(home, s3=False, postgres_settings=settings) as servers:
        assert await client.query(servers.postgres, "show fsync") == "off"
        assert "show fsync" in servers.postgres.log.read_text()


async def test_a_wrong_password_is_refused(home: Path, client: Any) -> None:
    async with open_local_servers(home, s3=False) as servers:
        password = servers.postgres.dsn.split(":")[2].partition("@")[0]
        words = [*servers.postgres.psql.split(), "-Atc", "select 42"]
        refused = await shell(["PGPASSWORD=wrong", *words[1:]])
        assert refused.returncode != 0
        admitted = await shell(words)
    assert admitted.stdout == b"42\n"
    assert password not in servers.postgres.psql + repr(servers)
    for line in (home / "postgres" / "log").read_text().splitlines():
        assert password not in line


async def shell(words: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a command line as a person would paste it, without asking for a password."""
    quoted = [f"'{word}'" if " " in word else word for word in words]
    return await anyio.run_process(["/bin/sh", "-c", " ".join([*quoted, "-w"])], check=False)


async def test_objects_keys_and_endpoint_survive_a_restart_and_objects_a_change_of_ports(
    home: Path, client: Any
) -> None:
    async with open_local_servers(home, postgres=False) as first:
        await client.put(first.s3, "a/key", b"kept" * 1000)
    async with open_local_servers(home, postgres=False) as second:
        assert await client.get(second.s3, "a/key") == b"kept" * 1000
        assert second.postgres is None
        assert second.s3.endpoint_url == first.s3.endpoint_url
        assert second.s3.secret_key == first.s3.secret_key
    with occupied(home / "s3", "s3.port"), occupied(home / "s3", "master.port"):
        async with open_local_servers(home, postgres=False) as third:
            assert third.s3.endpoint_url != first.s3.endpoint_url
            assert await client.get(third.s3, "a/key") == b"kept" * 1000
    assert first.s3.secret_key not in repr(first)


def occupied(folder: Path, name: str) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, json.loads((folder / "ports.json").read_text())[name]))
    listener.listen()
    return listener


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_both_listen_on_loopback_alone_and_keep_their_secrets(home: Path) -> None:
    async with open_local_servers(home) as servers:
        for pid, least in ((servers.postgres.pid, 1), (servers.s3.pid, 8)):
            addresses = listening_addresses(pid)
            assert len(addresses) >= least
            assert set(addresses) == {LOOPBACK_HEX}
        for path in [*(home / "postgres").iterdir(), *(home / "s3").iterdir()]:
            assert path.is_dir() or path.stat().st_mode & 0o077 == 0, path


def listening_addresses(pid: int) -> list[str]:
    """Return the addresses of the listening TCP sockets of a process, as /proc writes them."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = str(descriptor.readlink()) if descriptor.is_symlink() else ""
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [
        fields[1].partition(":")[0]
        for fields in lines
        if fields[3] == LISTEN_STATE and fields[9] in sockets
    ]


async def test_a_second_process_uses_what_runs_and_starts_what_does_not(
    home: Path, client: Any, open_elsewhere: Any
) -> None:
    async with open_local_servers(home, s3=False) as servers:
        other = await open_elsewhere("postgres", "s3")
        assert other.opened["postgres"]["dsn"] == servers.postgres.dsn
        async with open_local_servers(home, postgres=False) as both:
            assert other.opened["s3"]["pid"] == both.s3.pid
            await client.put(both.s3, "key", b"body")
        await other.leave()
        assert await other.process.wait() == 0
        assert await client.query(servers.postgres, "select 1") == 1


async def test_the_process_that_started_the_server_may_leave_before_the_others(
    home: Path, client: Any, open_elsewhere: Any
) -> None:
    first = await open_elsewhere("postgres")
    async with open_local_servers(home, s3=False) as servers:
        await first.leave()
        with anyio.fail_after(20):
            assert await first.process.wait() == 0
        assert await client.query(servers.postgres, "select 1") == 1
        assert is_running(home / "postgres")
    assert not is_running(home / "postgres")


async def test_two_homes_do_not_clash_and_a_long_path_works(home: Path, client: Any) -> None:
    deep = home / LONG_NAME / LONG_NAME
    assert len(str(deep)) > 200
    async with open_local_servers(home) as near, open_local_servers(deep) as far:
        assert near.postgres.pid != far.postgres.pid
        await client.put(near.s3, "key", b"near")
        await client.put(far.s3, "key", b"far")
        assert await client.get(near.s3, "key") == b"near"
        assert await client.query(far.postgres, "select 1") == 1


async def test_a_failed_start_tells_why_and_leaves_nothing(home: Path) -> None:
    with pytest.raises(LocalServerError) as caught:
        async with open_local_servers(home, postgres_settings={"max_connections": "many"}):
            pytest.fail("must not get here")
    assert caught.value.server == "PostgreSQL"
    assert caught.value.log == home / "postgres" / "log"
    assert 'invalid value for parameter "max_connections"' in caught.value.tail[-1]
    assert "\n" not in str(caught.value)
    await until(lambda: not is_running(home / "postgres"))
    async with open_local_servers(home, s3=False) as servers:
        assert servers.postgres


async def test_a_directory_of_another_version_is_left_alone(home: Path) -> None:
    async with open_local_servers(home, s3=False):
        pass
    version = home / "postgres" / "cluster" / "data" / "PG_VERSION"
    made_by = version.read_text()
    version.write_text("12\n")
    before = snapshot(version.parent)
    with pytest.raises(LocalServerError, match="was made by PostgreSQL 12") as caught:
        async with open_local_servers(home, s3=False):
            pytest.fail("must not get here")
    assert "DATABASE_URL" in str(caught.value)
    assert snapshot(version.parent) == before
    version.write_text(made_by)


def snapshot(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.skipif(not SYSTEM_POSTGRES_15.exists(), reason="PostgreSQL 15 is not installed here")
async def test_other_binaries_can_be_used(home: Path, client: Any) -> None:
    async with open_local_servers(home, s3=False, postgres_binaries=SYSTEM_POSTGRES_15) as servers:
        version = await client.query(servers.postgres, "show server_version_num")
        assert version.startswith("15")
        assert await client.query(servers.postgres, "show server_encoding") == "UTF8"


async def test_a_missing_binary_is_a_clear_error(home: Path, tmp_path: Path) -> None:
    with pytest.raises(LocalServerError, match="cannot run"):
        async with open_local_servers(home, s3=False, postgres_binaries=tmp_path):
            pytest.fail("must not get here")
