"""The Python API: a run and its results, for notebooks and scripts.

Each function blocks until it is done, and works inside a running event loop too, as in a notebook.
Keyword arguments beyond those named are settings in lower case, such as `bucket_name="walls"`; they
win over the environment and over `env_file`. A database and a bucket that nothing names are the
embedded ones, and stop when the call ends.

Raises SettingsError for a wrong or unknown setting, and another CollectorError for what fails.
KeyboardInterrupt ends a call cleanly: a run writes its audit row, and releases what it has claimed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import wait
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from anyio.from_thread import start_blocking_portal

from collector.core.audit import AuditRow
from collector.core.runs import DEFAULT_DAG_ID, Run
from collector.runtime.opening import Need, RunOptions, Runtime, open_runtime
from collector.runtime.running import run_all_stages
from collector.runtime.scheduled import LoggedProgress
from collector.settings import Settings, load_settings

T = TypeVar("T")

SIGNAL_POLL_SECONDS = 0.2


def run(
    query: str | None = None,
    *,
    limit: int | None = None,
    refresh: bool = False,
    run_id: str | None = None,
    env_file: Path | str | None = None,
    **settings: Any,
) -> AuditRow:
    """Mirror a search as `collector run` does; return the audit row, whose fields are its columns.

    `query` stands for WALLHAVEN_QUERY and `limit` for UPLOAD_BATCH_LIMIT. The same `run_id` again
    continues that run. A stage that fails does not raise: the row's `status` is then `failed`, and
    its `notes` say why.
    """
    if query is not None:
        settings |= {"wallhaven_query": query, "wallhaven_collection": ""}
    this_run = Run(DEFAULT_DAG_ID, run_id or f"run__{datetime.now(UTC).isoformat()}")
    options = RunOptions(limit=limit, refresh=refresh)

    async def work(runtime: Runtime) -> AuditRow:
        return await run_all_stages(runtime, this_run, options, lambda _: None)

    return _call(_settings(env_file, settings), Need.SCHEMA | Need.STORE | Need.HTTP, work)


def read_catalog(
    limit: int | None = None, *, env_file: Path | str | None = None, **settings: Any
) -> list[dict[str, Any]]:
    """Return the wallpapers that were stored last (`limit` of them, None: all), a dict for each.

    The keys are the columns of the view `draenei_content.collection`.
    """

    async def work(runtime: Runtime) -> list[dict[str, Any]]:
        return await runtime.catalog.items.collection(limit)

    return _call(_settings(env_file, settings), Need.SCHEMA, work)


def read_images(
    keys: Iterable[str], *, env_file: Path | str | None = None, **settings: Any
) -> dict[str, bytes]:
    """Return the objects under these keys, whole and all in memory at once.

    Raises ItemError for a key without an object.
    """

    async def work(runtime: Runtime) -> dict[str, bytes]:
        images = {}
        for key in keys:
            async with runtime.store.read(key) as chunks:
                images[key] = b"".join([chunk async for chunk in chunks])
        return images

    return _call(_settings(env_file, settings), Need.STORE, work)


def _settings(env_file: Path | str | None, overrides: dict[str, Any]) -> Settings:
    return load_settings(Path(env_file) if env_file is not None else None, **overrides)


def _call(settings: Settings, need: Need, work: Callable[[Runtime], Awaitable[T]]) -> T:
    """Do the work in a thread of its own: the caller's may have a running event loop."""

    async def main() -> T:
        async with open_runtime(settings, need, LoggedProgress(time.monotonic)) as runtime:
            return await work(runtime)

    with start_blocking_portal() as portal:
        called = portal.start_task_soon(main)
        # A wait without end would not notice a Ctrl-C that another thread has received.
        while not wait([called], SIGNAL_POLL_SECONDS).done:
            pass
        return called.result()
