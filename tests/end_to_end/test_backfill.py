"""The command `backfill` as people run it: killed, stopped, repeated, and done once."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
import asyncpg
import pytest
from anyio.from_thread import start_blocking_portal
from PIL import Image

from collector.core.planning import backfill_api_calls
from collector.local import LocalServers
from collector.simulator import Simulator, SimulatorOptions, open_simulator
from collector.stages.extract import PAGES_IN_FLIGHT
from collector.store import S3Options, open_s3

# More than one slice, so that readings are joined.
PAGES = 26
ITEMS_PER_PAGE = 24
# A clean exit after SIGTERM takes less (docs/architecture.md).
EXIT_SECONDS = 4
# Bounds a hang; what is waited for comes within seconds.
MOMENT_SECONDS = 60
LOOK_SECONDS = 0.005
# The shortest there is: what a killed process had claimed is free again soon.
LEASE = {"COLLECTOR_LEASE_SECONDS": "3"}
LEDGER = "SELECT page FROM draenei_content.staged_pages"


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A Wallhaven slow enough for a process to be met in the middle of its work."""
    pages = getattr(request, "param", PAGES)
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (64, 36), (0, 90, 160)).save(folder / "a.jpg")
    options = SimulatorOptions(
        wallpapers=pages * ITEMS_PER_PAGE,
        images=folder,
        requests_per_minute=0,
        latency_seconds=0.05,
        image_latency_seconds=0.05,
    )
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_simulator(options)) as simulator,
    ):
        yield simulator


@pytest.fixture
def settings(site: Simulator) -> dict[str, str]:
    """What points a command to the site."""
    return {
        "WALLHAVEN_API_URL": site.api_url,
        "WALLHAVEN_IMAGE_HOSTS": site.image_host,
        "WALLHAVEN_REQUESTS_PER_MINUTE": "6000",
        **LEASE,
    }


@dataclass(frozen=True)
class Begun:
    """A backfill that is under way."""

    process: subprocess.Popen[str]

    def reach(self, moment: Callable[[], bool]) -> None:
        """Wait until `moment` is there, while the process works."""
        until = time.monotonic() + MOMENT_SECONDS
        while not moment():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until, "the moment never came"
            time.sleep(LOOK_SECONDS)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.communicate()
        assert self.process.returncode == -signal.SIGKILL


@pytest.fixture
def begin(
    environment: dict[str, str], settings: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Begun]]:
    """Begin `backfill`; a process that is left over is killed at the end of the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str, env: Mapping[str, str] | None = None) -> Begun:
        process = subprocess.Popen(
            [sys.executable, "-m", "collector", "backfill", "--json", *words],
            env={**environment, **settings, **(env or {})},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return Begun(process)

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def pages_asked(site: Simulator) -> Counter[int]:
    """Count how often each page was asked for, by all processes."""
    return Counter(int(visit.query["page"]) for visit in list(site.journal.of("search")))


async def ledger(dsn: str) -> Counter[int]:
    """Count how often each page is in the ledger."""
    connection = await asyncpg.connect(dsn)
    rows = await connection.fetch(LEDGER)
    await connection.close()
    return Counter(row["page"] for row in rows)


async def objects(servers: LocalServers, bucket: str) -> dict[str, str]:
    """Return the sha256 of each object of the bucket, by key."""
    assert servers.s3 is not None
    options = S3Options(
        bucket=bucket,
        endpoint_url=servers.s3.endpoint_url,
        region=servers.s3.region,
        access_key=servers.s3.access_key,
        secret_key=servers.s3.secret_key,
    )
    found = {}
    async with open_s3(options) as store:
        async for key, _ in store.keys("wallpapers/"):
            async with store.read(key) as chunks:
                body = b"".join([chunk async for chunk in chunks])
            found[key] = hashlib.sha256(body).hexdigest()
    return found


def truth(site: Simulator) -> dict[str, str]:
    """Return the sha256 of each image of the site, by the key that its object must have."""
    return {
        f"wallpapers/{wallpaper.id}.{wallpaper.extension}": site.catalogue.sha256(wallpaper)
        for wallpaper in site.catalogue
    }


def test_killed_at_any_moment_the_same_command_goes_on_and_repeats_no_page(
    collector, begin, site: Simulator, settings, environment, database_url, servers
) -> None:
    assert collector("migrate").status == 0
    requests = site.journal.requests
    calls = backfill_api_calls(PAGES)
    images = len(site.catalogue)
    moments = [("search", 1), ("search", calls // 3), ("image", 100), ("image", images // 2)]
    for kind, count in moments:
        begun = begin()
        begun.reach(lambda kind=kind, count=count: requests[kind] >= count)
        begun.kill()

    ended = collector("backfill", "--json", env=settings)

    assert ended.status == 0, ended.stderr
    assert ended.answer["report"]["certificate"]["verdict"] == "complete"
    assert anyio.run(objects, servers, environment["BUCKET_NAME"]) == truth(site)
    covered, asked = anyio.run(ledger, database_url), pages_asked(site)
    assert covered.total() == calls
    in_flight = asked - covered
    assert asked == covered + in_flight, "each reading was asked for"
    assert in_flight.total() <= PAGES_IN_FLIGHT * len(moments)

    said = collector("backfill", env=settings)
    assert said.status == 0
    assert "nothing to do" in said.stdout
    assert pages_asked(site) == asked


@pytest.mark.smoke
@pytest.mark.parametrize("site", [3], indirect=True)
def test_killed_with_the_last_images_in_hand_none_is_forgotten(
    collector, begin, site: Simulator, settings, environment, servers
) -> None:
    assert collector("migrate").status == 0
    # Twice the same images: more often, and one run would not try them any more.
    for more in (len(site.catalogue) - 4, 1):
        count = site.journal.requests["image"] + more
        begun = begin()
        begun.reach(lambda count=count: site.journal.requests["image"] >= count)
        begun.kill()
    ended = collector("backfill", "--json", env=settings)
    assert ended.status == 0, ended.stderr
    assert anyio.run(objects, servers, environment["BUCKET_NAME"]) == truth(site)


@pytest.mark.parametrize("site", [8], indirect=True)
def test_sigterm_lets_go_at_once_of_own_servers_too_and_the_same_command_goes_on(
    collector, begin, site: Simulator, settings, home: Path
) -> None:
    env = {"COLLECTOR_HOME": str(home), "DATABASE_URL": ""}
    begun = begin(env=env)
    begun.reach(lambda: site.journal.requests["image"] >= 50)
    began = time.monotonic()
    begun.process.send_signal(signal.SIGTERM)
    stdout, stderr = begun.process.communicate(timeout=MOMENT_SECONDS)
    assert time.monotonic() - began < EXIT_SECONDS, stderr
    assert begun.process.returncode == 75
    interrupted = json.loads(stdout)
    assert interrupted["status"] == "interrupted"
    assert interrupted["images_uploaded"] < len(site.catalogue)
    assert "Resume: the same command" in stderr
    assert not list(home.rglob("postmaster.pid")), "the embedded database is down"

    ended = collector("backfill", "--json", env={**settings, **env})
    assert ended.status == 0, ended.stderr
    row = ended.answer
    assert row["run_id"] == interrupted["run_id"]
    assert (row["status"], row["missing_s3_after_run"]) == ("succeeded", 0)
    assert row["images_uploaded"] + row["images_adopted"] == len(site.catalogue)
    assert row["report"]["certificate"]["verdict"] == "complete"
