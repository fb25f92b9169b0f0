"""A multipart upload fails in a part, at its end, or at its abort."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs

import anyio
import pytest
from faulty_world import AT_ONCE, FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Asked, Exchange, said
from peers.http import Fault
from PIL import Image
from store_faults import (
    MAX_SECONDS,
    SILENCE_SECONDS,
    TRIES_OF_A_RUN,
    aborts,
    after,
    assert_begun_anew,
    assert_settled,
    backlog,
    begins,
    codes,
    completes,
    downloads,
    everything,
    heads,
    of_images,
    part,
    puts,
    refusal,
    set_store_options,
    stored,
    uploads,
    xml,
)
from world import small

from collector.core.audit import AuditRow
from collector.core.errors import Code
from collector.core.runs import RunStatus
from collector.runtime.wiring import run_janitor
from collector.stages import mirror, multipart
from collector.store import client, failures
from collector.store.bucket import ABORT_ROUNDS


def lists_parts(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "GET" and "uploadId=" in asked.query


def cut_after(event: anyio.Event) -> Fault:
    """Break an image off shortly before its end, as soon as something else has happened."""

    async def fault(exchange: Exchange) -> None:
        await exchange.send((await exchange.forward()).framed()[:-100])
        await event.wait()
        exchange.reset()

    return fault


async def assert_untouched(world: FaultyWorld, audit: AuditRow) -> None:
    """The one image has had its tries of this run, and nothing is in the bucket."""
    assert (audit.status, audit.upload_failures) == (RunStatus.PARTIAL, 1)
    assert await backlog(world) == {("pending", TRIES_OF_A_RUN)}
    assert await stored(world) == []
    assert await uploads(world) == []


# --- S3-05 to S3-09: a completed upload, and what is said about it -------------------------------


COMPLETED = (
    b"<CompleteMultipartUploadResult><Bucket>other</Bucket><Key>other</Key>"
    b'<ETag>"0123-3"</ETag></CompleteMultipartUploadResult>'
)
UNCLEAR = {
    "empty": said(200),
    "cut off": said(200, COMPLETED[: len(COMPLETED) // 2]),
    "a page": said(200, b"<html><body>busy</body></html>", content_type="text/html"),
    "another key": said(200, COMPLETED),
}
BEHIND_SPACE = b"\n  \n" + xml("InternalError")


@pytest.mark.case("S3-05")
async def test_an_error_within_a_200_is_tried_again_and_looked_into(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 2), collector_in_flight=1) as world:
        world.store.on(completes, http.status(200, xml("InternalError")))
        world.store.on(completes, http.status(200, BEHIND_SPACE))
        # Of the second image, the store says so although it has done it.
        world.store.on(completes, after(said(200, xml("InternalError"))), skip=1)
        await assert_settled(world, await world.run(), 2)
        assert world.store.count(completes) == 3 + 2
        await world.check()


@pytest.mark.case("S3-05")
async def test_an_error_within_a_200_for_ever_leaves_nothing_behind(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(completes, http.status(200, BEHIND_SPACE), times=None)
        audit = await world.run()
        assert world.store.count(completes) == TRIES_OF_A_RUN * failures.CALL_ATTEMPTS
        await assert_untouched(world, audit)
        await world.converge()


@pytest.mark.case("S3-06")
@pytest.mark.case("S3-07")
async def test_an_unclear_answer_to_what_was_done_is_settled_by_the_object(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, len(UNCLEAR)), collector_in_flight=1) as world:
        for answer in UNCLEAR.values():
            world.store.on(completes, after(answer))
        await assert_settled(world, await world.run(), len(UNCLEAR))
        assert world.store.count(heads) == len(UNCLEAR)
        await world.check()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("empty", marks=pytest.mark.case("S3-06")),
        pytest.param("cut off", marks=pytest.mark.case("S3-07")),
        pytest.param("another key", marks=pytest.mark.case("S3-07")),
    ],
)
async def test_an_unclear_answer_to_what_was_not_done_is_no_success(
    open_faults: OpenFaults, two_parts: Path, name: str
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(completes, http.answering(UNCLEAR[name]), times=None)
        await assert_untouched(world, await world.run())
        await world.converge()


@pytest.mark.case("S3-08")
@pytest.mark.parametrize("bound", ["silence", "the whole call"])
async def test_a_complete_that_hangs_and_was_done_is_settled_by_the_object(
    open_faults: OpenFaults, two_parts: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    if bound == "silence":
        set_store_options(monkeypatch, read_seconds=SILENCE_SECONDS)
    else:
        monkeypatch.setattr(client, "CALL_SECONDS", SILENCE_SECONDS)
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(completes, http.lose_reply_and_hang)
        await assert_settled(world, await world.run())
        assert world.store.count(completes) == 1, "it is never asked for twice"
        await world.check()


@pytest.mark.case("S3-08")
async def test_a_complete_that_hangs_and_was_not_done_is_begun_anew(
    open_faults: OpenFaults, two_parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_store_options(monkeypatch, read_seconds=SILENCE_SECONDS)
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(completes, http.hang)
        await assert_begun_anew(world, await world.run())
        await world.check()


@pytest.mark.case("S3-08")
async def test_a_put_that_hangs_is_settled_by_the_object(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_store_options(monkeypatch, read_seconds=SILENCE_SECONDS)
    async with open_faults(small(small_images, 3)) as world:
        world.store.on(puts, http.hang)
        world.store.on(puts, http.lose_reply_and_hang)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 3)
        assert downloads(world) == 4, "what was not done is done anew, what was done is kept"
        await world.check()


@pytest.mark.case("S3-09")
async def test_a_lost_reply_to_a_complete_is_settled_by_the_object(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 2), collector_in_flight=1) as world:
        world.store.on(completes, http.lose_reply)
        # An upload that is gone after trouble may have been completed.
        world.store.on(completes, after(said(500, xml("InternalError"))))
        world.store.on(completes, refusal(404, "NoSuchUpload"))
        await assert_settled(world, await world.run(), 2)
        assert world.store.count(completes) == 1 + 2
        await world.check()


@pytest.mark.case("S3-09")
async def test_an_upload_that_somebody_has_dropped_is_begun_anew(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:

        async def drop(exchange: Exchange) -> None:
            for upload in await uploads(world):
                await world.bucket.abort(upload)
            await exchange.relay()

        world.store.on(completes, drop)
        await assert_begun_anew(world, await world.run())
        await world.check()


# --- S3-10, S3-11: parts -------------------------------------------------------------------------


def after_its_abort(world: FaultyWorld) -> list[str]:
    """Return what was asked about an upload, but for listings, after its first abort."""
    gone, late = set[str](), list[str]()
    for asked in filter(of_images, world.store.asked):
        (upload_id,) = parse_qs(asked.query).get("uploadId", [""])
        if asked.method == "DELETE":
            gone.add(upload_id)
        elif upload_id in gone and asked.method != "GET":
            late.append(asked.target)
    return late


@pytest.mark.case("S3-10")
async def test_a_part_that_fails_for_ever_takes_its_upload_with_it(
    open_faults: OpenFaults, large_images: Path
) -> None:
    async with open_faults(small(large_images, 1)) as world:
        world.store.on(part(2), refusal(500, "InternalError"), times=None)
        audit = await world.run()
        await assert_untouched(world, audit)
        assert world.store.count(part(2)) == TRIES_OF_A_RUN * failures.CALL_ATTEMPTS
        assert world.store.count(part(3)) == 0, "no part goes out before the one in front"
        assert after_its_abort(world) == []
        await world.converge()


@pytest.mark.case("S3-10")
async def test_a_part_that_is_not_answered_is_the_stores_trouble(
    open_faults: OpenFaults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three parts: time is up while the source is held back (tests/unit/stages/test_mirror.py)."""
    monkeypatch.setattr(mirror, "DEADLINE_BASE_SECONDS", 3.0)
    monkeypatch.setattr(mirror, "SLOWEST_BYTES_PER_SECOND", 1e9)
    Image.effect_noise((2500, 2500), 90).convert("RGB").save(
        tmp_path / "three_parts.png", compress_level=0
    )
    async with open_faults(small(tmp_path, 1), collector_max_attempts=1) as world:
        world.store.on(part(1), http.hang, times=None)
        audit = await world.run()
        assert (audit.upload_failures, audit.download_failures) == (1, 0)
        assert await codes(world) == [Code.STORE_ERROR]
        assert world.store.count(part(2)) == 0
        await world.check()


