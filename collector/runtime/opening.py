"""Wire everything: settings, catalog, store, HTTP, stages. Only this package names both wings."""

from __future__ import annotations

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

from collector.adapters.http import AiohttpClient, open_http
from collector.adapters.migrations import migrate, require_schema
from collector.adapters.postgres import (
    ClaimPolicy,
    Database,
    PostgresCrawls,
    PostgresDeadLetters,
    PostgresEnrichments,
    PostgresItems,
    PostgresRuns,
    PostgresTransfers,
    open_database,
)
from collector.adapters.s3 import S3Store, open_s3
from collector.core.errors import Edge, Outage
from collector.core.pacing import Priority
from collector.core.runs import StageCall
from collector.local import (
    LocalPostgres,
    LocalS3,
    LocalServerError,
    LocalServers,
    open_local_servers,
)
from collector.ports import Progress
from collector.runtime.api import api_client
from collector.runtime.endpoints import SPARE_CONNECTIONS, s3_options
from collector.runtime.needs import Need, StoredRow
from collector.settings import Settings
from collector.sources.wallhaven import USER_AGENT
from collector.stages.api import ApiClient

logger = logging.getLogger("collector")

Part = TypeVar("Part")


class Runtime:
    """Everything wired: settings, catalog, store, HTTP. Made by `open_runtime`."""

    def __init__(self, settings: Settings, progress: Progress) -> None:
        self.settings = settings
        self.progress = progress
        self.local_postgres: LocalPostgres | None = None
        self.local_s3: LocalS3 | None = None
        self._database: Database | None = None
        self._store: S3Store | Outage | None = None
        self._http: AiohttpClient | None = None

    async def open(self, need: Need, stack: AsyncExitStack) -> None:
        """Open what `need` names; `stack` closes it.

        Raises Outage for a database that is not there. A store that is not there is told to who
        asks for it: stages that do without, and above all the audit, still run.
        """
        if Need.DATABASE in need:
            await self._open_database(need, stack)
        if Need.STORE in need:
            try:
                await self._open_store(stack)
            except Outage as problem:
                self._store = problem
        if Need.HTTP in need:
            self._http = await stack.enter_async_context(
                open_http(
                    image_hosts=self.settings.image_hosts,
                    user_agent=USER_AGENT,
                    connections=self.settings.collector_in_flight + SPARE_CONNECTIONS,
                )
            )
        self._say_where(need)

    @property
    def database(self) -> Database:
        """The catalog's database."""
        return _opened(self._database)

    @property
    def store(self) -> S3Store:
        """The bucket. Raises the Outage(upload) that opening it met."""
        if isinstance(self._store, Outage):
            raise self._store
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

    @property
    def dead_letters(self) -> PostgresDeadLetters:
        """What was given up on."""
        return PostgresDeadLetters(self.database)

    @property
    def items(self) -> PostgresItems:
        """What is known of single wallpapers."""
        return PostgresItems(self.database)

    @property
    def crawls(self) -> PostgresCrawls:
        """What is known of backfills."""
        return PostgresCrawls(self.database)

    @property
    def enrichments(self) -> PostgresEnrichments:
        """Which wallpapers to ask about, and what the answers become."""
        return PostgresEnrichments(self.database)

    async def stored_objects(self, limit: int | None) -> list[StoredRow]:
        """Return the newest `limit` stored wallpapers (None: all)."""
        rows = await self.database.fetch("stored_objects", limit)
        return [StoredRow(**row) for row in rows]

    async def _open_database(self, need: Need, stack: AsyncExitStack) -> None:
        settings = self.settings
        if settings.database_url is not None:
            dsn = settings.database_url.get_secret_value()
        else:
            local = await _open_local(stack, settings.collector_home, Edge.DATABASE, postgres=True)
            self.local_postgres = _opened(local.postgres)
            dsn = self.local_postgres.dsn
        self._database = await stack.enter_async_context(open_database(dsn))
        if Need.SCHEMA in need:
            async with self._database.session() as session:
                await (require_schema(session) if settings.database_url else migrate(session))

    async def _open_store(self, stack: AsyncExitStack) -> None:
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
        parts = [f"database {self.database.address}"] if Need.DATABASE in need else []
        if Need.STORE in need:
            options = s3_options(self.settings, self.local_s3)
            parts.append(f"store {options.host} bucket {options.bucket}")
        if parts:
            logger.info("[draenei] %s", ", ".join(parts))

    def api(self, priority: Priority = Priority.RUN, call: StageCall | None = None) -> ApiClient:
        """Return a client of the API, which counts its requests for `call`."""
        return api_client(self.settings, self.http, self.database, priority, call)


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
    SchemaMissing, Outage(database); a store that is not there is told by `Runtime.store`.
    Everything is closed again on any exit.
    """
    async with AsyncExitStack() as stack:
        runtime = Runtime(settings, progress)
        await runtime.open(need, stack)
        # What was loaded until now, above all the SDK's description of S3, stays to the end: the
        # collector of garbage need not look through it again and again.
        gc.freeze()
        yield runtime


async def _open_local(
    stack: AsyncExitStack, home: Path, edge: Edge, *, postgres: bool = False, s3: bool = False
) -> LocalServers:
    opening = open_local_servers(home, postgres=postgres, s3=s3)
    try:
        return await stack.enter_async_context(opening)
    except LocalServerError as error:
        raise Outage(edge, str(error)) from None
