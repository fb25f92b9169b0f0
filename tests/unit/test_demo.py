"""Objects are saved as whole files, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from collector.cli.progress import SilentProgress
from collector.core.errors import Code, Fault, ItemError
from collector.core.runs import Run
from collector.demo import CannotSave, DemoError, copy_objects, run_demo
from collector.ports import ObjectStore
from collector.settings import Settings

KEY = "wallpapers/abc123.jpg"


class Objects:
    """A store with one object; `on_read` is called in the middle of it."""

    def __init__(self, on_read: Callable[[], None] = lambda: None) -> None:
        self._on_read = on_read

    @asynccontextmanager
    async def read(self, _: str) -> AsyncIterator[AsyncIterator[bytes]]:
        yield self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        yield b"half "
        self._on_read()
        yield b"whole"


async def save(folder: Path, on_read: Callable[[], None] = lambda: None) -> None:
    await copy_objects(cast("ObjectStore", Objects(on_read)), [KEY], folder)


async def test_a_whole_object_is_one_file(tmp_path: Path) -> None:
    await save(tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [
        ("abc123.jpg", "half whole")
    ]


@pytest.mark.case("DSK-05")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk always full")
async def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "abc123.jpg.part").symlink_to("/dev/full")
    with pytest.raises(CannotSave, match=r"abc123\.jpg cannot be written: No space left"):
        await save(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.case("DSK-05")
async def test_a_folder_that_vanishes_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    with pytest.raises(CannotSave, match=r"abc123\.jpg cannot be written: No such file"):
        await save(folder, lambda: shutil.rmtree(folder))
    assert not folder.exists()


async def test_an_object_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def break_off() -> None:
        raise ItemError(Code.STORE_ERROR, "broken off", fault=Fault.TRANSIENT)

    with pytest.raises(ItemError):
        await save(tmp_path, break_off)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fresh", [False, True])
async def test_a_home_that_cannot_be_used_is_one_line(tmp_path: Path, fresh: bool) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DemoError, match=r"COLLECTOR_HOME .*/file/home cannot be used: Not a dir"):
        await run_demo(
            Settings(_env_file=None, collector_home=file / "home"),
            wallpapers=1,
            images=None,
            fresh=fresh,
            run=Run("demo", "one"),
            progress=SilentProgress(),
            on_audit=lambda _: None,
        )
