"""The stack of docker-compose.yml, started once; the image host can be held in mid-download."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from airflow_api import AirflowApi
from anyio.from_thread import BlockingPortal, start_blocking_portal
from bucket import Bucket
from compose import ROOT, Service, read_env_file
from homes import passable_home
from image_gate import HELD_BYTES, WALLPAPERS, ImageGate
from PIL import Image
from stack import Addresses, Stack, free_port, run_stack

from collector.local import LocalPostgres, LocalS3, open_local_servers
from collector.simulator import Hooks, Simulator, SimulatorOptions, Wallpaper, open_simulator

# What the embedded servers know in place of a container's environment.
MINIO_KEYS = {"accessKey": "minioadmin", "secretKey": "minioadmin"}
# In a container 0.0.0.0 is its own network; here it would be every network of this machine.
ON_LOOPBACK = {"AIRFLOW__API__HOST": "127.0.0.1"}
# For the pace of tests: everything else is as docker-compose.yml says.
PACE = {
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "COLLECTOR_LEASE_SECONDS": "3",
    "COLLECTOR_RETRY_BASE_SECONDS": "0.1",
    # The first run stores all that there is; in the stack it stays small.
    "UPLOAD_BATCH_LIMIT": "0",
    "WALLHAVEN_REQUESTS_PER_MINUTE": "6000",
}


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """A loop in a thread for the servers, since the tests themselves are synchronous."""
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """Data of the embedded servers; the S3 server knows the keys of docker-compose.yml."""
    with passable_home() as folder:
        (folder / "s3").mkdir()
        identity = {
            "name": "minio",
            "credentials": [MINIO_KEYS],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (folder / "s3" / "identity.json").write_text(json.dumps({"identities": [identity]}))
        yield folder


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures to mirror: small ones, and one of more than two parts."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(11):
        Image.new("RGB", (64, 36), (20 * number, 90, 160)).save(folder / f"small{number}.jpg")
    Image.effect_noise((2600, 2600), 90).convert("RGB").save(folder / "large.png", compress_level=0)
    return folder


@pytest.fixture(scope="session")
def wallpapers() -> int:
    """How many there are to mirror."""
    return WALLPAPERS


@pytest.fixture(scope="session")
def variables() -> dict[str, str]:
    """What a .env would hold."""
    return read_env_file(".env.simulator")


@pytest.fixture(scope="session")
def broker_port() -> int:
    """Where `redis` answers; nowhere in the default profile."""
    return 9


@pytest.fixture(scope="session")
def gate() -> ImageGate:
    return ImageGate()


@pytest.fixture(scope="session")
def simulator(
    portal: BlockingPortal, images: Path, gate: ImageGate, wallpapers: int
) -> Iterator[Simulator]:
    """The Wallhaven of these tests."""

    async def hold(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse | None:
        content = b"".join(opened.catalogue.body(wallpaper))
        return await gate.serve(content, request) if len(content) > HELD_BYTES else None

    options = SimulatorOptions(wallpapers=wallpapers, images=images, requests_per_minute=0)
    opening = open_simulator(options, Hooks(image=hold))
    with portal.wrap_async_context_manager(opening) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres(portal: BlockingPortal, home: Path) -> Iterator[LocalPostgres]:
    opening = open_local_servers(home, s3=False, postgres_settings={"fsync": "off"})
    with portal.wrap_async_context_manager(opening) as servers:
        assert servers.postgres is not None
        yield servers.postgres


@pytest.fixture(scope="session")
def s3(portal: BlockingPortal, home: Path) -> Iterator[LocalS3]:
    opening = open_local_servers(home, postgres=False)
    with portal.wrap_async_context_manager(opening) as servers:
        assert servers.s3 is not None
        yield servers.s3


@pytest.fixture(scope="session")
def bucket(s3: LocalS3) -> Bucket:
    return Bucket(s3)


@pytest.fixture(scope="session")
def composed(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: LocalPostgres,
    s3: LocalS3,
    bucket: Bucket,
    simulator: Simulator,
    variables: dict[str, str],
    broker_port: int,
) -> Iterator[Stack]:
    """The stack on the simulator, nothing of it started yet."""
    addresses = Addresses(
        {
            ("postgres", 5432): urlsplit(postgres.dsn).port or 0,
            ("minio", 9000): urlsplit(s3.endpoint_url).port or 0,
            ("redis", 6379): broker_port,
            ("simulator", 8090): int(simulator.image_host.rpartition(":")[2]),
            ("airflow-apiserver", 8080): free_port(),
        }
    )
    stand_ins = {
        "postgres": lambda service: _become_compose_postgres(postgres, service),
        "minio": lambda service: None,
        "redis": lambda service: None,
        "simulator": lambda service: None,
        "minio-init": lambda service: bucket.create(service.command[-1].removeprefix("local/")),
    }
    folder = tmp_path_factory.mktemp("stack")
    tools = postgres_tools(postgres)
    with run_stack(folder, variables, addresses, stand_ins, PACE | ON_LOOPBACK, tools) as stack:
        yield stack


@pytest.fixture(scope="session")
def stack(composed: Stack) -> Stack:
    """Everything of the default profile, up and healthy."""
    names = [name for name, service in composed.services.items() if not service.profiles]
    for name in names:
        composed.up(name)
    for name in names:
        composed.wait_healthy(name)
    return composed


@pytest.fixture(scope="session")
def airflow(stack: Stack) -> AirflowApi:
    """The REST API, as admin/admin."""
    port = stack.addresses.of["airflow-apiserver", 8080]
    return AirflowApi(f"http://127.0.0.1:{port}", "admin", "admin")


def _become_compose_postgres(postgres: LocalPostgres, service: Service) -> None:
    """Do what the image's entry point does with POSTGRES_* and the mounted init scripts.

    The embedded server's own role makes way: the stack has one of the same name.
    """
    user, password = service.environment["POSTGRES_USER"], service.environment["POSTGRES_PASSWORD"]
    database = service.environment["POSTGRES_DB"]
    own = urlsplit(postgres.dsn)
    dsn = f"postgresql://{user}:{password}@127.0.0.1:{own.port}/{database}?sslmode=disable"

    def psql(address: str, *arguments: str) -> None:
        words = [str(postgres_tools(postgres) / "psql"), "-q", "-v", "ON_ERROR_STOP=1"]
        subprocess.run([*words, "-d", address, *arguments], check=True)

    psql(postgres.dsn, "-c", f"CREATE ROLE {user} SUPERUSER LOGIN PASSWORD '{password}'")
    psql(postgres.dsn, "-c", f"CREATE DATABASE {database} OWNER {user}")
    psql(dsn, "-c", f"ALTER ROLE {own.username} RENAME TO embedded")
    for target, source in service.volumes.items():
        if target.startswith("/docker-entrypoint-initdb.d/"):
            psql(dsn, "-f", str(ROOT / source))


def postgres_tools(postgres: LocalPostgres) -> Path:
    """Return the folder of psql, which the `postgres` image has on its PATH."""
    assert postgres.psql is not None
    return Path(shlex.split(postgres.psql)[1]).parent
