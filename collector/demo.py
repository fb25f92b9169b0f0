"""The demo: the whole job on embedded servers, against the bundled simulator, proven at the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio

from collector.core.audit import AuditRow
from collector.core.errors import CollectorError
from collector.core.runs import Run
from collector.flow import task_group
from collector.local import Command, LocalServers, is_in_use, open_child
from collector.ports import Http, ObjectStore, Progress
from collector.runtime.opening import Need, RunOptions, Runtime, open_runtime
from collector.runtime.running import run_all_stages
from collector.settings import Settings

# The rehearsal need not wait for the real site's 45 a minute: both sides are ours.
DEMO_REQUESTS_PER_MINUTE = 600
DEMO_LEASE_SECONDS = 15
# The simulator starts in about a second; drawing on a busy machine may take ten.
READY_TIMEOUT_SECONDS = 30.0
READY_POLL_SECONDS = 0.05
# Enough to keep two cores busy with hashing, few enough to stay light.
VERIFY_IN_FLIGHT = 4
# Pictures that are copied out of the bucket for a person to look at.
PICTURES = 12

_STATE_FILE = "demo.json"
_PICTURE_FOLDER = "pictures"


class DemoError(CollectorError):
    """The demo itself could not be set up."""


class CannotSave(CollectorError):
    """An object cannot be saved as a file: the disk is full, or the folder takes none."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} cannot be written: {problem}. The bucket still has the object.")
        self.path = path


@dataclass(frozen=True, slots=True)
class DemoState:
    """What a second demo must find again, so that it changes nothing."""

    port: int
    wallpapers: int
    images: str | None


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The audit row, what was proven, and where things are."""

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
    """Run the main job end to end, then read every object back and compare it with its source.

    Data and port stay under `settings.collector_home`, so that a second demo stores and changes
    nothing; `fresh` forgets them first. Raises what the stages raise, and DemoError.
    """
    home = settings.collector_home.absolute()
    try:
        if fresh:
            await anyio.to_thread.run_sync(_forget, home)
        home.mkdir(parents=True, exist_ok=True)
        state = _state(home, wallpapers, images)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DemoError(f"COLLECTOR_HOME {home} cannot be used: {reason}") from None
    async with _simulator(home, state) as address:
        demo_settings = _demo_settings(settings, address)
        need = Need.SCHEMA | Need.STORE | Need.HTTP
        async with open_runtime(demo_settings, need, progress) as runtime:
            audit = await run_all_stages(runtime, run, RunOptions(), on_audit)
            return await _proven(runtime, audit, home / _PICTURE_FOLDER)


def _state(home: Path, wallpapers: int, images: Path | None) -> DemoState:
    path = home / _STATE_FILE
    shown = str(images.absolute()) if images else None
    port = _free_port()
    with suppress(FileNotFoundError, ValueError, KeyError):
        port = int(json.loads(path.read_text())["port"])
    state = DemoState(port, wallpapers, shown)
    path.write_text(json.dumps(asdict(state)))
    return state


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _forget(home: Path) -> None:
    # Only a folder that a demo made is emptied; anything else may be somebody's collection.
    if not (home / _STATE_FILE).exists():
        return
    if is_in_use(home):
        raise DemoError(f"the servers of {home} are in use; stop `collector serve` first")
    for name in ("postgres", "s3", _PICTURE_FOLDER):
        shutil.rmtree(home / name, ignore_errors=True)
    (home / _STATE_FILE).unlink()


def _demo_settings(settings: Settings, address: str) -> Settings:
    """Return settings that name nothing but the demo's own servers, and the whole catalogue."""
    ours = ("database_", "bucket_", "s3_", "aws_", "wallhaven_")
    defaults = {
        name: field.get_default(call_default_factory=True)
        for name, field in Settings.model_fields.items()
        if name.startswith(ours)
    }
    demo = {
        "upload_batch_limit": 0,
        # What a demo that was killed had in its hands is free again before a person wonders.
        "collector_lease_seconds": DEMO_LEASE_SECONDS,
        "wallhaven_api_url": f"http://{address}/api/v1",
        "wallhaven_image_hosts": address,
        "wallhaven_requests_per_minute": DEMO_REQUESTS_PER_MINUTE,
        "wallhaven_max_pages": sys.maxsize,
    }
    return settings.model_copy(update={**defaults, **demo})


@asynccontextmanager
async def _simulator(home: Path, state: DemoState) -> AsyncIterator[str]:
    argv = [sys.executable, "-m", "collector", "simulate", "--port", str(state.port)]
    argv += ["--wallpapers", str(state.wallpapers)]
    argv += ["--requests-per-minute", str(DEMO_REQUESTS_PER_MINUTE)]
    argv += ["--images", state.images] if state.images else []
    log = home / "simulator.log"
    command = Command("the simulator", argv, env=os.environ, cwd=Path.cwd(), log=log)
    async with open_child(command) as child:
        with anyio.move_on_after(READY_TIMEOUT_SECONDS):
            while child.running and not await _answers(state.port):
                await anyio.sleep(READY_POLL_SECONDS)
        if not child.running or not await _answers(state.port):
            raise DemoError(f"the simulator did not start; see {log}")
        yield f"127.0.0.1:{state.port}"


async def _answers(port: int) -> bool:
    try:
        async with await anyio.connect_tcp("127.0.0.1", port):
            return True
    except OSError:
        return False


async def _proven(runtime: Runtime, audit: AuditRow, pictures: Path) -> DemoResult:
    stored = await runtime.catalog.items.stored()
    verified = 0
    todo = iter(stored)

    async def verify() -> None:
        nonlocal verified
        for row in todo:
            source = await _source_sha256(runtime.http, row.url)
            kept = await _object_sha256(runtime.store, row.s3_key)
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


async def _source_sha256(http: Http, url: str) -> str:
    digest = hashlib.sha256()
    async with http.open(url) as body:
        async for chunk in body.chunks():
            digest.update(chunk)
    return digest.hexdigest()


async def _object_sha256(store: ObjectStore, key: str) -> str:
    digest = hashlib.sha256()
    async with store.read(key) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()


async def copy_objects(store: ObjectStore, keys: list[str], folder: Path) -> None:
    """Save objects as files of `folder`, which exists, by the last part of their keys.

    Raises ItemError(not_found) where there is no such object, and CannotSave where the folder
    takes no file. A file appears under its name when it is whole, and nothing else stays.
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
        raise CannotSave(path, error.strerror or type(error).__name__) from None
    finally:
        with suppress(OSError):
            part.unlink()
