"""Faults of the store: nothing is lost, nothing is said to be stored that is not, none is blamed.

A run asks the store three things: at its start whether the bucket is there, then what the store
can do (objects under `.probe/`), then for the images' own objects. Faults are put before one of
these, and the request counts are exact where the order of requests is.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import anyio
import pytest
from faulty_world import AT_ONCE, FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Answer, Asked, Exchange, said
from peers.http import Fault, Match, open_peer
from PIL import Image
from world import EVERYTHING, small

from collector.cli.progress import SilentProgress
from collector.core.audit import AuditRow
from collector.core.errors import Code
from collector.core.maintenance import Kind, Repair
from collector.core.runs import RunStatus
from collector.local import LocalS3
from collector.ports import Upload
from collector.runtime import opening
from collector.runtime.opening import open_runtime
from collector.runtime.wiring import run_janitor, run_verify
from collector.simulator import Hooks
from collector.stages import mirror, multipart
from collector.store import client, failures
from collector.store import probe as probes
from collector.store.bodies import Credentials, signed_headers
from collector.store.bucket import ABORT_ROUNDS

# An item is tried twice in a run, and each of its calls four times.
TRIES_OF_A_RUN = 2
# Where a test waits for a time-out: long for an answer on loopback, short for us.
SILENCE_SECONDS = 0.8
# What is bounded by less ends long before.
MOST_SECONDS = 20.0


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tries of one call follow at once."""
    monkeypatch.setattr(failures, "RETRY_BASE_SECONDS", 0.001)


@pytest.fixture(scope="module")
def two_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one picture of a little more than one part."""
    folder = tmp_path_factory.mktemp("two_parts")
    noise = Image.effect_noise((1700, 1700), 90).convert("RGB")
    noise.save(folder / "noise.png", compress_level=0)
    return folder


def set_store_options(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let the runtime open its store otherwise than settings can say."""
    options = opening.s3_options
    monkeypatch.setattr(opening, "s3_options", lambda *a: replace(options(*a), **changes))


# --- What is asked of the store ------------------------------------------------------------------


def everything(_: Asked) -> bool:
    return True


def of_images(asked: Asked) -> bool:
    return "/wallpapers/" in asked.path


