"""The janitor: what dead processes leave is tidied up, what lives is left alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from world import OpenWorld, World, small

from collector.core.errors import Code as ErrorCode
from collector.core.errors import Edge, Fault, ItemError, Outage
from collector.core.images import ImageType
from collector.core.keys import PROBE_PREFIX
from collector.core.runs import Run, RunStatus, StageCall, StageName
from collector.core.transfers import Claim
from collector.ports import Upload
from collector.runtime.wiring import JanitorOptions, run_janitor

AT_ONCE = JanitorOptions(upload_age_seconds=0, run_silence_seconds=0)


async def claimed(world: World, run_id: str = "run", most: int = 10) -> list[Claim]:
    """Fill the backlog and take claims as a worker that is about to die."""
    for stage in (StageName.EXTRACT, StageName.LOAD):
        await world.stage(stage, run_id)
    audit_id = await world.runtime.catalog.runs.open_run(Run("tests", run_id))
    return await world.runtime.catalog.transfers.claim(audit_id, most)


async def begin(world: World, claim: Claim) -> Upload:
    key = f"wallpapers/{claim.wallhaven_id}.{claim.url.rpartition('.')[2]}"
    return await world.runtime.store.begin(key, content_type=ImageType.PNG, token="t")


async def lapse(world: World) -> None:
    """Let all leases lapse, as if their holders had died long ago."""
    await world.rows(
        "UPDATE draenei_content.transfers SET lease_until = now() - interval '1 second'"
        " WHERE state = 'claimed'"
    )


async def uploads(world: World) -> list[str]:
    return [upload.upload_id async for upload in world.runtime.store.uploads("wallpapers/")]


async def test_claims_of_the_dead_are_free_at_once(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 5)) as world:
        claims = await claimed(world)
        assert (await run_janitor(world.runtime, JanitorOptions())).claims_released == 0
        assert await world.runtime.catalog.transfers.heartbeat(claims) == {
            claim.wallpaper_id for claim in claims
        }
        await lapse(world)
        tidied = await run_janitor(world.runtime, JanitorOptions())
        assert (tidied.claims_released, tidied.dead_letters) == (5, 0)
        assert await world.runtime.catalog.transfers.heartbeat(claims) == set()
        assert (await world.run("again")).images_uploaded == 5


@pytest.mark.parametrize("is_open", [True, False])
async def test_an_item_that_killed_its_process_each_time_is_given_up(
    open_world: OpenWorld, small_images: Path, is_open: bool
) -> None:
    async with open_world(small(small_images, 1), collector_max_attempts=1) as world:
        (claim,) = await claimed(world)
        await world.runtime.catalog.runs.begin_stage(StageCall(claim.audit_id, StageName.TRANSFER))
        if not is_open:
            await world.runtime.catalog.runs.close_run(
                claim.audit_id, lambda _: _verdict(RunStatus.INTERRUPTED)
            )
        await lapse(world)
        before = await _audit(world)
        assert (await run_janitor(world.runtime, AT_ONCE)).dead_letters == 1
        (letter,) = await world.runtime.catalog.dead_letters.open_letters()
        assert (letter.code, letter.run_id, letter.attempts) == ("exhausted", "run", 1)
        audit = await _audit(world)
        if is_open:
            assert (audit["status"], audit["download_failures"]) == ("crashed", 1)
        else:
            assert audit == before, "what an audit has said is not changed behind its back"


def _verdict(status: RunStatus) -> Any:
    from collector.core.audit import Conclusion

    return Conclusion(status, None, {})


async def _audit(world: World) -> dict[str, Any]:
    (row,) = await world.rows(
        "SELECT status, download_failures, upload_failures, images_uploaded, ended_at"
        " FROM draenei_content.run_audit WHERE run_id = 'run'"
    )
    return dict(row)


async def test_a_crashed_run_is_closed_with_its_true_numbers(
    open_world: OpenWorld, small_images: Path
) -> None:
    """Its process dies in a stage that it had begun anew."""
    async with open_world(small(small_images, 4)) as world:
        await world.run()
        audit_id = await world.runtime.catalog.runs.open_run(Run("tests", "run"))
        await world.runtime.catalog.runs.begin_stage(StageCall(audit_id, StageName.TRANSFER))
        assert (await run_janitor(world.runtime, JanitorOptions())).runs_closed == 0
        assert (await run_janitor(world.runtime, AT_ONCE)).runs_closed == 1
        audit = await _audit(world)
        assert (audit["status"], audit["images_uploaded"]) == ("crashed", 4)
        assert (await run_janitor(world.runtime, AT_ONCE)).runs_closed == 0


async def test_an_upload_that_was_noted_is_aborted_when_its_claim_has_lapsed(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 2)) as world:
        held, dead = await claimed(world)
        for claim in (held, dead):
            upload = await begin(world, claim)
            assert await world.runtime.catalog.transfers.journal_upload(claim, upload.upload_id)
        await world.rows(
            "UPDATE draenei_content.transfers SET lease_until = now() - interval '1 second'"
            " WHERE wallpaper_id = $1",
            dead.wallpaper_id,
        )
        # Even where all that is older than now would be swept: the other one is in hand.
        tidied = await run_janitor(world.runtime, AT_ONCE)
        assert (tidied.uploads_aborted, tidied.uploads_left) == (1, 0)
        assert await uploads(world) == [
            await world.value(
                "SELECT upload_id FROM draenei_content.transfers WHERE upload_id IS NOT NULL"
            )
        ]


async def test_an_upload_that_nobody_noted_is_swept_by_its_age(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 1)) as world:
        await begin(world, (await claimed(world))[0])
        assert (await run_janitor(world.runtime, JanitorOptions())).uploads_aborted == 0
        assert len(await uploads(world)) == 1
        assert (await run_janitor(world.runtime, AT_ONCE)).uploads_aborted == 1
        assert await uploads(world) == []


async def test_what_a_probe_has_left_is_swept_too(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 1)) as world:
        store = world.runtime.store
        await store.begin(f"{PROBE_PREFIX}conditional", content_type=ImageType.PNG, token="t")
        assert (await run_janitor(world.runtime, JanitorOptions())).uploads_aborted == 0
        assert (await run_janitor(world.runtime, AT_ONCE)).uploads_aborted == 1
        assert [upload async for upload in store.uploads(PROBE_PREFIX)] == []


async def test_what_the_store_does_not_let_go_of_is_tried_again(
    open_world: OpenWorld, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(small(small_images, 1)) as world:
        (claim,) = await claimed(world)
        upload = await begin(world, claim)
        await world.runtime.catalog.transfers.journal_upload(claim, upload.upload_id)
        await lapse(world)

        async def refuse(_: Upload) -> None:
            raise ItemError(ErrorCode.STORE_ERROR, "busy", fault=Fault.TRANSIENT, edge=Edge.UPLOAD)

        with monkeypatch.context() as patched:
            patched.setattr(world.runtime.store, "abort", refuse)
            assert (await run_janitor(world.runtime, JanitorOptions())).uploads_left == 1
        assert (await run_janitor(world.runtime, JanitorOptions())).uploads_aborted == 1
        assert await uploads(world) == []


async def test_a_store_that_is_not_there_keeps_no_claim_from_being_released(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        await claimed(world)
        await lapse(world)
        store, world.runtime._store = world.runtime._store, Outage(Edge.UPLOAD, "gone")
        with pytest.raises(Outage):
            await run_janitor(world.runtime, AT_ONCE)
        world.runtime._store = store
        assert (await world.runtime.catalog.transfers.backlog()).pending == 3


def test_a_day_is_far_longer_than_any_image_takes() -> None:
    assert JanitorOptions().upload_age_seconds == timedelta(days=1).total_seconds()
