"""Objects that are there already, are not what was sent, or change by another's hand."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Asked, Exchange, said
from peers.http import Fault, Match
from store_faults import (
    TRIES_OF_A_RUN,
    after,
    assert_begun_anew,
    assert_outage,
    assert_settled,
    backlog,
    codes,
    completes,
    downloads,
    heads,
    part,
    puts,
    refusal,
    stored,
    uploads,
    xml,
)
from world import small

from collector.core.errors import Code
from collector.core.maintenance import Kind, Repair
from collector.core.runs import RunStatus
from collector.runtime.wiring import run_verify
from collector.simulator import Hooks
from collector.store import failures
from collector.store.bodies import Credentials, signed_headers


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
    return replace(asked, headers={"host": asked.headers["host"], **signed})


def ignoring(world: FaultyWorld, *headers: str, damaged: Match | None = None) -> Fault:
    """Be a store that does not heed these headers; `damaged` bodies arrive with a wrong bit."""

    async def fault(exchange: Exchange) -> None:
        asked = exchange.asked
        asked = flipped(asked) if damaged and damaged(asked) else asked
        await exchange.answer(await exchange.forward(signed_anew(world, asked, *headers)))

    return fault


async def quarantine(world: FaultyWorld) -> list[str]:
    rows = await world.rows("SELECT s3_key FROM draenei_content.quarantined_objects")
    return [row["s3_key"] for row in rows]


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


# --- S3-12 to S3-15: conditions ------------------------------------------------------------------


@pytest.mark.smoke
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
        assert world.store.count(puts) == 2 + TRIES_OF_A_RUN * failures.CALL_ATTEMPTS
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
        await assert_outage(world, audit, "the store does not support a needed call")
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
