"""The composition root: the only module that names both wings, stages and adapters."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import Flag, auto
from typing import TypeVar

import anyio

from collector.adapters.http import AiohttpClient, open_http
from collector.adapters.migrations import migrate, require_schema
from collector.adapters.postgres import (
    ClaimPolicy,
    Database,
    PostgresLoads,
    PostgresPages,
    PostgresRuns,
    PostgresTransfers,
    open_database,
)
from collector.adapters.postgres.database import describe_dsn
from collector.adapters.s3 import S3Options, S3Store, open_s3
from collector.core.audit import AuditRow
from collector.core.errors import CollectorError
from collector.core.pacing import SlidingWindow
from collector.core.runs import Run, StageEnd, StageName, StageReport, StageStatus
from collector.flow import Pacer
from collector.local import LocalServers, open_local_servers
from collector.ports import Progress
from collector.settings import Settings
from collector.sources.wallhaven import USER_AGENT, WallhavenSearch
from collector.stages.api import ApiClient
from collector.stages.audit import audit
from collector.stages.extract import ExtractOptions, extract
from collector.stages.load import load
from collector.stages.transfer import Chance, TransferOptions, transfer

logger = logging.getLogger("collector")

# A clean exit after SIGTERM has 4 s in all; the last words to the database get this share.
LAST_WORDS_SECONDS = 1.0
# Sockets beside those of the images: API pages, and some that close while others open.
SPARE_CONNECTIONS = 16


Part = TypeVar("Part")


class Need(Flag):
    """What of the world a command needs; nothing else is opened.

    SCHEMA is a database at this version's schema; DATABASE alone is any.
    """

    DATABASE = auto()
    _SCHEMA = auto()
    SCHEMA = DATABASE | _SCHEMA
    STORE = auto()
    HTTP = auto()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a caller may choose for one run; None stands for the setting."""

    max_pages: int | None = None
    limit: int | None = None
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A wallpaper whose image is in the bucket."""

    wallhaven_id: str
    url: str
    s3_key: str
    object_sha256: str
    object_bytes: int


class Runtime:
    """Everything wired: settings, catalog, store, HTTP. Made by `open_runtime`."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings = settings
        self.progress = progress
        self.servers: LocalServers | None = None
        self._database: Database | None = None
        self._store: S3Store | None = None
        self._http: AiohttpClient | None = None

    async def open(self, need: Need, stack: AsyncExitStack) -> None:
        """Open what `need` names; `stack` closes it."""
        self.servers = await _open_servers(stack, self.settings, need)
        _say_where(self, need)
        if Need.DATABASE in need:
            self._database = await _open_database(stack, self, need)
        if Need.STORE in need:
            self._store = await _open_store(stack, self)
        if Need.HTTP in need:
            self._http = await stack.enter_async_context(
                open_http(
                    image_hosts=self.settings.image_hosts,
                    user_agent=USER_AGENT,
                    connections=self.settings.collector_in_flight + SPARE_CONNECTIONS,
                )
            )

    @property
    def database(self) -> Database:
        """The catalog's database."""
        return _opened(self._database)

    @property
    def store(self) -> S3Store:
        """The bucket."""
        return _opened(self._store)

    @property
    def http(self) -> AiohttpClient:
        """The way to API and images."""
        return _opened(self._http)

    @property
    def runs(self) -> PostgresRuns:
        """Runs and audit rows."""
        return PostgresRuns(self.database)

    @property
    def transfers(self) -> PostgresTransfers:
        """The backlog."""
        settings = self.settings
        policy = ClaimPolicy(settings.collector_lease_seconds, settings.collector_max_attempts)
        return PostgresTransfers(self.database, policy)

    async def extract(self, run_key: int, options: RunOptions, api: ApiClient) -> StageReport:
        """Run the stage `extract`."""
        settings = self.settings
        return await extract(
            run_key,
            source=search_of(settings),
            api=api,
            catalog=PostgresPages(self.database),
            options=ExtractOptions(
                options.max_pages or settings.wallhaven_max_pages, options.refresh
            ),
            progress=self.progress,
        )

    async def load(self, run_key: int) -> StageReport:
        """Run the stage `load`."""
        return await load(run_key, catalog=PostgresLoads(self.database))

    async def transfer(self, run_key: int, options: RunOptions) -> StageReport:
        """Run the stage `transfer`."""
        settings = self.settings
        limit = settings.upload_batch_limit if options.limit is None else options.limit
        return await transfer(
            run_key,
            catalog=self.transfers,
            http=self.http,
            store=self.store,
            options=TransferOptions(
                in_flight=settings.collector_in_flight,
                limit=limit,
                memory_bytes=settings.collector_memory_bytes,
                max_image_bytes=settings.collector_max_image_bytes,
                lease_seconds=settings.collector_lease_seconds,
                max_attempts=settings.collector_max_attempts,
                retry_base_seconds=settings.collector_retry_base_seconds,
            ),
            chance=Chance(time.monotonic, random.random),
            progress=self.progress,
        )

    async def audit(self, run_key: int) -> AuditRow:
        """Run the stage `audit`."""
        return await audit(
            run_key,
            catalog=self.runs,
            max_dead_percent=self.settings.collector_max_dead_percent,
        )

    async def stored_objects(self, limit: int | None) -> list[StoredRow]:
        """Return the newest `limit` stored wallpapers (None: all)."""
        rows = await self.database.fetch("stored_objects", limit)
        return [StoredRow(**row) for row in rows]

    def api(self) -> ApiClient:
        """Return a client of the API with a pacer of its own."""
        window = SlidingWindow(self.settings.wallhaven_requests_per_minute)
        return ApiClient(
            self.http,
            Pacer(window, time.monotonic),
            epoch_clock=time.time,
            retry_base_seconds=self.settings.collector_retry_base_seconds,
        )


