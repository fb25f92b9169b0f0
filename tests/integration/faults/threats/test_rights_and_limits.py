"""What is installed, what the stack may do, and which rights and limits are kept."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import anyio
import asyncpg
import pytest
from databases import execute
from faulty_world import AT_ONCE, OpenFaults
from peers import http
from peers.exchange import Asked
from processes import started
from threats import API_KEY, everything, heard, letters
from world import EVERYTHING, FAST, small

from collector.catalog import open_database
from collector.catalog.migrations import migrate
from collector.cli.progress import SilentProgress
from collector.core.errors import SettingsError
from collector.core.images import ImageType
from collector.core.retry import WINDOW_ATTEMPTS
from collector.core.runs import Run, RunStatus, StageName
from collector.local import LocalPostgres
from collector.runtime.backfilling import BackfillOptions, run_backfill
from collector.runtime.opening import open_runtime
from collector.runtime.running import run_one_stage
from collector.runtime.wiring import run_janitor, run_verify
from collector.settings import load_settings
from collector.sources.wallhaven import USER_AGENT

ROOT = Path(__file__).resolve().parents[4]


# --- SEC-11 to SEC-14: what is installed, and how the stack stands -------------------------------


REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
FLOORS = {"aiohttp": (3, 14, 3), "pillow": (12, 2)}
_PINNED = re.compile(
    r"([a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9,-]+\])?==(\S+)(?: ;[^#]*?)?"
    r"(?: +--hash=sha256:[0-9a-f]{64})+"
)


def pinned(file: Path) -> dict[str, str]:
    """Return the versions of a requirements file; any line of another kind fails the test."""
    text = re.sub(r"\\\n\s*", " ", file.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = [_PINNED.fullmatch(line.rstrip()) for line in lines if line.strip()]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return {match[1]: match[2] for match in found if match}


@pytest.mark.case("SEC-11")
@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda path: path.stem)
def test_all_that_is_installed_is_named_with_its_hashes_and_no_index(file: Path) -> None:
    versions = pinned(file)
    assert versions
    for name, floor in FLOORS.items():
        if name in versions:
            assert tuple(map(int, versions[name].split("."))) >= floor


@pytest.mark.case("SEC-11")
def test_nothing_is_installed_without_its_hash() -> None:
    for name in ("Makefile", "Dockerfile"):
        text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text(encoding="utf-8"))
        for line in text.splitlines():
            if re.search(r"\bpip install\b", line) and "--no-deps" not in line:
                assert "--require-hashes" in line, line


@pytest.mark.case("SEC-11")
def test_no_package_of_the_engine_runs_code_when_an_interpreter_starts() -> None:
    for name in pinned(ROOT / "requirements/engine.txt"):
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            continue  # of another platform
        assert not [file for file in files if file.suffix == ".pth"], name


@pytest.mark.case("SEC-12")
@pytest.mark.case("SEC-13")
def test_the_stack_stands_on_this_machine_alone_and_on_named_releases() -> None:
    images = re.findall(r"^    image: (\S+)$", COMPOSE, re.MULTILINE)
    assert any(image.startswith("minio/minio:RELEASE.") for image in images)
    assert not [image for image in images if image.endswith(":latest")]
    listed = re.findall(r"^    ports:\n((?:      - .*\n)+)", COMPOSE, re.MULTILINE)
    ports = [port for ports in listed for port in re.findall(r'- "(.*)"', ports)]
    assert len(ports) == sum(ports.count("\n") for ports in listed) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


KNOWN_KEYS = {"aws_access_key_id": "minioadmin", "aws_secret_access_key": "minioadmin"}


@pytest.mark.case("SEC-13")
@pytest.mark.parametrize(
    "endpoint", ["https://s3.example.org", "http://203.0.113.7:9000", "http://minio.example:9000"]
)
def test_a_password_that_everybody_knows_is_refused_by_a_store_elsewhere(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="AWS_SECRET_ACCESS_KEY"):
        load_settings(None, s3_endpoint_url=endpoint, **KNOWN_KEYS)


@pytest.mark.case("SEC-13")
@pytest.mark.parametrize(
    "place",
    [
        *("airflow:airflow@db.example.org", "collector:collector@db.example.org"),
        *("postgres:postgres@db.example.org:5432", "airflow:airflow@203.0.113.7:5432"),
        *("airflow:airflow@[2001:db8::1]:5432", "airflow:airflow@localhost,db.example.org"),
    ],
)
def test_a_password_that_everybody_knows_is_refused_by_a_database_elsewhere(place: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        load_settings(None, database_url=f"postgresql://{place}/airflow")


@pytest.mark.case("SEC-13")
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "minio"])
def test_a_password_that_everybody_knows_will_do_on_this_machine(host: str) -> None:
    settings = load_settings(
        None,
        s3_endpoint_url=f"http://{host}:9000",
        database_url=f"postgresql://airflow:airflow@{host}:5432/airflow",
        **KNOWN_KEYS,
    )
    assert settings.aws_access_key_id == "minioadmin"


OF_THE_STACK = {"collector": "stack_collector", "airflow": "stack_airflow"}


@asynccontextmanager
async def stack_role(server: LocalPostgres, dsn: str) -> AsyncIterator[str]:
    """Make the roles of the stack, under other names, and yield the address of the collector's."""
    text = (ROOT / "sql/roles.sql").read_text(encoding="utf-8")
    text = re.sub(r"\b(collector|airflow)\b", lambda found: OF_THE_STACK[found[1]], text)
    database, name = urlsplit(dsn).path.strip("/"), OF_THE_STACK["collector"]
    await execute(dsn, f"CREATE ROLE {OF_THE_STACK['airflow']} LOGIN")
    await execute(dsn, "CREATE TABLE public.connection AS SELECT 'a secret of Airflow' AS password")
    assert server.psql is not None
    await anyio.run_process(
        f"{server.psql.rpartition(' ')[0]} {database}", input=text.encode(), check=True
    )
    parts = urlsplit(dsn)
    netloc = f"{name}:{name}@{parts.netloc.rpartition('@')[2]}"
    try:
        yield urlunsplit(parts._replace(netloc=netloc))
    finally:
        for role in OF_THE_STACK.values():
            await execute(dsn, f"DROP OWNED BY {role} CASCADE")
            await execute(dsn, f"DROP ROLE {role}")


