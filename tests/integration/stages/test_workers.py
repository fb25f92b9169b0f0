"""Several workers of one run: one limit, one backlog, and nobody undoes what another one did."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import anyio
import pytest
from aiohttp import web
from PIL import Image
from world import OpenWorld, small

from collector.catalog import ClaimPolicy, Database, Runs, Transfers
from collector.catalog.transfers import KNOWN_GOOD_IMAGES
from collector.cli.progress import SilentProgress
from collector.core.audit import AuditRow
from collector.core.errors import Code, Outage, TooManyDead
from collector.core.runs import Run, RunStatus, StageName
from collector.core.transfers import Claim
from collector.ports import Body, Reply
from collector.runtime.opening import RunOptions
from collector.simulator import Hooks, Wallpaper
from collector.stages.transfer import Chance, TransferOptions, transfer
from collector.store.memory import MemoryStore

OPTIONS = TransferOptions(
    in_flight=8,
    limit=50,
    memory_bytes=2**25,
    max_image_bytes=2**20,
    lease_seconds=60,
    max_attempts=5,
    retry_base_seconds=0,
    max_dead_percent=100,
)


def _picture() -> bytes:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


PICTURE = _picture()


@dataclass
class Answer:
    """A picture, or an error."""

    status: int
    headers: Mapping[str, str]

    async def chunks(self) -> AsyncIterator[bytes]:
        yield PICTURE


class ImageHost:
    """An image host that answers as `status` says, as soon as `opened` is set."""

    def __init__(self, status: Callable[[str], int] = lambda url: 200) -> None:
        self._status = status
        self.opened = anyio.Event()
        self.opened.set()
        self.asked: Counter[str] = Counter()

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        raise AssertionError("no stage but extract asks for pages")

    @asynccontextmanager
    async def open(self, url: str, *, max_bytes: int | None = None) -> AsyncIterator[Body]:
        self.asked[url] += 1
        await self.opened.wait()
        yield Answer(self._status(url), {})


@dataclass
class Workers:
    """Workers of one run on one database and one store."""

    database: Database
    store: MemoryStore
    audit_id: int

    async def work(self, host: ImageHost, options: TransferOptions = OPTIONS) -> None:
        """Do the transfer as one worker of the run."""
        await transfer(
            self.audit_id,
            catalog=self.catalog(options.lease_seconds),
            http=host,
            store=self.store,
            options=options,
            chance=Chance(time.monotonic, random.random),
            progress=SilentProgress(),
        )

    def catalog(self, lease_seconds: float = 60) -> Transfers:
        """Return the backlog as a worker sees it."""
        return Transfers(self.database, ClaimPolicy(lease_seconds, 5))

    async def count(self, rows: str) -> int:
        """Count rows of the schema."""
        async with self.database.session() as session:
            found = await session.connection.fetchval(
                f"SELECT count(*) FROM draenei_content.{rows}"
            )
        return int(found)

    async def stored(self) -> int:
        """Count what is stored, which tables and store agree about."""
        rows = await self.count("wallpapers WHERE s3_key IS NOT NULL")
        assert rows == len([key async for key in self.store.keys("wallpapers/")])
        return rows


@pytest.fixture
async def workers(database: Database) -> Workers:
    """A run with 200 images to store."""
    async with database.session() as session:
        await session.connection.execute(
            "INSERT INTO draenei_content.wallpapers (wallhaven_id, url)"
            " SELECT 'id' || n, 'https://w.wallhaven.cc/id' || n || '.png'"
            " FROM generate_series(1, 200) AS n"
        )
    audit_id = await Runs(database).open_run(Run("tests", "run"))
    made = Workers(database, MemoryStore(), audit_id)
    await made.catalog().enlist()
    return made


async def test_four_workers_store_one_limit_together(workers: Workers) -> None:
    host = ImageHost()
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(workers.work, host)
    assert await workers.stored() == host.asked.total() == 50

    await workers.work(host)
    assert await workers.stored() == 50, "a worker that comes late finds it used up"


async def test_failures_free_the_room_again(workers: Workers) -> None:
    host = ImageHost(lambda url: 410 if "7" in url else 200)
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(workers.work, host)
    assert await workers.stored() == 50
    assert await workers.count("dead_letters") == len([url for url in host.asked if "7" in url]) > 0


async def test_what_a_killed_worker_had_in_hand_is_carried_after_its_lease(
    workers: Workers,
) -> None:
    options = replace(OPTIONS, lease_seconds=2)
    assert len(await workers.catalog(2).claim(workers.audit_id, 16, 50)) == 16
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(workers.work, ImageHost(), options)
    assert await workers.stored() == 50


async def test_a_short_lease_makes_nobody_wait_for_those_who_are_at_work(
    workers: Workers,
) -> None:
    """The claims of another run lapse in 20 s, if its process is dead: it has just renewed them."""
    lease_seconds = 20
    other = await Runs(workers.database).open_run(Run("tests", "other"))
    assert len(await workers.catalog(lease_seconds).claim(other, 16)) == 16
    with anyio.fail_after(lease_seconds / 2):
        await workers.work(ImageHost(), replace(OPTIONS, limit=0, lease_seconds=lease_seconds))
    assert await workers.stored() == 200 - 16


class CountingCatalog(Transfers):
    """A backlog that counts how often it is asked for claims."""

    asked = 0

    async def claim(
        self, audit_id: int, most: int, run_limit: int = 0, *, only: bool = False
    ) -> list[Claim]:
        self.asked += 1
        return await super().claim(audit_id, most, run_limit, only=only)


@pytest.mark.parametrize(("lease_seconds", "stored"), [(2, 10), (3600, 0)])
async def test_a_worker_that_finds_no_room_waits_for_a_lease_or_ends(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, lease_seconds: float, stored: int
) -> None:
    options = replace(OPTIONS, limit=10, lease_seconds=lease_seconds)
    catalog = CountingCatalog(workers.database, ClaimPolicy(lease_seconds, 5))
    monkeypatch.setattr(workers, "catalog", lambda _: catalog)
    assert len(await catalog.claim(workers.audit_id, 10, 10)) == 10

    await workers.work(ImageHost(), options)

    assert await workers.stored() == stored
    # The first and the last find nothing; between them one for each image that makes room at most.
    assert catalog.asked <= 4 + stored


async def test_an_outage_of_one_worker_undoes_nothing_of_another(workers: Workers) -> None:
    options = replace(OPTIONS, limit=0)
    cut_off = ImageHost(lambda url: 503)
    well = ImageHost(lambda url: 410 if "7" in url else 200)
    outages: list[Outage] = []

    async def suffer() -> None:
        with pytest.raises(Outage) as caught:
            await workers.work(cut_off, options)
        outages.append(caught.value)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suffer)
        tasks.start_soon(workers.work, well, options)

    assert len(outages) == 1
    assert await workers.count("dead_letters WHERE code <> 'gone'") == 0
    assert await workers.count("transfers WHERE state = 'claimed'") == 0
    await workers.work(well, options)  # whatever the outage gave back too late for its sibling
    gone = {f"id{n}" for n in range(1, 201) if "7" in str(n)}
    assert await workers.stored() == 200 - len(gone)
    again = {url for url, times in well.asked.items() if times > 1}
    assert not any("7" in url for url in again), "what was given up was not asked for again"
    assert len(again) <= KNOWN_GOOD_IMAGES, "a few stored ones were, to see whether the host works"
    assert await workers.count("dead_letters WHERE code = 'gone'") == len(gone)
    assert await workers.count("transfers WHERE state = 'dead'") == len(gone)


async def test_two_workers_that_meet_one_outage_cost_no_attempt(workers: Workers) -> None:
    down = ImageHost(lambda url: 503)

    async def suffer() -> None:
        with pytest.raises(Outage):
            await workers.work(down, replace(OPTIONS, limit=0, max_attempts=1))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suffer)
        tasks.start_soon(suffer)
    assert await workers.count("transfers WHERE state = 'pending'") == 200
    assert await workers.count("dead_letters") == 0
    # A try that ends after the last outage was noted would count; here none does.
    assert await workers.count("transfers WHERE attempts > 0") == 0


async def test_each_worker_is_heard_and_the_audit_counts_them_together(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 40), collector_in_flight=2) as world:
        await world.stage(StageName.EXTRACT)
        await world.stage(StageName.LOAD)
        async with anyio.create_task_group() as tasks:
            for worker in range(3):
                tasks.start_soon(
                    world.stage, StageName.TRANSFER, "run", RunOptions(limit=30), worker
                )
        audit = await world.stage(StageName.AUDIT)

        assert isinstance(audit, AuditRow)
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 30)
        stages = audit.report["stages"]
        assert isinstance(stages, dict)
        assert stages["extract"]["status"] == "succeeded"
        uploaded = [report["images_uploaded"] for report in stages["transfer"]["workers"]]
        assert (len(uploaded), sum(uploaded)) == (3, 30)


async def test_a_transfer_fails_where_its_run_gave_up_on_too_many(
    open_world: OpenWorld, small_images: Path
) -> None:
    async def image(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse | None:
        return web.Response(status=410) if wallpaper.index < 10 else None

    async with open_world(small(small_images, 40), Hooks(image=image)) as world:
        await world.stage(StageName.EXTRACT)
        await world.stage(StageName.LOAD)
        for worker in (0, 1):
            with pytest.raises(TooManyDead, match=r"10 of \d+ images given up"):
                await world.stage(StageName.TRANSFER, worker=worker)
        audit = await world.stage(StageName.AUDIT)

        assert isinstance(audit, AuditRow)
        # One that was written as the transfer ended is adopted.
        assert audit.status is RunStatus.FAILED
        assert audit.images_uploaded + audit.images_adopted == 30
        assert str(audit.notes).endswith("10 of 40 images given up (25.0 %)")
        letters = await world.rows("SELECT DISTINCT code FROM draenei_content.dead_letters")
        assert [row["code"] for row in letters] == [Code.GONE]
        again = await world.run()
        assert again.status is RunStatus.FAILED
        assert again.notes == "10 of 40 images given up (25.0 %)"