def search_of(settings: Settings) -> WallhavenSearch:
    """Return the search that the settings name."""
    key = settings.wallhaven_api_key
    return WallhavenSearch(
        settings.wallhaven_api_url, settings.query, key.get_secret_value() if key else None
    )


def _opened(part: Part | None) -> Part:
    if part is None:
        raise RuntimeError("this command did not say that it needs this part")
    return part


@asynccontextmanager
async def open_runtime(
    settings: Settings, need: Need, progress: Progress
) -> AsyncIterator[Runtime]:
    """Open what `need` names, on the embedded servers where the settings name no others.

    On the embedded servers schema and bucket are made; on others they must be there. Raises
    SchemaMissing, Outage, LocalServerError. Everything is closed again on any exit.
    """
    async with AsyncExitStack() as stack:
        runtime = Runtime(settings, progress)
        await runtime.open(need, stack)
        yield runtime


async def _open_servers(
    stack: AsyncExitStack, settings: Settings, need: Need
) -> LocalServers | None:
    postgres = Need.DATABASE in need and settings.uses_local_postgres
    s3 = Need.STORE in need and settings.uses_local_s3
    if not postgres and not s3:
        return None
    return await stack.enter_async_context(
        open_local_servers(settings.collector_home, postgres=postgres, s3=s3)
    )


async def _open_database(stack: AsyncExitStack, runtime: Runtime, need: Need) -> Database:
    database = await stack.enter_async_context(open_database(database_dsn(runtime)))
    if Need.SCHEMA in need:
        async with database.session() as session:
            if runtime.settings.uses_local_postgres:
                await migrate(session)
            else:
                await require_schema(session)
    return database


def database_dsn(runtime: Runtime) -> str:
    """Return the address of the database, password included: never for people or logs."""
    if runtime.settings.database_url is not None:
        return runtime.settings.database_url.get_secret_value()
    if runtime.servers is None or runtime.servers.postgres is None:
        raise RuntimeError("no database was opened")
    return runtime.servers.postgres.dsn


async def _open_store(stack: AsyncExitStack, runtime: Runtime) -> S3Store:
    store = await stack.enter_async_context(open_s3(s3_options(runtime)))
    if runtime.settings.uses_local_s3:
        await store.create_bucket()
    await store.check_bucket()
    return store


def s3_options(runtime: Runtime) -> S3Options:
    """Return how the bucket is reached: the embedded server, or what the settings name."""
    settings = runtime.settings
    local = runtime.servers.s3 if runtime.servers else None
    connections = settings.collector_in_flight + SPARE_CONNECTIONS
    if local is not None:
        return S3Options(
            bucket=settings.bucket_name,
            endpoint_url=local.endpoint_url,
            region=local.region,
            access_key=local.access_key,
            secret_key=local.secret_key,
            session_token=None,
            path_style=True,
            connections=connections,
        )
    secret, token = settings.aws_secret_access_key, settings.aws_session_token
    return S3Options(
        bucket=settings.bucket_name,
        endpoint_url=settings.s3_endpoint_url or None,
        region=settings.aws_default_region,
        access_key=settings.aws_access_key_id,
        secret_key=secret.get_secret_value() if secret else None,
        session_token=token.get_secret_value() if token else None,
        path_style=settings.path_style,
        connections=connections,
    )