@pytest.mark.case("S3-10")
async def test_a_part_on_its_way_is_called_off_before_the_abort(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    arrived = anyio.Event()

    async def arrive_and_hang(exchange: Exchange) -> None:
        arrived.set()
        await http.hang(exchange)

    async with open_faults(small(two_parts, 1)) as world:
        world.images.on(everything, cut_after(arrived))
        world.store.on(part(1), arrive_and_hang)
        with anyio.fail_after(MAX_SECONDS):
            await assert_begun_anew(world, await world.run())
        assert after_its_abort(world) == []
        await world.check()


@pytest.mark.case("S3-11")
async def test_a_part_that_the_store_has_lost_costs_one_more_try(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        # The store itself has to say that it does not know the part.
        world.store.on(part(1), http.status(200, ETag='"00000000000000000000000000000000"'))
        await assert_begun_anew(world, await world.run())
        await world.check()


@pytest.mark.case("S3-11")
async def test_parts_that_are_lost_each_time_end_as_a_dead_letter(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1), collector_max_attempts=2) as world:
        world.store.on(completes, refusal(400, "InvalidPart"), times=None)
        audit = await world.run()
        assert (audit.status, audit.upload_failures) == (RunStatus.PARTIAL, 1)
        assert world.store.count(completes) == 2
        assert await codes(world) == [Code.STORE_ERROR]
        assert (await stored(world), await uploads(world)) == ([], [])
        await world.check()


# --- S3-20, S3-21: aborts ------------------------------------------------------------------------


@pytest.mark.case("S3-20")
async def test_an_upload_that_cannot_be_aborted_is_noted_and_left_to_the_janitor(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(part(2), refusal(500, "InternalError"), times=None)
        world.store.on(aborts, refusal(500, "InternalError"), times=None)
        audit = await world.run()
        assert (audit.status, audit.upload_failures) == (RunStatus.PARTIAL, 1)
        left = {upload.upload_id for upload in await uploads(world)}
        assert len(left) == TRIES_OF_A_RUN
        assert await world.value("SELECT upload_id FROM draenei_content.transfers") in left
        # Of the first one the second try has tried to get rid, too.
        assert world.store.count(aborts) == 3 * failures.CALL_ATTEMPTS

        tidied = await run_janitor(world.runtime, AT_ONCE)
        assert (tidied.uploads_aborted, tidied.uploads_left >= 2) == (0, True)
        world.store.heal()
        tidied = await run_janitor(world.runtime, AT_ONCE)
        assert (tidied.uploads_aborted, tidied.uploads_left) == (2, 0)
        await world.converge()


@pytest.mark.case("S3-20")
async def test_an_abort_that_hangs_does_not_hold_up_the_run(
    open_faults: OpenFaults, two_parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "ABORT_TIMEOUT_SECONDS", 0.1)
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(completes, refusal(400, "InvalidPart"))
        world.store.on(aborts, http.hang, times=None)
        with anyio.fail_after(MAX_SECONDS):
            await assert_begun_anew(world, await world.run())
        assert len(await uploads(world)) == 1
        await world.converge()


@pytest.mark.case("S3-20")
async def test_an_upload_of_which_nobody_was_told_is_swept_by_its_age(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(begins, http.lose_reply)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 1)
        assert (world.store.count(begins), downloads(world)) == (2, 1)
        (orphan,) = await uploads(world)
        tidied = await run_janitor(world.runtime, AT_ONCE)
        assert (tidied.uploads_aborted, tidied.uploads_left) == (1, 0)
        assert orphan not in await uploads(world)
        await world.check()


@pytest.mark.case("S3-21")
async def test_an_abort_is_repeated_while_the_store_shows_parts(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(completes, refusal(400, "InvalidPart"))
        world.store.on(aborts, http.status(204), times=2)
        await assert_begun_anew(world, await world.run())
        assert world.store.count(aborts) >= 3
        assert await uploads(world) == []
        await world.check()


@pytest.mark.case("S3-21")
async def test_parts_that_keep_coming_are_left_to_the_janitor(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(completes, refusal(400, "InvalidPart"))
        world.store.on(aborts, http.status(204), times=None)
        await assert_begun_anew(world, await world.run())
        assert world.store.count(aborts) == 2 * ABORT_ROUNDS
        assert len(await uploads(world)) == 1
        await world.converge()


@pytest.mark.case("S3-21")
async def test_a_part_that_lands_after_the_abort_leaves_nothing(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    arrived, aborted, landed = anyio.Event(), anyio.Event(), anyio.Event()

    async def come_late(exchange: Exchange) -> None:
        arrived.set()
        await aborted.wait()
        await exchange.forward()
        landed.set()

    async def abort(exchange: Exchange) -> None:
        await exchange.relay()
        aborted.set()

    async def list_then(exchange: Exchange) -> None:
        await landed.wait()
        await exchange.relay()

    async with open_faults(small(two_parts, 1)) as world:
        world.images.on(everything, cut_after(arrived))
        world.store.on(part(1), come_late)
        world.store.on(aborts, abort)
        world.store.on(lists_parts, list_then)
        with anyio.fail_after(MAX_SECONDS):
            await assert_begun_anew(world, await world.run())
        assert landed.is_set()
        assert await uploads(world) == []
        await world.check()