@pytest.mark.case("SEC-14")
@pytest.mark.case("SEC-06")
async def test_the_role_of_the_stack_has_a_schema_of_its_own_and_no_way_out_of_it(
    postgres_server: LocalPostgres, dsn: str
) -> None:
    async with stack_role(postgres_server, dsn) as address:
        async with open_database(address) as database, database.session() as session:
            assert await migrate(session) == []
        connection = await asyncpg.connect(address)
        for statement in (
            "SELECT * FROM public.connection",
            "DROP TABLE public.connection",
            "CREATE TABLE public.mine (x integer)",
            "CREATE ROLE another",
            "SELECT rolpassword FROM pg_authid",
            "COPY draenei_content.tags TO PROGRAM 'true'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        assert await connection.fetchval("SELECT count(*) FROM draenei_content.wallpapers") == 0
        await connection.close()


# --- SEC-15, SEC-16, SEC-19 ----------------------------------------------------------------------


def deletes(asked: Asked) -> bool:
    """Say whether a request would delete an object."""
    names = {name.partition("=")[0] for name in asked.query.split("&")}
    return (asked.method == "DELETE" and "uploadId" not in names) or "delete" in names


DENIED = http.status(403, b"<Error><Code>AccessDenied</Code></Error>")


@pytest.mark.case("SEC-15")
async def test_the_right_to_delete_is_never_needed(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        world.store.on(deletes, DENIED, times=None)
        assert (await world.run()).status is RunStatus.SUCCEEDED
        backfill = Run("tests", "backfill")
        row = await run_backfill(world.runtime, backfill, BackfillOptions(), lambda _: None)
        assert row.status is RunStatus.SUCCEEDED
        written, (lost, kept, *_) = list(world.store.commits), sorted(world.truth())
        await world.bucket._control.call("delete_object", Key=lost)
        await world.bucket._control.call("put_object", Key="wallpapers/nobody1.jpg", Body=b"mine")
        await world.bucket.begin(kept, content_type=ImageType.PNG, token="left by a dead process")
        findings = await run_verify(world.runtime, deep=True, repair=True)
        assert findings.left == 0
        tidied = await run_janitor(world.runtime, AT_ONCE)
        assert (tidied.uploads_aborted, tidied.uploads_left) == (1, 0)
        assert (await world.run()).missing_s3_after_run == 0
        assert world.store.count(deletes) == 0
        await world.check(commits=written)


@pytest.mark.case("SEC-15")
async def test_an_upload_that_is_given_up_is_aborted_and_nothing_else(
    open_faults: OpenFaults, large_images: Path
) -> None:
    async with open_faults(small(large_images, 1)) as world:
        world.store.on(deletes, DENIED, times=None)
        world.images.on(everything, http.cut(1, from_end=True))
        assert (await world.run()).images_uploaded == 1
        aborted = [asked for asked in world.store.asked if asked.method == "DELETE"]
        assert aborted
        assert not [asked for asked in aborted if deletes(asked)]
        await world.check()


@pytest.mark.case("SEC-16")
async def test_a_host_that_refuses_everything_is_soon_left_in_peace(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 120), collector_in_flight=4) as world:
        world.images.on(everything, http.status(403), times=None)
        audit = await world.run()
        assert audit.status is RunStatus.FAILED
        assert len(world.images.asked) < 2 * WINDOW_ATTEMPTS
        assert await letters(world) == {}
        for asked in (*world.api.asked, *world.images.asked):
            assert asked.headers["user-agent"] == USER_AGENT
        await world.converge()


@pytest.mark.case("SEC-16")
async def test_a_scheduled_run_and_a_command_ask_within_one_limit(
    open_faults: OpenFaults, small_images: Path
) -> None:
    """Together they may ask six times a minute: the second one finds the limit used up."""
    async with open_faults(small(small_images, 24 * 5), wallhaven_requests_per_minute=6) as world:
        assert (await world.run("scheduled")).api_requests == 5
        async with open_runtime(world.settings, EVERYTHING, SilentProgress()) as another:
            with anyio.move_on_after(1):
                await run_one_stage(another, StageName.EXTRACT, Run("tests", "command"), FAST)
        assert len(world.api.asked) == 6
        await world.rows("DELETE FROM draenei_content.api_slots")
        await world.converge("command")


@pytest.mark.case("SEC-19")
async def test_a_file_of_settings_that_lies_in_the_way_is_not_read(
    open_faults: OpenFaults, small_images: Path, tmp_path: Path
) -> None:
    lines = f"WALLHAVEN_API_KEY={API_KEY}\nCOLLECTOR_IN_FLIGHT=none\nUPLOAD_BATCH_LIMIT=1\n"
    for name in (".env", "my.env", ".env.local"):
        (tmp_path / name).write_text(lines)
    async with open_faults(small(small_images, 4)) as world:
        async with started(world.settings, "run", cwd=tmp_path) as running:
            ended = await running.ended()
        assert ended.status == 0, ended.stderr
        assert API_KEY not in heard(world.api)
        assert len(await world.objects()) == 4
        await world.check()