def _say_where(runtime: Runtime, need: Need) -> None:
    parts = []
    if Need.DATABASE in need:
        parts.append(f"database {describe_dsn(database_dsn(runtime))}")
    if Need.STORE in need:
        options = s3_options(runtime)
        parts.append(f"store {options.endpoint_url or 'AWS'} bucket {options.bucket}")
    if parts:
        logger.info("[draenei] %s", ", ".join(parts))


STAGE_NEEDS = {
    StageName.EXTRACT: Need.SCHEMA | Need.HTTP,
    StageName.LOAD: Need.SCHEMA,
    StageName.TRANSFER: Need.SCHEMA | Need.STORE | Need.HTTP,
    StageName.AUDIT: Need.SCHEMA,
}


async def run_one_stage(
    runtime: Runtime, stage: StageName, run: Run, options: RunOptions
) -> StageReport | AuditRow:
    """Run one stage of `run` and note in the database how it ended.

    Raises what the stage raised, after it was noted: failed, or interrupted on cancellation.
    """
    run_key = await runtime.runs.open_run(run)
    if stage is StageName.AUDIT:
        return await _closing(runtime.audit(run_key))
    return await _recorded(runtime, run_key, stage, options)


async def run_all_stages(
    runtime: Runtime, run: Run, options: RunOptions, on_audit: Callable[[AuditRow], None]
) -> AuditRow:
    """Run extract, load, transfer and audit in line; return the audit row, tell `on_audit` too.

    A stage that fails ends the line, but the audit is written all the same, and carries the
    problem in its notes. On cancellation it says `interrupted` and the cancellation goes on.
    Raises what went wrong where even the audit cannot be written.
    """
    run_key = await runtime.runs.open_run(run)
    try:
        for stage in (StageName.EXTRACT, StageName.LOAD, StageName.TRANSFER):
            await _recorded(runtime, run_key, stage, options)
    except CollectorError as error:
        logger.error("[draenei] %s", error)
    except BaseException:
        with anyio.move_on_after(LAST_WORDS_SECONDS, shield=True):
            on_audit(await _closing(runtime.audit(run_key)))
        raise
    row = await _closing(runtime.audit(run_key))
    on_audit(row)
    return row


async def _closing(writing: Awaitable[AuditRow]) -> AuditRow:
    row = await writing
    _log_audit(row)
    return row


def _log_audit(row: AuditRow) -> None:
    logger.info(
        "[draenei] audit: run_id=%s status=%s inserted=%d updated=%d unchanged=%d uploaded=%d"
        " adopted=%d download_failures=%d upload_failures=%d missing_s3=%d duration_seconds=%.3f",
        row.run_id,
        row.status,
        row.metadata_inserted,
        row.metadata_updated,
        row.metadata_unchanged,
        row.images_uploaded,
        row.images_adopted,
        row.download_failures,
        row.upload_failures,
        row.missing_s3_after_run,
        row.duration_seconds,
    )


async def _recorded(
    runtime: Runtime, run_key: int, stage: StageName, options: RunOptions
) -> StageReport:
    api = runtime.api() if stage is StageName.EXTRACT else None
    try:
        await runtime.runs.begin_stage(run_key, stage)
        if api is not None:
            report = await runtime.extract(run_key, options, api)
        elif stage is StageName.LOAD:
            report = await runtime.load(run_key)
        else:
            report = await runtime.transfer(run_key, options)
    except BaseException as error:
        await _note_end(runtime, run_key, stage, _end(error, api))
        raise
    sent = api.requests_sent if api else 0
    end = StageEnd(StageStatus.SUCCEEDED, sent, report.as_json())
    await runtime.runs.end_stage(run_key, stage, end)
    counts = " ".join(f"{name}={count}" for name, count in report.counts.items())
    logger.info("[draenei] %s: %s", stage, counts)
    return report


def _end(error: BaseException, api: ApiClient | None) -> StageEnd:
    sent = api.requests_sent if api else 0
    if not isinstance(error, Exception):
        return StageEnd(StageStatus.INTERRUPTED, sent, {}, "interrupted")
    # A defect is named by its type: its text may hold anything.
    problem = str(error) if isinstance(error, CollectorError) else type(error).__name__
    return StageEnd(StageStatus.FAILED, sent, {}, problem)


async def _note_end(runtime: Runtime, run_key: int, stage: StageName, end: StageEnd) -> None:
    with anyio.move_on_after(LAST_WORDS_SECONDS, shield=True):
        try:
            await runtime.runs.end_stage(run_key, stage, end)
        except CollectorError as error:
            logger.warning("the end of %s could not be noted: %s", stage, error)
