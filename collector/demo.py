"""The demo: a whole run on embedded servers and the simulator, verified at the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio

from collector.core.audit import AuditRow
from collector.core.errors import CollectorError
from collector.core.parts import Chunk
from collector.core.runs import Run
from collector.flow import task_group
from collector.local import Command, LocalServers, is_in_use, open_child
from collector.ports import ObjectStore, Progress
from collector.runtime.opening import Need, RunOptions, Runtime, open_runtime, unusable_home
from collector.runtime.running import run_all_stages
from collector.settings import Settings

# The simulator need not be spared as the real site is, with its 45 a minute.
DEMO_REQUESTS_PER_MINUTE = 600
# Short, so that another demo soon claims what a killed one had claimed.
DEMO_LEASE_SECONDS = 15
# The simulator starts in about a second, on a busy machine in ten.
READY_TIMEOUT_SECONDS = 30.0
READY_POLL_SECONDS = 0.05
# Enough to keep two cores busy with hashing.
VERIFY_IN_FLIGHT = 4
# How many images are copied out of the bucket to look at.
PICTURES = 12

_STATE_FILE = "demo.json"
_PICTURE_FOLDER = "pictures"


class DemoError(CollectorError):
    """The demo could not be set up."""


class CannotSave(CollectorError):
    """An object cannot be saved as a file, such as on a full disk."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} cannot be written: {problem}; the object is still in the bucket")
        self.path = path


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The audit row, how many objects were verified, and where things are."""

    audit: AuditRow
    verified: int
    stored: int
    servers: LocalServers
    bucket: str
    pictures: Path


async def run_demo(
    settings: Settings,
    *,
    wallpapers: int,
    images: Path | None,
    fresh: bool,
    run: Run,
    progress: Progress,
    on_audit: Callable[[AuditRow], None],
) -> DemoResult:
    """Run all stages, then read every object back and compare it with its source.

    Data and port stay under `settings.collector_home`, so that a second demo stores and changes
    nothing; `fresh` deletes them first. Raises what the stages raise, and DemoError.
    """
    home = settings.collector_home.absolute()
    try:
        if fresh:
            await anyio.to_thread.run_sync(_forget, home)
        home.mkdir(parents=True, exist_ok=True)
        port = _port_of(home)
    except OSError as error:
        raise DemoError(unusable_home(home, error.strerror)) from None
    async with _simulator(home, port, wallpapers, images) as address:
        demo_settings = _demo_settings(settings, address)
        need = Need.SCHEMA | Need.STORE | Need.HTTP
        async with open_runtime(demo_settings, need, progress) as runtime:
            audit = await run_all_stages(runtime, run, RunOptions(), on_audit)
            return await _verified(runtime, audit, home / _PICTURE_FOLDER)


def _port_of(home: Path) -> int:
    """Return the port of the last demo, or a free one: stored rows have addresses with it."""
    path = home / _STATE_FILE
    port = _free_port()
    with suppress(FileNotFoundError, ValueError, KeyError):
        port = int(json.loads(path.read_text())["port"])
    path.write_text(json.dumps({"port": port}))
    return port


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _forget(home: Path) -> None:
    # A folder that no demo has made may hold a real collection.
    if not (home / _STATE_FILE).exists():
        return
    if is_in_use(home):
        raise DemoError(
            f"the servers of {home} are in use, nothing was deleted: stop `collector serve` first"
        )
    for name in ("postgres", "s3", _PICTURE_FOLDER):
        shutil.rmtree(home / name, ignore_errors=True)
    (home / _STATE_FILE).unlink()


def _demo_settings(settings: Settings, address: str) -> Settings:
    """Return settings that use only the demo's own servers and mirror all that they list."""
    replaced = ("database_", "bucket_", "s3_", "aws_", "wallhaven_")
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in Settings.model_fields.items()
        if name.startswith(replaced)
    }
    demo = {
        "upload_batch_limit": 0,
        "collector_lease_seconds": DEMO_LEASE_SECONDS,
        "wallhaven_api_url": f"http://{address}/api/v1",
        "wallhaven_image_hosts": address,
        "wallhaven_requests_per_minute": DEMO_REQUESTS_PER_MINUTE,
        "wallhaven_max_pages": sys.maxsize,
    }
    return settings.model_copy(update={**defaults, **demo})


@asynccontextmanager
async def _simulator(
    home: Path, port: int, wallpapers: int, images: Path | None
) -> AsyncIterator[str]:
    argv = [sys.executable, "-m", "collector", "simulate", "--port", str(port)]
    argv += ["--wallpapers", str(wallpapers)]
    argv += ["--requests-per-minute", str(DEMO_REQUESTS_PER_MINUTE)]
    argv += ["--images", str(images)] if images else []
    log = home / "simulator.log"
    command = Command("the simulator", argv, env=os.environ, cwd=Path.cwd(), log=log)
    async with open_child(command) as child:
        with anyio.move_on_after(READY_TIMEOUT_SECONDS):
            while child.running and not await _answers(port):
                await anyio.sleep(READY_POLL_SECONDS)
        if not child.running or not await _answers(port):
            raise DemoError(f"the simulator did not start, nothing was stored: see {log}")
        yield f"127.0.0.1:{port}"


async def _answers(port: int) -> bool:
    try:
        async with await anyio.connect_tcp("127.0.0.1", port):
            return True
    except OSError:
        return False


async def _verified(runtime: Runtime, audit: AuditRow, pictures: Path) -> DemoResult:
    stored = await runtime.catalog.items.stored()
    verified = 0
    todo = iter(stored)

    async def verify() -> None:
        nonlocal verified
        for row in todo:
            async with runtime.http.open(row.url) as body:
                source = await _sha256(body.chunks())
            async with runtime.store.read(row.s3_key) as chunks:
                kept = await _sha256(chunks)
            verified += source == kept == row.object_sha256
            runtime.progress.advance("verify", 1, row.object_bytes)

    runtime.progress.start("verify", len(stored))
    async with task_group() as tasks:
        for _ in range(VERIFY_IN_FLIGHT):
            tasks.start_soon(verify)
    runtime.progress.finish("verify")
    pictures.mkdir(exist_ok=True)
    await copy_objects(runtime.store, [row.s3_key for row in stored[:PICTURES]], pictures)
    servers = LocalServers(runtime.local_postgres, runtime.local_s3, pictures.parent)
    return DemoResult(audit, verified, len(stored), servers, runtime.settings.bucket_name, pictures)


async def _sha256(chunks: AsyncIterator[Chunk]) -> str:
    digest = hashlib.sha256()
    async for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


async def copy_objects(store: ObjectStore, keys: list[str], folder: Path) -> None:
    """Save objects as files of `folder`, which exists, by the last part of their keys.

    Raises ItemError(not_found) for a missing object, and CannotSave if a file cannot be written.
    Only whole files appear in the folder.
    """
    for key in keys:
        async with store.read(key) as chunks:
            await _save(chunks, folder / Path(key).name)


async def _save(chunks: AsyncIterator[bytes], path: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        async with await anyio.open_file(part, "wb") as file:
            async for chunk in chunks:
                await file.write(chunk)
        part.replace(path)
    except OSError as error:
        raise CannotSave(path, error.strerror or "unknown error") from None
    finally:
        with suppress(OSError):
            part.unlink()
