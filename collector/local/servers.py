"""Both embedded servers of one home."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from collector.local.records import LocalPostgres, LocalS3, LocalServerError

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LocalServers:
    """The embedded servers that the caller opened, ready; None for one that it did not."""

    postgres: LocalPostgres | None
    s3: LocalS3 | None
    home: Path


def is_in_use(home: Path) -> bool:
    """Whether a server whose data lies under `home` runs or is being started."""
    from collector.local.folder import is_running  # noqa: PLC0415

    return any(is_running(home / folder) for folder in ("postgres", "s3"))


@asynccontextmanager
async def open_local_servers(
    home: Path,
    *,
    postgres: bool = True,
    s3: bool = True,
    postgres_settings: Mapping[str, str] = NO_SETTINGS,
    postgres_binaries: Path | None = None,
) -> AsyncIterator[LocalServers]:
    """Use the embedded servers whose data lies under `home`: the running ones, or else new ones.

    Any number of processes share a server, whatever settings they ask for: the first starts it,
    and it stops when the last one leaves. A server never outlives its users, however they end;
    its data and passwords do, and so do its ports if they are still free.

    `postgres_settings` are added to the server's command line (`fsync`, `log_statement`);
    `postgres_binaries` is a folder of programs to use instead of the bundled ones.

    Raises LocalServerError if a server cannot be started or reached: nothing is left running.
    """
    # The engine works without these modules, and without the packages they need (extra `local`).
    try:
        from collector.local.postgres import PostgresServer  # noqa: PLC0415
        from collector.local.seaweed import SeaweedServer  # noqa: PLC0415
        from collector.local.sharing import shared_server  # noqa: PLC0415
    except ModuleNotFoundError as error:
        problem = (
            f"the package {error.name} is not installed: install draenei-collector[local], "
            "or set DATABASE_URL and S3_ENDPOINT_URL"
        )
        raise LocalServerError("embedded servers", problem) from error
    home = home.absolute()
    async with AsyncExitStack() as stack:
        database = store = None
        if postgres:
            server = PostgresServer(home / "postgres", postgres_settings, postgres_binaries)
            database = await stack.enter_async_context(shared_server(server))
        if s3:
            store = await stack.enter_async_context(shared_server(SeaweedServer(home / "s3")))
        yield LocalServers(database, store, home)
