"""Servers of the integration tests: each is started once and shared by all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import world
from aiobotocore.session import get_session
from anyio.from_thread import start_blocking_portal
from databases import TEMPLATE, execute, make_template, with_name
from homes import passable_home
from PIL import Image
from world import OpenWorld

from collector.catalog import Database, open_database
from collector.local import LocalPostgres, LocalS3, open_local_servers

SYSTEM_POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
# Tests need no durability, and their servers may lie in memory.
POSTGRES_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "128MB"}


@pytest.fixture(scope="session")
def s3_server() -> Iterator[LocalS3]:
    """The embedded S3 server; its loop lives in a thread, so that tests may have their own."""
    with (
        passable_home() as home,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_local_servers(home, postgres=False)) as servers,
    ):
        assert servers.s3 is not None
        yield servers.s3


@contextmanager
def _postgres(binaries: Path | None) -> Iterator[LocalPostgres]:
    with (
        passable_home() as home,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            open_local_servers(
                home,
                s3=False,
                postgres_settings=POSTGRES_SETTINGS,
                postgres_binaries=binaries,
            )
        ) as running,
    ):
        assert running.postgres is not None
        portal.call(make_template, running.postgres.dsn)
        yield running.postgres


@pytest.fixture(scope="session")
def embedded_postgres() -> Iterator[LocalPostgres]:
    """The embedded PostgreSQL."""
    with _postgres(None) as server:
        yield server


@pytest.fixture(scope="session", params=["embedded", pytest.param("15", marks=pytest.mark.slow)])
def postgres_server(request: pytest.FixtureRequest) -> Iterator[LocalPostgres]:
    """The embedded PostgreSQL, and 15 where its programs are on the machine."""
    if request.param == "embedded":
        yield request.getfixturevalue("embedded_postgres")
        return
    if not SYSTEM_POSTGRES_15.is_dir():
        pytest.skip("no PostgreSQL 15 on this machine")
    with _postgres(SYSTEM_POSTGRES_15) as server:
        yield server


@pytest.fixture
def new_database(
    postgres_server: LocalPostgres,
) -> Callable[[str], AbstractAsyncContextManager[str]]:
    """Make a database from a template for one test: the address of a copy nobody shares."""

    @asynccontextmanager
    async def make(template: str) -> AsyncIterator[str]:
        name = f"test_{uuid4().hex}"
        await execute(postgres_server.dsn, f"CREATE DATABASE {name} TEMPLATE {template}")
        yield with_name(postgres_server.dsn, name)
        await execute(postgres_server.dsn, f"DROP DATABASE {name} WITH (FORCE)")

    return make


@pytest.fixture
async def dsn(
    new_database: Callable[[str], AbstractAsyncContextManager[str]],
) -> AsyncIterator[str]:
    """A database at the newest schema, for this test alone."""
    async with new_database(TEMPLATE) as address:
        yield address


@pytest.fixture
async def empty_dsn(
    new_database: Callable[[str], AbstractAsyncContextManager[str]],
) -> AsyncIterator[str]:
    """A database without any schema, for this test alone."""
    async with new_database("template0") as address:
        yield address


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """A pool on this test's database."""
    async with open_database(dsn) as opened:
        yield opened


@pytest.fixture(scope="session")
def small_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small real pictures, so that many of them cost little."""
    folder = tmp_path_factory.mktemp("images")
    for number, (name, size) in enumerate({"a.jpg": (64, 36), "b.png": (48, 48)}.items()):
        Image.new("RGB", size, (40 * number, 90, 160)).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def large_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one picture of more than two parts: incompressible, 2600 x 2600 pixels."""
    folder = tmp_path_factory.mktemp("large_images")
    Image.effect_noise((2600, 2600), 90).convert("RGB").save(folder / "noise.png", compress_level=0)
    return folder


@pytest.fixture(scope="session")
def make_bucket(s3_server: LocalS3) -> Iterator[Callable[[str], object]]:
    """Make a bucket, by one client for all tests: to open one costs as much as a small run."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(
            get_session().create_client(
                "s3",
                endpoint_url=s3_server.endpoint_url,
                region_name=s3_server.region,
                aws_access_key_id=s3_server.access_key,
                aws_secret_access_key=s3_server.secret_key,
            )
        ) as client,
    ):
        yield lambda name: portal.call(partial(client.create_bucket, Bucket=name))


@pytest.fixture
def open_world(dsn: str, s3_server: LocalS3, make_bucket: Callable[[str], object]) -> OpenWorld:
    """Open a simulator and a runtime on this test's database and a bucket of its own."""
    bucket = f"test-{uuid4().hex[:20]}"
    make_bucket(bucket)
    return partial(world.open_world, dsn, s3_server, bucket)
