"""The Python API, as a script of its own: what its page shows, settings, and an interruption."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from processes import environment_of
from world import OpenWorld, World, small

from collector import read_catalog
from collector.core.errors import SettingsError
from collector.failpoints import VARIABLE
from collector.runtime.opening import RunOptions

PAGE = (Path(__file__).resolve().parents[2] / "docs/how-to/python.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
# A run of thirty small images takes a few seconds on a busy machine; this only bounds a hang.
SCRIPT_TIMEOUT_SECONDS = 90
IN_A_LOOP = """
import asyncio
from collector import read_catalog
async def cell():
    return len(read_catalog())
print(asyncio.run(cell()))
"""
INTERRUPTED = """
from collector import run
try:
    run(run_id="mine")
except KeyboardInterrupt:
    print("interrupted")
"""


async def script(world: World, code: str, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a script to its end, with the settings of the world in its environment."""
    with anyio.fail_after(SCRIPT_TIMEOUT_SECONDS):
        return await anyio.run_process(
            [sys.executable, "-c", code], env=environment_of(world.settings, **env), check=False
        )


async def test_the_examples_of_the_page_run(open_world: OpenWorld, small_images: Path) -> None:
    async with open_world(small(small_images, 30)) as world:
        ended = await script(world, "".join(EXAMPLES) + "print(len(rows))\n")
        said = ended.stdout.decode()
        assert (ended.returncode, ended.stderr) == (0, b""), ended.stderr.decode()
        first, *lines, rows = said.splitlines()
        assert first == "succeeded 20 stored, 10 still missing"
        assert rows == "10"
        wallpapers, images = lines[:3], lines[3:]
        assert [len(line.split()) for line in wallpapers] == [3] * 3
        sizes = {key: len(image) for key, image in (await sources(world)).items()}
        assert len(images) == 3
        for key, size, _ in map(str.split, images):
            assert int(size) == sizes[key]


async def sources(world: World) -> dict[str, bytes]:
    """Return the objects of the bucket, which the examples have stored."""
    found = {}
    async for key, _ in world.runtime.store.keys("wallpapers/"):
        async with world.runtime.store.read(key) as chunks:
            found[key] = b"".join([chunk async for chunk in chunks])
    return found


async def test_what_is_not_stored_is_not_in_the_collection(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        await world.run(options=RunOptions(limit=2))
        rows = await world.runtime.catalog.items.collection()
        stored = await world.runtime.catalog.items.stored()
        assert {row["s3_key"] for row in rows} == {row.s3_key for row in stored}
        assert len(rows) == 2
        assert len(await world.runtime.catalog.items.collection(limit=1)) == 1
        assert {"page_url", "resolution", "views", "favorites", "uploader", "tags"} <= rows[
            0
        ].keys()


async def test_a_cell_with_a_running_loop_may_call_it(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 5)) as world:
        await world.run()
        ended = await script(world, IN_A_LOOP)
        assert ended.stdout == b"5\n", ended.stderr.decode()


async def test_an_interrupted_call_writes_its_audit_row(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 200)) as world:
        process = await anyio.open_process(
            [sys.executable, "-c", INTERRUPTED],
            env=environment_of(world.settings, **{VARIABLE: "claimed:stop"}),
        )
        async with process:
            with anyio.fail_after(SCRIPT_TIMEOUT_SECONDS):
                while await state(process.pid) != "T":
                    await anyio.sleep(0.05)
                process.send_signal(signal.SIGINT)
                process.send_signal(signal.SIGCONT)
                assert process.stdout is not None
                assert b"".join([said async for said in process.stdout]) == b"interrupted\n"
        (row,) = await world.rows("SELECT run_id, status FROM draenei_content.run_audit")
        assert tuple(row) == ("mine", "interrupted")


async def state(pid: int) -> str:
    """Return the first letter of a process's state; T is stopped."""
    asked = await anyio.run_process(["ps", "-o", "state=", "-p", str(pid)])
    return asked.stdout.decode().strip()[:1]


def test_a_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(
        SettingsError, match="BUCKET: there is no such setting; did you mean BUCKET_NAME"
    ):
        read_catalog(bucket="walls")
