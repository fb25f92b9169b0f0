"""Opens what a command needs: catalog, store and HTTP, as the settings name them."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from enum import Flag, auto
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from collector.catalog import Allowance, Catalog, ClaimPolicy, SharedBudget, open_catalog
from collector.catalog.migrations import migrate, require_schema
from collector.core.errors import Edge, Outage, SettingsError
from collector.core.pacing import Priority
from collector.core.runs import StageCall
from collector.logs import logger
from collector.ports import Progress
from collector.settings import Settings
from collector.sources import Source
from collector.sources.wallhaven import (
    USER_AGENT,
    CollectionName,
    QueryError,
    WallhavenCollection,
    WallhavenDetails,
    WallhavenSearch,
)

if TYPE_CHECKING:
    from pydantic import SecretStr

    from collector.http import AiohttpClient
    from collector.local import LocalPostgres, LocalS3, LocalServers
    from collector.stages.api_client import ApiClient
    from collector.store import S3Options, S3Store


Part = TypeVar("Part")
# Sockets in addition to one for each image: API pages, and sockets that close while others open.
SPARE_CONNECTIONS = 16


class Need(Flag):
    """What a command needs; nothing else is opened.

    SCHEMA is a database at this version's schema; DATABASE alone accepts any schema, or none.
    """

    DATABASE = auto()
    _SCHEMA = auto()
    SCHEMA = DATABASE | _SCHEMA
    STORE = auto()
    HTTP = auto()


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What a caller may choose for one run; None means the setting.

    With `only`, the transfer skips images that the run's own pages do not list.
    """

    max_pages: int | None = None
    limit: int | None = None
    refresh: bool = False
    only: bool = False


