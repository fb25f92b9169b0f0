"""A small world for one test: a simulator, a database, a bucket, and the runtime on them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from collector.cli.progress import SilentProgress
from collector.core.audit import AuditRow
from collector.core.runs import Run, StageName, StageReport
from collector.local import LocalS3
from collector.runtime.opening import Need, RunOptions, Runtime, open_runtime
from collector.runtime.running import run_all_stages, run_one_stage
from collector.settings import Settings
from collector.simulator import Hooks, Simulator, SimulatorOptions, open_simulator

OpenWorld = Callable[..., AbstractAsyncContextManager["World"]]

EVERYTHING = Need.SCHEMA | Need.STORE | Need.HTTP
FAST = RunOptions()


@dataclass(frozen=True)
class World:
    """What a test may look at and act on."""

    simulator: Simulator
    runtime: Runtime
    settings: Settings

    async def run(self, run_id: str = "run", options: RunOptions = FAST) -> AuditRow:
        """Run all stages; return the audit row."""
        return await run_all_stages(self.runtime, Run("tests", run_id), options, lambda _: None)

    async def stage(
        self, stage: StageName, run_id: str = "run", options: RunOptions = FAST, worker: int = 0
    ) -> StageReport | AuditRow:
        """Run one stage of a run, as one of its workers."""
        run = Run("tests", run_id, worker=worker)
        return await run_one_stage(self.runtime, stage, run, options)

    async def rows(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """Look into the database."""
        async with self.runtime.catalog.database.session() as session:
            return await session.connection.fetch(statement, *arguments)

    async def value(self, statement: str, *arguments: Any) -> Any:
        """Look up one value."""
        async with self.runtime.catalog.database.session() as session:
            return await session.connection.fetchval(statement, *arguments)

    async def objects(self) -> dict[str, str]:
        """Return the sha256 of every object in the bucket, by key."""
        found = {}
        async for key, _ in self.runtime.store.keys("wallpapers/"):
            digest = hashlib.sha256()
            async with self.runtime.store.read(key) as chunks:
                async for chunk in chunks:
                    digest.update(chunk)
            found[key] = digest.hexdigest()
        return found

    def truth(self) -> dict[str, str]:
        """Return what the bucket must hold: the sha256 of every source image, by key."""
        catalogue = self.simulator.catalogue
        return {
            f"wallpapers/{wallpaper.id}.{wallpaper.extension}": catalogue.sha256(wallpaper)
            for wallpaper in catalogue
        }


def small(images: Path, wallpapers: int = 60, **changes: Any) -> SimulatorOptions:
    """Return options of a simulator with small pictures and without a rate limit."""
    return SimulatorOptions(wallpapers=wallpapers, images=images, requests_per_minute=0, **changes)


@asynccontextmanager
async def open_world(
    dsn: str,
    s3: LocalS3,
    bucket: str,
    options: SimulatorOptions | None = None,
    hooks: Hooks | None = None,
    **changes: Any,
) -> AsyncIterator[World]:
    """Open a world on a bucket that is there; `changes` are settings that the test is about."""
    async with open_simulator(options or SimulatorOptions(), hooks or Hooks()) as simulator:
        settings = Settings(
            **{
                "database_url": dsn,
                "bucket_name": bucket,
                "s3_endpoint_url": s3.endpoint_url,
                "aws_access_key_id": s3.access_key,
                "aws_secret_access_key": s3.secret_key,
                "aws_default_region": s3.region,
                "wallhaven_api_url": simulator.api_url,
                "wallhaven_image_hosts": simulator.image_host,
                "wallhaven_requests_per_minute": 6000,
                "collector_retry_base_seconds": 0.01,
                **changes,
            }
        )
        async with open_runtime(settings, EVERYTHING, SilentProgress()) as runtime:
            yield World(simulator, runtime, settings)
