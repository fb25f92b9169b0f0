from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from collector.local import LocalServerError, installation, open_local_servers

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")
DROPPED = {"user": NOBODY, "group": NOBODY, "extra_groups": []}


@pytest.fixture
def private_parent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stands for /var/lib."""
    parent = Path(tempfile.mkdtemp(prefix="var-lib-"))
    parent.chmod(0o711)
    monkeypatch.setattr(installation, "PRIVATE_PARENTS", (parent,))
    yield parent
    shutil.rmtree(parent)


def python_is_within_reach() -> bool:
    try:
        trial = subprocess.run(
            [sys.executable, "-c", "import asyncpg"], check=False, cwd="/", **DROPPED
        )
    except PermissionError:
        return False
    return trial.returncode == 0


@needs_root
async def test_an_ordinary_user_runs_both_servers(home: Path, open_elsewhere: Any) -> None:
    if not python_is_within_reach():
        pytest.skip("the user nobody cannot run this Python")
    os.chown(home, NOBODY, NOBODY)
    other = await open_elsewhere(
        "postgres", "s3", env={"HOME": str(home), "PYTHONPATH": str(Path.cwd())}, **DROPPED
    )
    for server in other.opened.values():
        assert Path(f"/proc/{server['pid']}").stat().st_uid == NOBODY


@needs_root
async def test_root_keeps_the_data_in_its_home_where_nobody_can_pass(
    home: Path, private_parent: Path
) -> None:
    async with open_local_servers(home, s3=False) as servers:
        assert Path(f"/proc/{servers.postgres.pid}").stat().st_uid == NOBODY
    assert (home / "postgres" / "cluster" / "data").stat().st_uid == NOBODY
    assert list(private_parent.iterdir()) == []


@needs_root
async def test_a_home_out_of_reach_uses_a_private_folder_and_says_so(
    home: Path, client: Any, private_parent: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home.chmod(0o700)
    async with open_local_servers(home, s3=False) as first:
        await client.query(first.postgres, "create table t as select 1 as one")
    (private,) = (private_parent / "draenei-collector").glob("cluster-*")
    assert private.stat().st_mode & 0o777 == 0o700
    assert private.stat().st_uid == NOBODY
    assert str(private) in caplog.text
    assert home.stat().st_mode & 0o777 == 0o700
    home.chmod(0o711)
    async with open_local_servers(home, s3=False) as second:
        assert await client.query(second.postgres, "select one from t") == 1
    shutil.rmtree(home / "postgres")
    home.chmod(0o700)
    async with open_local_servers(home, s3=False) as anew:
        assert await client.query(anew.postgres, "select to_regclass('t')") is None


@needs_root
async def test_data_that_went_out_of_reach_are_not_replaced_by_new(
    home: Path, private_parent: Path
) -> None:
    async with open_local_servers(home, s3=False):
        pass
    home.chmod(0o700)
    with pytest.raises(LocalServerError, match="nobody cannot reach its data"):
        async with open_local_servers(home, s3=False):
            pytest.fail("must not get here")


@needs_root
@pytest.mark.parametrize("hostile", ["owner", "mode", "link"])
async def test_a_private_folder_of_another_user_is_refused(
    home: Path, private_parent: Path, hostile: str
) -> None:
    home.chmod(0o700)
    root = private_parent / "draenei-collector"
    if hostile == "link":
        root.symlink_to(home)
    else:
        root.mkdir()
        os.chown(root, NOBODY if hostile == "owner" else 0, -1)
        root.chmod(0o777 if hostile == "mode" else 0o711)
    with pytest.raises(LocalServerError, match=str(root)):
        async with open_local_servers(home, s3=False):
            pytest.fail("must not get here")


@needs_root
async def test_binaries_out_of_reach_are_copied_once(
    home: Path,
    client: Any,
    private_parent: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.INFO)
    bundle = installation.bundled_binaries().parents[1]
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    for part in (bundle, bundle.with_name(f"{bundle.name}.libs")):
        if part.exists():
            copy = partial(shutil.copytree, part, hidden / part.name, symlinks=True)
            await anyio.to_thread.run_sync(copy)
    binaries = hidden / bundle.name / "pginstall" / "bin"
    monkeypatch.setattr(installation, "bundled_binaries", lambda: binaries)
    for _ in range(2):
        async with open_local_servers(home, s3=False) as servers:
            assert await client.query(servers.postgres, "select 1") == 1
    assert caplog.text.count("a copy is made") == 1
    assert hidden.stat().st_mode & 0o777 == 0o700
    assert len(list((private_parent / "draenei-collector").glob("binaries-*"))) == 1