class Runtime:
    """Settings, catalog, store and HTTP, opened by `open_runtime`."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings = settings
        self.progress = progress
        self.local_postgres: LocalPostgres | None = None
        self.local_s3: LocalS3 | None = None
        self._catalog: Catalog | None = None
        self._store: S3Store | Outage | None = None
        self._http: AiohttpClient | None = None

    async def open(self, need: Need, stack: AsyncExitStack) -> None:
        """Open what `need` names; `stack` closes it.

        Raises Outage if the database is down. If the store is down, only `Runtime.store` raises
        it, so that stages without a store, above all the audit, still run.
        """
        if Need.DATABASE in need:
            await self._open_database(need, stack)
        if Need.STORE in need:
            try:
                await self._open_store(stack)
            except Outage as problem:
                self._store = problem
        if Need.HTTP in need:
            from collector.http import open_http

            self._http = await stack.enter_async_context(
                open_http(
                    image_hosts=self.settings.image_hosts,
                    user_agent=USER_AGENT,
                    connections=self.settings.collector_in_flight + SPARE_CONNECTIONS,
                )
            )
        self._say_where(need)

    @property
    def catalog(self) -> Catalog:
        return _opened(self._catalog)

    @property
    def store(self) -> S3Store:
        """The bucket. Raises Outage(upload) if it could not be opened."""
        if isinstance(self._store, Outage):
            raise self._store
        return _opened(self._store)

    @property
    def http(self) -> AiohttpClient:
        return _opened(self._http)

    async def _open_database(self, need: Need, stack: AsyncExitStack) -> None:
        settings = self.settings
        if settings.database_url is not None:
            dsn = settings.database_url.get_secret_value()
        else:
            local = await _open_local(stack, settings.collector_home, Edge.DATABASE, postgres=True)
            self.local_postgres = _opened(local.postgres)
            dsn = self.local_postgres.dsn
        policy = ClaimPolicy(settings.collector_lease_seconds, settings.collector_max_attempts)
        self._catalog = await stack.enter_async_context(open_catalog(dsn, policy))
        if Need.SCHEMA in need:
            async with self.catalog.database.session() as session:
                await (require_schema(session) if settings.database_url else migrate(session))

    async def _open_store(self, stack: AsyncExitStack) -> None:
        from collector.store import open_s3

        settings = self.settings
        if settings.uses_local_s3:
            local = await _open_local(stack, settings.collector_home, Edge.UPLOAD, s3=True)
            self.local_s3 = local.s3
        store = await stack.enter_async_context(open_s3(s3_options(settings, self.local_s3)))
        if settings.uses_local_s3:
            await store.create_bucket()
        await store.check_bucket()
        self._store = store

    def _say_where(self, need: Need) -> None:
        parts = [f"database {self.catalog.database.address}"] if Need.DATABASE in need else []
        if Need.STORE in need:
            options = s3_options(self.settings, self.local_s3)
            parts.append(f"store {options.host} bucket {options.bucket}")
        if parts:
            logger.info("%s", ", ".join(parts))

    def api(self, priority: Priority = Priority.RUN, call: StageCall | None = None) -> ApiClient:
        """Return a client of the API that counts its requests for the stage `call`.

        All clients of the API share one budget, in all processes.
        """
        from collector.stages.api_client import ApiClient
        from collector.stages.pacing import Pacer

        settings = self.settings
        host = urlsplit(settings.wallhaven_api_url).netloc.lower()
        allowance = Allowance(host, settings.wallhaven_requests_per_minute)
        budget = SharedBudget(self.catalog.database, allowance, priority, call)
        return ApiClient(
            self.http,
            Pacer(budget, time.monotonic),
            epoch_clock=time.time,
            retry_base_seconds=settings.collector_retry_base_seconds,
        )


def _opened(part: Part | None) -> Part:
    if part is None:
        raise RuntimeError("the Need of this command does not name this part")
    return part


@asynccontextmanager
async def open_runtime(
    settings: Settings, need: Need, progress: Progress
) -> AsyncIterator[Runtime]:
    """Open what `need` names, on embedded servers if the settings name no others.

    Schema and bucket are created on embedded servers; elsewhere they must exist. Raises
    SchemaMissing and Outage(database); `Runtime.store` raises Outage(upload). Any exit closes
    everything.
    """
    async with AsyncExitStack() as stack:
        runtime = Runtime(settings, progress)
        await runtime.open(need, stack)
        # What is loaded by now, above all the SDK's description of S3, stays to the end: garbage
        # collection need not scan it again.
        gc.freeze()
        yield runtime


async def _open_local(
    stack: AsyncExitStack, home: Path, edge: Edge, *, postgres: bool = False, s3: bool = False
) -> LocalServers:
    from collector.local import LocalServerError, open_local_servers

    opening = open_local_servers(home, postgres=postgres, s3=s3)
    try:
        return await stack.enter_async_context(opening)
    except LocalServerError as error:
        if not isinstance(error.__cause__, OSError):
            raise Outage(edge, str(error)) from None
        reason = error.__cause__.strerror or error
        raise Outage(edge, unusable_home(home, reason)) from None


def unusable_home(home: Path, reason: object) -> str:
    """Return the message for a COLLECTOR_HOME that cannot be used."""
    return (
        f"COLLECTOR_HOME {home} cannot be used: {reason}; nothing was stored."
        " Set it to a folder that you can write"
    )


def source_of(settings: Settings) -> Source:
    """Return the search or the collection of the settings. Raises SettingsError."""
    url, question = settings.wallhaven_api_url, settings.question
    key = _reveal(settings.wallhaven_api_key)
    if isinstance(question, CollectionName):
        return WallhavenCollection(url, question, settings.wallhaven_purity, key)
    return WallhavenSearch(url, question, key)


def whole_list(settings: Settings) -> Source:
    """Return the list in the order of a backfill; raise SettingsError if it has no such order."""
    try:
        return source_of(settings).oldest_first()
    except QueryError as error:
        raise SettingsError("WALLHAVEN_SORTING", error.problem) from None


def details_of(settings: Settings) -> WallhavenDetails:
    """Return how to ask the site for details of single wallpapers."""
    return WallhavenDetails(settings.wallhaven_api_url, _reveal(settings.wallhaven_api_key))


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def s3_options(settings: Settings, local: LocalS3 | None = None) -> S3Options:
    """Return how to reach the bucket: on the embedded server `local`, else by the settings."""
    from collector.store import S3Options

    connections = settings.collector_in_flight + SPARE_CONNECTIONS
    if local is not None:
        return S3Options(
            bucket=settings.bucket_name,
            endpoint_url=local.endpoint_url,
            region=local.region,
            access_key=local.access_key,
            secret_key=local.secret_key,
            connections=connections,
        )
    return S3Options(
        bucket=settings.bucket_name,
        endpoint_url=settings.s3_endpoint_url or None,
        region=settings.aws_default_region,
        access_key=settings.aws_access_key_id,
        secret_key=_reveal(settings.aws_secret_access_key),
        session_token=_reveal(settings.aws_session_token),
        profile=settings.aws_profile,
        path_style=settings.path_style,
        connections=connections,
    )