def puts(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "PUT" and not asked.query


def part(number: int) -> Match:
    return lambda asked: of_images(asked) and f"partNumber={number}&" in asked.query


def begins(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "POST" and "uploadId=" not in asked.query


def completes(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "POST" and "uploadId=" in asked.query


def aborts(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "DELETE"


def lists_parts(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "GET" and "uploadId=" in asked.query


def heads(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "HEAD"


def downloads(world: FaultyWorld) -> int:
    return world.images.count(everything)


# --- What the store does -------------------------------------------------------------------------


def xml(code: str) -> bytes:
    said_so = f"<Error><Code>{code}</Code><Message>as a test wants it</Message></Error>"
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + said_so.encode()


def refusal(status: int, code: str, **headers: str) -> Fault:
    """Answer with an error of S3; nothing is carried out."""
    return http.status(status, xml(code), content_type="application/xml", **headers)


def after(fault: Answer) -> Fault:
    """Carry the request out, and answer otherwise."""
    return http.rewritten(lambda _: fault)


def cut_after(event: anyio.Event) -> Fault:
    """Break an image off shortly before its end, as soon as something else has happened."""

    async def fault(exchange: Exchange) -> None:
        await exchange.send((await exchange.forward()).framed()[:-100])
        await event.wait()
        exchange.reset()

    return fault


def flipped(asked: Asked) -> Asked:
    """Return the request with one bit of its body changed, in the middle of it."""
    middle = len(asked.body) // 2
    changed = bytes([asked.body[middle] ^ 1])
    return replace(asked, body=asked.body[:middle] + changed + asked.body[middle + 1 :])


async def flip(exchange: Exchange) -> None:
    """Damage the body on its way to the store."""
    await exchange.answer(await exchange.forward(flipped(exchange.asked)))


def signed_anew(world: FaultyWorld, asked: Asked, *without: str) -> Asked:
    """Return a request as a client would have sent it that knows nothing of these headers."""
    settings = world.settings
    secret = settings.aws_secret_access_key
    assert settings.aws_access_key_id is not None
    assert secret is not None
    kept = {"content-type", "content-length", "x-amz-checksum-sha256", "if-none-match"}
    ours = {
        name: value
        for name, value in asked.headers.items()
        if name not in without and (name in kept or name.startswith("x-amz-meta-"))
    }
    signed = signed_headers(
        asked.method,
        world.store.url + asked.target,
        ours,
        body_sha256=hashlib.sha256(asked.body).digest(),
        credentials=Credentials(settings.aws_access_key_id, secret.get_secret_value()),
        region=settings.aws_default_region or "",
    )
    return replace(asked, headers=signed)


def ignoring(world: FaultyWorld, *headers: str, damaged: Match | None = None) -> Fault:
    """Be a store that does not heed these headers; `damaged` bodies arrive with a wrong bit."""

    async def fault(exchange: Exchange) -> None:
        asked = exchange.asked
        asked = flipped(asked) if damaged and damaged(asked) else asked
        await exchange.answer(await exchange.forward(signed_anew(world, asked, *headers)))

    return fault


# --- What a test looks at ------------------------------------------------------------------------


async def backlog(world: FaultyWorld) -> set[tuple[str, int]]:
    """Return the states of what is not stored, each with its attempts."""
    rows = await world.rows("SELECT state, attempts FROM draenei_content.transfers")
    return {(row["state"], row["attempts"]) for row in rows}


async def codes(world: FaultyWorld) -> list[str]:
    return [letter.code for letter in await world.runtime.catalog.dead_letters.open_letters()]


async def quarantine(world: FaultyWorld) -> list[str]:
    rows = await world.rows("SELECT s3_key FROM draenei_content.quarantined_objects")
    return [row["s3_key"] for row in rows]


async def uploads(world: FaultyWorld) -> list[Upload]:
    return [upload async for upload in world.bucket.uploads("wallpapers/")]


async def stored(world: FaultyWorld) -> list[str]:
    return [key async for key, _ in world.bucket.keys("wallpapers/")]


async def content(world: FaultyWorld, key: str) -> bytes:
    """Return what lies under a key."""
    async with world.bucket.read(key) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def plant(world: FaultyWorld, key: str, body: bytes) -> None:
    """Put an object past the peer, as somebody else would: over what is there."""
    await world.bucket._control.call("put_object", Key=key, Body=body)


async def delete(world: FaultyWorld, key: str) -> None:
    await world.bucket._control.call("delete_object", Key=key)


def only_key(world: FaultyWorld) -> str:
    (key,) = world.truth()
    return key


def true_bytes(world: FaultyWorld, key: str) -> bytes:
    """Return an image as its source has it."""
    (wallpaper,) = [wallpaper for wallpaper in world.simulator.catalogue if wallpaper.id in key]
    return b"".join(world.simulator.catalogue.body(wallpaper))


def address_of(url: str) -> tuple[str, int]:
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    return address.hostname, address.port


async def assert_outage(world: FaultyWorld, audit: AuditRow, problem: str) -> None:
    """The run says what is wrong, nobody is blamed, and no item has lost a try."""
    assert audit.status is RunStatus.FAILED
    assert problem in str(audit.notes)
    assert await codes(world) == []
    assert await backlog(world) == {("pending", 0)}


async def assert_settled(world: FaultyWorld, audit: AuditRow, images: int = 1) -> None:
    """All images are stored, each by its first try."""
    assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, images)
    assert downloads(world) == images


async def assert_begun_anew(world: FaultyWorld, audit: AuditRow) -> None:
    """The one image is stored, by a second try that began from nothing."""
    assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 1)
    assert (world.store.count(begins), downloads(world)) == (2, 2)


async def assert_untouched(world: FaultyWorld, audit: AuditRow) -> None:
    """The one image has had its tries of this run, and nothing is in the bucket."""
    assert (audit.status, audit.upload_failures) == (RunStatus.PARTIAL, 1)
    assert await backlog(world) == {("pending", TRIES_OF_A_RUN)}
    assert await stored(world) == []
    assert await uploads(world) == []


@asynccontextmanager
async def opened_anew(world: FaultyWorld, **changes: Any) -> AsyncIterator[FaultyWorld]:
    """Open the runtime as a new process would, with other settings where given."""
    settings = world.settings.model_copy(update=changes)
    async with open_runtime(settings, EVERYTHING, SilentProgress()) as runtime:
        yield replace(world, runtime=runtime, settings=settings)


# --- S3-01, S3-02: the bucket --------------------------------------------------------------------

AT_START = [
    (404, "NoSuchBucket", {}, "does not exist: create it or set BUCKET_NAME"),
    (
        *(301, "PermanentRedirect", {"x_amz_bucket_region": "eu-north-1"}),
        "is in another region (eu-north-1): set AWS_DEFAULT_REGION",
    ),
    (403, "AccessDenied", {}, "is denied: grant s3:ListBucket"),
    (403, "InvalidAccessKeyId", {}, "check AWS_ACCESS_KEY_ID"),
    (403, "SignatureDoesNotMatch", {}, "check AWS_SECRET_ACCESS_KEY"),
]


@pytest.mark.case("S3-01")
async def test_a_bucket_that_is_closed_to_us_is_told_before_anything_is_claimed(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        for status, code, headers, remedy in AT_START:
            before = len(world.store.asked)
            world.store.on(everything, refusal(status, code, **headers), times=None)
            async with opened_anew(world) as again:
                await assert_outage(again, await again.run(code), remedy)
            # Of another region the SDK makes sure, with a question of its own.
            assert len(world.store.asked) - before == (2 if status == 301 else 1)
            world.store.heal()
        assert await world.value("SELECT max(fence) FROM draenei_content.transfers") == 0
        assert downloads(world) == 0
        await world.converge()
        assert await stored(world) == sorted(world.truth())


@pytest.mark.case("S3-01")
async def test_what_a_real_store_refuses_is_told_as_well(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        async with opened_anew(world, bucket_name="nobodys-bucket") as elsewhere:
            await assert_outage(elsewhere, await elsewhere.run("elsewhere"), "does not exist")
        async with opened_anew(world, aws_access_key_id="nobody") as nobody:
            await assert_outage(nobody, await nobody.run("nobody"), "check AWS_ACCESS_KEY_ID")
        await world.converge()


@pytest.mark.case("S3-02")
async def test_a_bucket_that_vanishes_in_mid_run_costs_no_item_a_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=2) as world:
        world.store.on(puts, refusal(404, "NoSuchBucket"), times=None, skip=4)
        audit = await world.run()
        await assert_outage(world, audit, "does not exist: create it or set BUCKET_NAME")
        assert world.store.count(puts) in (5, 6), "who is on the way meets it, nobody else"
        # What had just landed when the run ended is found by the next one.
        assert len(await stored(world)) == 4
        assert audit.images_uploaded in (3, 4)
        await world.converge()


@pytest.mark.case("S3-02")
async def test_a_bucket_that_vanishes_under_a_large_image_leaves_its_upload_noted(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        for match in (begins, part(1), completes):
            world.heal()
            world.store.on(match, refusal(404, "NoSuchBucket"), times=None)
            world.store.on(aborts, refusal(404, "NoSuchBucket"), times=None)
            audit = await world.run(f"{len(world.store.asked)}")
            await assert_outage(world, audit, "does not exist")
            noted = await world.value("SELECT upload_id FROM draenei_content.transfers")
            left = [upload.upload_id for upload in await uploads(world)]
            assert (noted in left) == (match is not begins)
        await world.converge()


# --- S3-03, S3-04: a store in trouble, and credentials that end ----------------------------------

BUSY = [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests")]


@pytest.mark.case("S3-03")
async def test_a_burst_of_trouble_is_outlived_within_one_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3), collector_in_flight=1) as world:
        # A rule sees what those before it have let pass: the last try of each image.
        for number, (status, code) in enumerate(BUSY):
            world.store.on(puts, refusal(status, code), times=failures.TRIES - 1, skip=number)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 3)
        assert world.store.count(puts) == 3 * failures.TRIES
        assert downloads(world) == 3, "they are sent again from memory"
        await world.check()


@pytest.mark.case("S3-03")
@pytest.mark.parametrize(("status", "code"), BUSY[:2])
async def test_trouble_for_ever_is_an_outage_and_not_the_items_fault(
    open_faults: OpenFaults, small_images: Path, status: int, code: str
) -> None:
    async with open_faults(small(small_images, 30), collector_in_flight=4) as world:
        world.store.on(puts, refusal(status, code), times=None, skip=3)
        audit = await world.run()
        await assert_outage(world, audit, "the store fails for most images (store_error")
        assert audit.images_uploaded == 3
        tried = Counter(asked.path for asked in filter(puts, world.store.asked))
        assert len(tried) < 30, "the run ends before it has tried them all"
        assert max(tried.values()) <= TRIES_OF_A_RUN * failures.TRIES
        await world.converge()


@pytest.mark.case("S3-03")
async def test_a_store_in_trouble_from_the_start_is_not_given_any_work(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        before = len(world.store.asked)
        world.store.on(everything, refusal(503, "SlowDown"), times=None)
        audit = await world.run()
        await assert_outage(world, audit, "the store failed when it was probed")
        assert len(world.store.asked) - before <= probes.PROBE_TRIES * failures.TRIES
        assert downloads(world) == 0
        await world.converge()


@pytest.mark.case("S3-03")
async def test_a_store_that_goes_down_for_the_last_images_is_an_outage_too(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=2) as world:
        down = refusal(503, "SlowDown")
        world.store.on(lambda _: world.store.count(puts) > 9, down, times=None)
        audit = await world.run()
        await assert_outage(world, audit, "the store")
        assert audit.images_uploaded == 9
        await world.converge()


@pytest.mark.case("S3-03")
async def test_what_was_done_under_a_lasting_error_is_found_by_the_next_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        world.store.on(puts, after(said(500, xml("InternalError"))), times=None)
        audit = await world.run()
        assert (audit.status, audit.images_adopted) == (RunStatus.SUCCEEDED, 3)
        assert downloads(world) == 3, "its hash is known, so it is not fetched again"
        await world.check()


ENDED = [
    (400, "ExpiredToken", "renew the credentials"),
    (400, "InvalidToken", "renew the credentials"),
    (403, "AccessDenied", "is denied: grant"),
    (403, "", "is denied: grant"),
]


@pytest.mark.case("S3-04")
async def test_credentials_that_end_in_mid_run_end_the_run(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=1) as world:
        for number, (status, code, remedy) in enumerate(ENDED):
            refused = refusal(status, code) if code else http.status(status)
            world.store.on(of_images, refused, times=None, skip=2)
            audit = await world.run(f"run {number}")
            await assert_outage(world, audit, remedy)
            assert audit.images_uploaded == 2
            assert world.store.count(puts) == 3 * (number + 1), "asked once, for all"
            world.heal()
        await world.converge()


@pytest.mark.case("S3-04")
async def test_credentials_that_end_under_a_large_image_end_the_run(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        for match in (begins, part(2), completes):
            world.heal()
            before = world.store.count(match)
            world.store.on(match, refusal(400, "ExpiredToken"), times=None)
            audit = await world.run(f"{len(world.store.asked)}")
            await assert_outage(world, audit, "renew the credentials")
            assert world.store.count(match) == before + 1
            assert await uploads(world) == []
        await world.converge()


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
        assert world.store.count(completes) == TRIES_OF_A_RUN * failures.TRIES
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
        assert world.store.count(part(2)) == TRIES_OF_A_RUN * failures.TRIES
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
        with anyio.fail_after(MOST_SECONDS):
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


# --- S3-12 to S3-15: conditions ------------------------------------------------------------------


@pytest.mark.case("S3-12")
async def test_an_object_that_is_there_because_ours_has_landed_is_ours(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 2), collector_in_flight=1) as world:
        world.store.on(puts, after(said(500, xml("InternalError"))))
        world.store.on(puts, after(said(503, xml("SlowDown"))), skip=1)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 2)
        assert (world.store.count(puts), downloads(world)) == (4, 2)
        await world.check()


@pytest.mark.case("S3-12")
async def test_a_large_object_that_is_there_because_ours_has_landed_is_ours(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(completes, after(said(503, xml("SlowDown"))))
        world.store.on(completes, refusal(412, "PreconditionFailed"))
        await assert_settled(world, await world.run())
        await world.check()


@pytest.mark.case("S3-12")
async def test_the_same_image_from_another_hand_is_adopted(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 1)) as world:
        await plant(world, only_key(world), true_bytes(world, only_key(world)))
        audit = await world.run()
        assert (audit.status, audit.images_adopted) == (RunStatus.SUCCEEDED, 1)
        assert (world.store.count(puts), downloads(world)) == (1, 1)
        assert only_key(world) not in world.store.commits
        await world.check()


@pytest.mark.case("S3-13")
async def test_another_object_under_the_key_is_left_alone_and_told(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4)) as world:
        longer, as_long, *others = world.truth()
        strange = {longer: b"something else", as_long: b"x" * len(true_bytes(world, as_long))}
        for key, body in strange.items():
            await plant(world, key, body)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, len(others))
        assert audit.upload_failures == 2
        assert await codes(world) == [Code.CONFLICT_OBJECT] * 2
        assert await backlog(world) == {("dead", 1)}, "no second try would find it otherwise"
        assert sorted(await quarantine(world)) == sorted(strange)
        for key, body in strange.items():
            assert await content(world, key) == body
        assert not {*strange} & {*world.store.commits}
        await world.converge()


@pytest.mark.case("S3-13")
async def test_another_object_under_a_large_images_key_is_left_alone_and_told(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        await plant(world, only_key(world), b"something else")
        audit = await world.run()
        assert (audit.status, audit.upload_failures) == (RunStatus.PARTIAL, 1)
        assert await codes(world) == [Code.CONFLICT_OBJECT]
        assert await content(world, only_key(world)) == b"something else"
        assert await uploads(world) == []
        await world.converge()


@pytest.mark.case("S3-14")
async def test_a_put_in_conflict_with_another_is_sent_again(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 2), collector_in_flight=1) as world:
        conflict = refusal(409, "ConditionalRequestConflict")
        world.store.on(puts, conflict)
        world.store.on(puts, conflict, times=None, skip=1)
        audit = await world.run()
        assert (audit.images_uploaded, audit.upload_failures) == (1, 1)
        # The first is sent twice; the other one as often as may be, in each of its tries.
        assert world.store.count(puts) == 2 + TRIES_OF_A_RUN * failures.TRIES
        assert await backlog(world) == {("pending", TRIES_OF_A_RUN)}
        await world.converge()


@pytest.mark.case("S3-14")
async def test_a_complete_in_conflict_with_another_is_begun_anew(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(completes, refusal(409, "ConditionalRequestConflict"))
        await assert_begun_anew(world, await world.run())
        assert await uploads(world) == []
        await world.check()


def conditional(asked: Asked) -> bool:
    return "if-none-match" in asked.headers


@pytest.mark.case("S3-15")
@pytest.mark.parametrize("images", ["small_images", "two_parts"])
async def test_a_store_that_ignores_conditions_is_found_out_and_asked_first(
    open_faults: OpenFaults, request: pytest.FixtureRequest, images: str
) -> None:
    async with open_faults(small(request.getfixturevalue(images), 2)) as world:
        taken, free = world.truth()
        await plant(world, taken, b"something else")
        world.store.on(conditional, ignoring(world, "if-none-match"), times=None)
        audit = await world.run()
        assert "the store lacks conditional_put, conditional_complete" in str(audit.notes)
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 1)
        assert await codes(world) == [Code.CONFLICT_OBJECT]
        assert await content(world, taken) == b"something else"
        written = [key for key in world.store.commits if key.startswith("wallpapers/")]
        assert written == [free]
        await world.check(commits=written)


@pytest.mark.case("S3-15")
async def test_a_store_that_refuses_conditions_is_not_written_to(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        world.store.on(conditional, refusal(501, "NotImplemented"), times=None)
        audit = await world.run()
        await assert_outage(world, audit, "the store does not support a call that is needed")
        assert await stored(world) == []
        await world.converge()


# --- S3-16 to S3-19: whether what is there is what was sent --------------------------------------


@pytest.mark.case("S3-16")
async def test_a_bit_that_flips_on_the_wire_is_never_stored(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3), collector_max_attempts=2) as world:
        unlucky, *others = sorted(world.truth())
        world.store.on(lambda asked: unlucky in asked.path and puts(asked), flip, times=None)
        world.store.on(puts, flip)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 2)
        # Once is mended by another download; each time is a dead letter.
        assert (world.store.count(puts), downloads(world)) == (2 + 3, 2 + 3)
        assert await codes(world) == [Code.CHECKSUM_MISMATCH]
        assert await stored(world) == others
        await world.check()


@pytest.mark.case("S3-16")
async def test_a_bit_that_flips_in_a_part_is_fetched_and_sent_again(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(part(2), flip)
        await assert_begun_anew(world, await world.run())
        await world.check()


def summed(asked: Asked) -> bool:
    return "x-amz-checksum-sha256" in asked.headers


@pytest.mark.case("S3-17")
async def test_what_a_store_without_checksums_has_damaged_is_not_called_stored(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        unlucky = min(world.truth())
        ignorant = ignoring(
            world,
            "x-amz-checksum-sha256",
            damaged=lambda asked: puts(asked) and unlucky in asked.path,
        )
        world.store.on(summed, ignorant, times=None)
        audit = await world.run()
        assert "the store lacks checksums" in str(audit.notes)
        assert audit.images_uploaded + audit.images_adopted == 2
        named = "SELECT count(*) FROM draenei_content.wallpapers WHERE s3_key = $1"
        assert await world.value(named, unlucky) == 0
        await world.converge()


async def say_nothing_is_there(exchange: Exchange) -> None:
    await exchange.answer(said(404))


async def say_it_is_shorter(exchange: Exchange) -> None:
    answer = await exchange.forward()
    await exchange.send(answer.framed(content_length="17"))


@pytest.mark.case("S3-18")
@pytest.mark.parametrize("weak", [say_nothing_is_there, say_it_is_shorter])
async def test_a_store_that_shows_a_new_object_late_is_asked_again(
    open_faults: OpenFaults, two_parts: Path, weak: Fault
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(heads, weak)
        audit = await world.run()
        assert await codes(world) == []
        assert (audit.status, audit.images_adopted) == (RunStatus.SUCCEEDED, 1)
        await world.check()


@pytest.mark.case("S3-18")
async def test_an_object_that_the_store_does_not_show_is_never_called_stored(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(heads, say_nothing_is_there, times=None)
        audit = await world.run()
        assert (audit.status, audit.upload_failures) == (RunStatus.PARTIAL, 1)
        assert await backlog(world) == {("pending", TRIES_OF_A_RUN)}
        assert await stored(world) == [only_key(world)]
        assert await uploads(world) == []
        await world.converge()


@pytest.mark.case("S3-19")
async def test_a_store_that_does_not_let_us_look_is_not_written_to(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        world.store.on(lambda asked: asked.method == "HEAD", http.status(403), times=None)
        await assert_outage(world, await world.run(), "is denied: grant s3:ListBucket")
        assert world.store.count(puts) == 0
        await world.converge()


@pytest.mark.case("S3-19")
async def test_a_large_object_that_may_not_be_looked_at_is_not_called_stored(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        world.store.on(heads, http.status(403), times=None)
        await assert_outage(world, await world.run(), "is denied: grant s3:ListBucket")
        assert await stored(world) == [only_key(world)]
        await world.converge()


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
        assert world.store.count(aborts) == 3 * failures.TRIES

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
        with anyio.fail_after(MOST_SECONDS):
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
        with anyio.fail_after(MOST_SECONDS):
            await assert_begun_anew(world, await world.run())
        assert landed.is_set()
        assert await uploads(world) == []
        await world.check()


# --- S3-22 to S3-24: clock, connections, the way to the store ------------------------------------


@pytest.mark.case("S3-22")
async def test_a_clock_that_is_wrong_is_told_and_not_tried_again(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4), collector_in_flight=1) as world:
        skewed = refusal(403, "RequestTimeTooSkewed")
        world.store.on(puts, skewed, times=None, skip=1)
        await assert_outage(world, await world.run("later"), "set the clock")
        assert world.store.count(puts) == 2

        world.store.on(everything, skewed, times=None)
        async with opened_anew(world) as again:
            await assert_outage(again, await again.run("start"), "set the clock")
        await world.converge()


@pytest.mark.case("S3-22")
async def test_a_clock_that_is_wrong_when_the_store_is_probed_is_told(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 2)) as world:
        world.store.on(everything, refusal(403, "RequestTimeTooSkewed"), times=None)
        await assert_outage(world, await world.run(), "set the clock")
        await world.converge()


@pytest.mark.case("S3-23")
async def test_no_more_is_asked_of_the_store_at_once_than_is_set(
    open_faults: OpenFaults, small_images: Path
) -> None:
    now, most = 0, 0

    async def count(exchange: Exchange) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await exchange.relay()
        now -= 1

    async with open_faults(small(small_images, 24), collector_in_flight=3) as world:
        world.store.on(everything, count, times=None)
        assert (await world.run()).images_uploaded == 24
        assert 1 < most <= 3
        await world.check()


@pytest.mark.case("S3-23")
async def test_a_full_pool_of_connections_is_waited_for_and_no_outage(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_store_options(monkeypatch, connections=1, read_seconds=SILENCE_SECONDS)
    async with open_faults(small(small_images, 12), collector_in_flight=6) as world:
        world.store.on(puts, http.hang)
        with anyio.fail_after(MOST_SECONDS):
            audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 12)
        await world.check()


@pytest.mark.case("S3-24")
async def test_connections_that_die_are_made_anew(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 8), collector_in_flight=2) as world:
        world.store.on(puts, http.reset, times=2, skip=2)
        world.store.on(heads, http.reset)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 8)
        assert downloads(world) == 10
        await world.check()


def resolving(monkeypatch: pytest.MonkeyPatch, name: str, ports: list[int]) -> None:
    """Let a name stand for the last one of these ports, as a name of DNS does for addresses."""
    resolve = aiohttp.TCPConnector._resolve_host

    async def resolved(self: Any, host: str, port: int, traces: Any = None) -> Any:
        if host != name:
            return await resolve(self, host, port, traces)
        place = {"hostname": host, "host": "127.0.0.1", "port": ports[-1]}
        return [place | {"family": socket.AF_INET, "proto": 0, "flags": socket.AI_NUMERICHOST}]

    monkeypatch.setattr(aiohttp.TCPConnector, "_resolve_host", resolved)


@pytest.mark.case("S3-24")
async def test_a_name_that_points_elsewhere_in_mid_run_is_followed(
    open_faults: OpenFaults,
    small_images: Path,
    s3_server: LocalS3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports: list[int] = []
    resolving(monkeypatch, "store.test", ports)

    async with (
        open_faults(small(small_images, 8), collector_in_flight=2) as world,
        open_peer(address_of(s3_server.endpoint_url)) as other,
    ):

        async def move(exchange: Exchange) -> None:
            ports.append(other.port)
            exchange.reset()

        ports.append(world.store.port)
        world.store.on(puts, move, times=None, skip=3)
        async with opened_anew(world, s3_endpoint_url="http://store.test:9000") as named:
            audit = await named.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 8)
        assert len(other.commits) == 5
        await world.check(commits=world.store.commits + other.commits)


@pytest.mark.case("S3-24")
async def test_a_store_that_goes_away_in_mid_run_is_an_outage(
    open_faults: OpenFaults, small_images: Path
) -> None:
    reached = anyio.Event()

    async def seen(exchange: Exchange) -> None:
        reached.set()
        await http.hang(exchange)

    async with open_faults(small(small_images, 4)) as world, AsyncExitStack() as stack:
        way = await stack.enter_async_context(open_peer(address_of(world.store.url)))
        way.on(puts, seen, times=None)

        async def go_away() -> None:
            await reached.wait()
            await stack.aclose()

        async with (
            opened_anew(world, s3_endpoint_url=way.url) as moved,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(go_away)
            await assert_outage(moved, await moved.run(), "no connection (refused or no route)")
        await world.converge()


@pytest.mark.case("S3-24")
async def test_a_store_that_does_not_speak_tls_is_told_and_not_spoken_to(
    open_faults: OpenFaults, small_images: Path, s3_server: LocalS3
) -> None:
    async with open_faults(small(small_images, 2)) as world:
        secure = s3_server.endpoint_url.replace("http:", "https:")
        async with opened_anew(world, s3_endpoint_url=secure) as again:
            await assert_outage(again, await again.run(), "TLS was refused")
        trust = world.bucket._control.trust()
        assert (trust.verify_mode, trust.check_hostname) == (ssl.CERT_REQUIRED, True)
        await world.converge()


# --- S3-25 to S3-28: what others do to the bucket, and what we write into it ---------------------


@pytest.mark.case("S3-25")
async def test_in_a_bucket_with_versions_the_present_one_counts(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        await world.bucket._control.call(
            "put_bucket_versioning", VersioningConfiguration={"Status": "Enabled"}
        )
        assert (await world.run()).images_uploaded == 3
        hidden = min(world.truth())
        await delete(world, hidden)
        findings = await run_verify(world.runtime, deep=False, repair=True)
        assert (findings.kinds[Kind.MISSING], findings.left) == (1, 0)
        written = list(world.store.commits)
        assert (await world.run()).missing_s3_after_run == 0
        assert world.store.commits[len(written) :] == [hidden]
        await world.check(commits=written)


@pytest.mark.case("S3-26")
async def test_an_object_that_somebody_deletes_is_found_missing_and_stored_again(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4)) as world:
        await world.run()
        lost = min(world.truth())
        await delete(world, lost)
        findings = await run_verify(world.runtime, deep=False, repair=False)
        assert [(it.kind, it.s3_key) for it in findings.listed] == [(Kind.MISSING, lost)]
        assert findings.left == 1
        repaired = await run_verify(world.runtime, deep=False, repair=True)
        assert (repaired.repairs[Repair.REQUEUED], repaired.left) == (1, 0)
        written = list(world.store.commits)
        assert (await world.run()).missing_s3_after_run == 0
        assert world.store.commits[len(written) :] == [lost]
        await world.check(commits=written)


OUR_PATHS = re.compile(
    r"/[a-z0-9-]+(/wallpapers/[A-Za-z0-9]{1,16}\.(jpg|png|webp)|/\.probe/(conditional|checksum))?"
)
BAD_IDS = ["../etc", "a//b", "a?b", "a\r\nb", "a b", "..", "%2e%2e", "a" * 17, "ä"]


@pytest.mark.case("S3-27")
async def test_an_id_that_is_no_key_never_comes_to_the_store(
    open_faults: OpenFaults, small_images: Path
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [*items, *(items[0] | {"id": name} for name in BAD_IDS)]

    hooks = Hooks(listing=listing)
    options = small(small_images, 3)
    async with open_faults(options, hooks, collector_max_dead_percent=100) as world:
        # Rows of others know nothing of our rules.
        for name in BAD_IDS[:4]:
            await world.rows(
                "INSERT INTO draenei_content.wallpapers (wallhaven_id, url) VALUES ($1, $2)",
                *(f"{name}/", f"{world.images.url}/full/xx/wallhaven-xx.jpg"),
            )
        audit = await world.run()
        assert (audit.images_uploaded, audit.metadata_invalid) == (3, len(BAD_IDS))
        assert await codes(world) == [Code.BAD_ID] * (len(BAD_IDS) + 4)
        assert [a.path for a in world.store.asked if not OUR_PATHS.fullmatch(a.path)] == []
        await world.check()


TOKEN = re.compile(r"[0-9a-f-]{36}/\d+|[0-9a-f]{32}")


@pytest.mark.case("S3-28")
async def test_only_plain_tokens_are_sent_as_metadata(
    open_faults: OpenFaults, small_images: Path
) -> None:
    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | {"source": "https://例え.jp/ドレナイ\r\nx: y"} for item in items]

    async with open_faults(small(small_images, 2), Hooks(listing=listing)) as world:
        assert (await world.run()).images_uploaded == 2
        # The probe begins a multipart upload as well, with the same words.
        for asked in world.store.asked:
            assert "".join(asked.headers.values()).isascii()
            ours = {name for name in asked.headers if name.startswith("x-amz-meta-")}
            assert ours <= {"x-amz-meta-sha256", "x-amz-meta-token"}
            assert TOKEN.fullmatch(asked.headers.get("x-amz-meta-token", "0" * 32))
        await world.check()


@pytest.mark.case("S3-28")
async def test_metadata_of_others_that_is_not_plain_proves_nothing_and_breaks_nothing(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async def say_nonsense(exchange: Exchange) -> None:
        answer = await exchange.forward()
        length = answer.headers.get("content-length")
        nonsense = {"x_amz_meta_sha256": "\xc3\xa9" * 32, "x_amz_meta_token": "\xc3\xa9"}
        await exchange.send(answer.framed(content_length=length, **nonsense))

    async with open_faults(small(small_images, 1)) as world:
        key = only_key(world)
        await plant(world, key, true_bytes(world, key))
        world.store.on(heads, say_nonsense, times=None)
        audit = await world.run()
        assert (audit.status, audit.images_adopted) == (RunStatus.SUCCEEDED, 1)
        await world.check()
