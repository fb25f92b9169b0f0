"""The transfer on real parts: large bodies, existing objects, outages, interruption."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web
from world import EVERYTHING, OpenWorld, World, small

from collector.catalog import Transfers
from collector.cli.progress import SilentProgress
from collector.core.errors import Code, Outage
from collector.core.images import ImageType
from collector.core.parts import PART_BYTES
from collector.core.runs import Run, RunStatus, StageName, StageReport
from collector.http.connection import MIN_CHUNK_BYTES
from collector.runtime.opening import RunOptions, open_runtime
from collector.runtime.running import run_one_stage
from collector.simulator import Hooks, Wallpaper


async def uploads(world: World) -> list[str]:
    """Return the keys of the multipart uploads under way."""
    return [upload.key async for upload in world.runtime.store.uploads("wallpapers/")]


async def test_a_large_image_goes_in_parts_while_it_still_arrives(
    open_world: OpenWorld, large_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_part_left = anyio.Event()

    async def image(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
        """Send all but the last byte, which waits until a part has left."""
        body = b"".join(world.simulator.catalogue.body(wallpaper))
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        response.content_type = wallpaper.file_type
        await response.prepare(request)
        await response.write(body[:-1])
        with anyio.fail_after(20):
            await first_part_left.wait()
        await response.write(body[-1:])
        return response

    async with open_world(small(large_images, 1), Hooks(image=image)) as world:
        upload_part = world.runtime.store.upload_part

        async def seen(*args: Any, **kwargs: Any) -> Any:
            first_part_left.set()
            return await upload_part(*args, **kwargs)

        monkeypatch.setattr(world.runtime.store, "upload_part", seen)
        audit = await world.run()

        assert audit.images_uploaded == 1
        assert audit.bytes_uploaded > 2 * PART_BYTES
        assert await world.objects() == world.truth()
        assert await uploads(world) == []


async def test_a_large_body_that_is_wrong_at_its_end_is_aborted(
    open_world: OpenWorld, large_images: Path
) -> None:
    async def image(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
        body = b"".join(world.simulator.catalogue.body(wallpaper))
        return web.Response(body=body[:-8] + b"\x00" * 8, content_type=wallpaper.file_type)

    options = small(large_images, 1)
    async with open_world(options, Hooks(image=image), collector_max_attempts=1) as world:
        audit = await world.run()
        assert audit.download_failures == 1
        assert await world.objects() == {}
        assert await uploads(world) == []
        (letter,) = await world.rows("SELECT code FROM draenei_content.dead_letters")
        assert letter["code"] == Code.TRUNCATED


async def test_cancelling_in_the_middle_leaves_no_upload_and_refunds_the_attempt(
    open_world: OpenWorld, large_images: Path
) -> None:
    half_sent = anyio.Event()

    async def image(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
        body = b"".join(world.simulator.catalogue.body(wallpaper))
        response = web.StreamResponse(headers={"Content-Length": str(len(body))})
        await response.prepare(request)
        # One byte more would do, if crumbs were not held back for those that follow.
        await response.write(body[: PART_BYTES + MIN_CHUNK_BYTES])
        half_sent.set()
        await anyio.sleep_forever()
        return response

    async with open_world(small(large_images, 1), Hooks(image=image)) as world:
        await world.stage(StageName.EXTRACT)
        await world.stage(StageName.LOAD)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.stage, StageName.TRANSFER)
            await half_sent.wait()
            with anyio.fail_after(20):
                while not await uploads(world):
                    await anyio.sleep(0.02)
            tasks.cancel_scope.cancel()

        assert await uploads(world) == []
        (item,) = await world.rows("SELECT * FROM draenei_content.transfers")
        assert (item["state"], item["attempts"], item["owner"]) == ("pending", 0, None)
        (stage,) = await world.rows(
            "SELECT status FROM draenei_content.run_stages WHERE stage = 'transfer'"
        )
        assert stage["status"] == "interrupted"


async def test_an_object_that_is_there_is_adopted_or_left_alone(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 4)) as world:
        same, other, *_ = world.simulator.catalogue
        body = b"".join(world.simulator.catalogue.body(same))
        await _plant(world, same, body)
        await _plant(world, other, b"something else")

        audit = await world.run()

        counted = (audit.images_uploaded, audit.images_adopted, audit.upload_failures)
        assert counted == (2, 1, 1)
        objects = await world.objects()
        truth = world.truth()
        assert objects[_key(same)] == truth[_key(same)]
        assert objects[_key(other)] != truth[_key(other)], "never overwritten"
        (letter,) = await world.rows("SELECT * FROM draenei_content.dead_letters")
        assert letter["code"] == Code.CONFLICT_OBJECT


def _key(wallpaper: Wallpaper) -> str:
    return f"wallpapers/{wallpaper.id}.{wallpaper.extension}"


async def _plant(world: World, wallpaper: Wallpaper, body: bytes) -> None:
    import hashlib

    await world.runtime.store.put(
        _key(wallpaper),
        [body],
        size_bytes=len(body),
        sha256=hashlib.sha256(body).digest(),
        content_type=ImageType(wallpaper.file_type),
        token="somebody else",
    )


async def test_a_host_that_fails_for_all_is_an_outage_and_costs_no_attempt(
    open_world: OpenWorld, small_images: Path
) -> None:
    async def image(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
        return web.Response(status=503)

    async with open_world(small(small_images, 40), Hooks(image=image)) as world:
        audit = await world.run()

        assert audit.status is RunStatus.FAILED
        assert await world.value("SELECT max(attempts) FROM draenei_content.transfers") == 0
        assert await world.value("SELECT count(*) FROM draenei_content.dead_letters") == 0
        assert audit.missing_s3_after_run == 40


async def test_a_host_that_nobody_reaches_is_an_outage_even_for_one_image(
    open_world: OpenWorld, small_images: Path, unused_tcp_port: int
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | {"path": f"http://127.0.0.1:{unused_tcp_port}/x.jpg"} for item in items]

    hosts = f"127.0.0.1:{unused_tcp_port}"
    hooks = Hooks(listing=listing)
    async with open_world(small(small_images, 1), hooks, wallhaven_image_hosts=hosts) as world:
        audit = await world.run()
        assert audit.status is RunStatus.FAILED
        assert await world.value("SELECT max(attempts) FROM draenei_content.transfers") == 0


async def test_a_failure_that_passes_is_tried_again_in_the_same_run(
    open_world: OpenWorld, small_images: Path
) -> None:
    failed: set[str] = set()

    async def image(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse | None:
        if wallpaper.index % 5 == 0 and wallpaper.id not in failed:
            failed.add(wallpaper.id)
            return web.Response(status=500)
        return None

    async with open_world(small(small_images, 20), Hooks(image=image)) as world:
        audit = await world.run()
        assert len(failed) == 4
        assert (audit.images_uploaded, audit.download_failures) == (20, 0)
        assert audit.status is RunStatus.SUCCEEDED


async def test_two_workers_share_one_backlog_without_a_double_upload(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 60), collector_in_flight=4) as world:
        await world.stage(StageName.EXTRACT)
        await world.stage(StageName.LOAD)
        reports: list[StageReport] = []

        async def worker(run_id: str) -> None:
            report = await world.stage(StageName.TRANSFER, run_id)
            assert isinstance(report, StageReport)
            reports.append(report)

        async with anyio.create_task_group() as workers:
            workers.start_soon(worker, "one")
            workers.start_soon(worker, "two")

        assert sum(report.counts["images_uploaded"] for report in reports) == 60
        assert world.simulator.journal.requests["image"] == 60
        assert await world.objects() == world.truth()


async def test_a_missing_bucket_fails_the_stage_and_burns_nothing(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        await world.stage(StageName.EXTRACT)
        await world.stage(StageName.LOAD)
        missing = world.settings.model_copy(update={"bucket_name": "never-made-at-all"})

        async with open_runtime(missing, EVERYTHING, SilentProgress()) as runtime:
            with pytest.raises(Outage, match="never-made-at-all"):
                await run_one_stage(runtime, StageName.TRANSFER, Run("tests", "run"), RunOptions())

        assert await world.value("SELECT max(attempts) FROM draenei_content.transfers") == 0
        stage = "SELECT problem FROM draenei_content.run_stages WHERE stage = 'transfer'"
        assert "never-made-at-all" in await world.value(stage)


async def test_a_few_items_that_stay_bad_are_no_outage_and_end_as_dead_letters(
    open_world: OpenWorld, small_images: Path
) -> None:
    async def image(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse | None:
        return web.Response(status=403) if wallpaper.index < 3 else None

    options = small(small_images, 20)
    async with open_world(options, Hooks(image=image), collector_max_attempts=5) as world:
        dead = "SELECT code FROM draenei_content.dead_letters"
        for number in range(20):  # a run that comes too early finds them waiting
            assert (await world.run(f"run {number}")).status is not RunStatus.FAILED
            if len(letters := await world.rows(dead)) == 3:
                break
        assert [row["code"] for row in letters] == [Code.FORBIDDEN] * 3
        assert (await world.run("last")).status is RunStatus.SUCCEEDED, "nothing is left to try"


async def stored_of(world: World, run_id: str) -> set[str]:
    """Return the ids of what a run has stored."""
    rows = await world.rows(
        "SELECT w.wallhaven_id FROM draenei_content.run_items AS i"
        " JOIN draenei_content.wallpapers AS w ON w.id = i.wallpaper_id"
        " JOIN draenei_content.run_audit AS a ON a.id = i.audit_id"
        " WHERE a.run_id = $1 AND i.outcome <> 'failed'",
        run_id,
    )
    return {row["wallhaven_id"] for row in rows}


@asynccontextmanager
async def two_searches(
    open_world: OpenWorld, images: Path, **changes: Any
) -> AsyncIterator[tuple[World, set[str]]]:
    """A backlog of one search, and a run of another that has read its pages."""
    listed: list[list[str]] = []

    def listing(items: list[dict[str, Any]]) -> list[object]:
        # The first run sees all, the second one only the last three.
        found = items if not listed else items[-3:]
        listed.append([item["id"] for item in found])
        return list(found)

    hooks = Hooks(listing=listing, page=lambda _, answer: answer | {"meta": _one_page(answer)})
    async with open_world(small(images, 20), hooks, **changes) as world:
        for stage in (StageName.EXTRACT, StageName.LOAD):
            await world.stage(stage, "all")
        await world.rows("DELETE FROM draenei_content.searches")
        for stage in (StageName.EXTRACT, StageName.LOAD):
            await world.stage(stage, "three")
        yield world, set(listed[-1])


def _one_page(answer: dict[str, Any]) -> dict[str, Any]:
    total = len(answer["data"])
    return answer["meta"] | {"total": total, "last_page": 1, "per_page": max(total, 1)}


async def test_images_of_the_runs_own_pages_go_first(
    open_world: OpenWorld, small_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "collector")
    async with two_searches(open_world, small_images) as (world, own):
        report = await world.stage(StageName.TRANSFER, "three", RunOptions(limit=5))
        assert isinstance(report, StageReport)
        assert own < await stored_of(world, "three")
        assert report.counts["images_uploaded"] == 5
        assert report.details["stored_of_own_pages"] == 3
        assert report.details["stored_of_backlog"] == 2
    assert "3 images of this run's pages, then 17 others of the backlog" in caplog.text


async def test_only_leaves_the_rest_of_the_backlog_alone(
    open_world: OpenWorld, small_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "collector")
    async with two_searches(open_world, small_images) as (world, own):
        await world.stage(StageName.TRANSFER, "three", RunOptions(only=True))
        assert await stored_of(world, "three") == own
        assert "3 images of this run's pages, then 17 others are left alone" in caplog.text
        await world.stage(StageName.TRANSFER, "rest")
        assert len(await world.objects()) == 20


async def test_images_of_another_search_in_other_hands_are_not_waited_for_with_only(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with two_searches(open_world, small_images) as (world, own):
        await world.rows(
            "UPDATE draenei_content.transfers SET state = 'claimed', owner = gen_random_uuid(),"
            " lease_until = now() + interval '20 s' WHERE wallpaper_id = 1"
        )
        with anyio.fail_after(10):
            await world.stage(StageName.TRANSFER, "three", RunOptions(only=True))
        assert await stored_of(world, "three") == own


async def test_a_row_that_others_inserted_is_carried(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        wallpaper = world.simulator.catalogue[0]
        await world.rows(
            "INSERT INTO draenei_content.wallpapers (wallhaven_id, url) VALUES ($1, $2)",
            wallpaper.id,
            world.simulator.image_url(wallpaper),
        )
        report = await world.stage(StageName.TRANSFER)
        assert isinstance(report, StageReport)
        assert report.counts["images_uploaded"] == 1


async def test_images_in_the_hands_of_a_dead_worker_are_waited_for_or_told(
    open_world: OpenWorld, small_images: Path
) -> None:
    claimed = """
        UPDATE draenei_content.transfers
        SET state = 'claimed', owner = gen_random_uuid(), lease_until = now() + $1::interval
        WHERE wallpaper_id = 1
    """
    async with open_world(small(small_images, 4)) as world:
        await world.stage(StageName.EXTRACT)
        await world.stage(StageName.LOAD)
        await world.rows(claimed, timedelta(hours=1))
        told = await world.run()
        assert (told.status, told.images_uploaded) == (RunStatus.PARTIAL, 3)
        assert told.notes is not None
        assert "other workers" in told.notes

        await world.rows(claimed, timedelta(seconds=0.5))
        waited = await world.run()
        assert (waited.status, waited.images_uploaded) == (RunStatus.SUCCEEDED, 4)


async def test_an_upload_that_could_not_be_journalled_is_aborted(
    open_world: OpenWorld, large_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(small(large_images, 1)) as world:

        async def not_ours(*_: object) -> bool:
            return False

        monkeypatch.setattr(Transfers, "journal_upload", not_ours)
        await world.run()
        assert await uploads(world) == []


async def test_an_outage_still_counts_who_failed(open_world: OpenWorld, small_images: Path) -> None:
    async def image(request: web.Request, wallpaper: Wallpaper) -> web.StreamResponse:
        return web.Response(status=503)

    async with open_world(small(small_images, 40), Hooks(image=image)) as world:
        audit = await world.run()
        assert audit.download_failures > 0
        assert audit.notes is not None
        assert "image host" in audit.notes
