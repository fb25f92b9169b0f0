"""The bucket against the tables, both ways: what differs is found, and put right without loss."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import pytest
from world import OpenWorld, World, small

from collector.catalog import Database, Verification
from collector.cli.progress import SilentProgress
from collector.core.errors import Refusal
from collector.core.images import ImageType
from collector.core.maintenance import Findings, Kind, Repair
from collector.core.runs import RunStatus
from collector.core.transfers import Claim
from collector.runtime.wiring import run_verify
from collector.stages.verify import VerifyOptions, verify
from collector.store.memory import MemoryStore

MANY_OBJECTS = 100_000


async def put(world: World, key: str, body: bytes, **metadata: str) -> None:
    """Put an object as somebody else would: over what is there."""
    await world.runtime.store._control.call("put_object", Key=key, Body=body, Metadata=metadata)


async def delete(world: World, key: str) -> None:
    await world.runtime.store._control.call("delete_object", Key=key)


async def found(world: World, *, deep: bool = False, repair: bool = False) -> Findings:
    return await run_verify(world.runtime, deep=deep, repair=repair)


def kinds(findings: Findings) -> dict[str, Kind]:
    return {difference.s3_key: difference.kind for difference in findings.listed}


async def unstore(world: World, key: str) -> None:
    """Forget in the tables that an image is stored, as a kill before its confirm does."""
    await world.rows(
        "WITH w AS (UPDATE draenei_content.wallpapers SET s3_key = NULL, object_sha256 = NULL,"
        " object_bytes = NULL, stored_at = NULL WHERE s3_key = $1 RETURNING id)"
        " INSERT INTO draenei_content.transfers (wallpaper_id) SELECT id FROM w",
        key,
    )


async def test_what_agrees_is_matched(open_world: OpenWorld, small_images: Path) -> None:
    async with open_world(small(small_images, 6)) as world:
        await world.run()
        for deep in (False, True):
            findings = await found(world, deep=deep)
            assert (findings.rows, findings.objects, findings.matched) == (6, 6, 6)
            assert findings.left == 0
            assert findings.bytes == await world.value(
                "SELECT sum(object_bytes)::bigint FROM draenei_content.wallpapers"
            )


async def test_a_missing_object_is_sent_for_again(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 6)) as world:
        await world.run()
        lost = min(world.truth())
        await delete(world, lost)
        assert kinds(await found(world)) == {lost: Kind.MISSING}
        assert (await found(world)).left == 1

        repaired = await found(world, repair=True)
        assert (repaired.repairs[Repair.REQUEUED], repaired.left) == (1, 0)
        assert (await world.run("again")).images_uploaded == 1
        assert await world.objects() == world.truth()
        assert (await found(world, deep=True)).kinds.total() == 0


@pytest.mark.parametrize("same_length", [False, True])
async def test_an_object_that_was_replaced_is_left_alone_and_its_row_says_so(
    open_world: OpenWorld, small_images: Path, same_length: bool
) -> None:
    async with open_world(small(small_images, 4)) as world:
        await world.run()
        key = min(world.truth())
        size_bytes = await world.value(
            "SELECT object_bytes FROM draenei_content.wallpapers WHERE s3_key = $1", key
        )
        await put(world, key, b"x" * (size_bytes if same_length else size_bytes + 1))
        assert kinds(await found(world)) == ({} if same_length else {key: Kind.SIZE_DIFFERS})
        kind = Kind.BYTES_DIFFER if same_length else Kind.SIZE_DIFFERS
        assert kinds(await found(world, deep=True)) == {key: kind}

        assert (await found(world, deep=True, repair=True)).left == 0
        # The row no longer claims the object, which lies where it lay.
        assert (await found(world)).quarantined == 1
        replaced = (await world.objects())[key]
        audit = await world.run("again")
        assert (audit.status, audit.upload_failures) == (RunStatus.PARTIAL, 1)
        assert (await world.objects())[key] == replaced
        (letter,) = await world.runtime.catalog.dead_letters.open_letters()
        assert letter.code == "conflict_object"
        assert (await found(world)).left == 0


async def test_an_object_of_a_killed_worker_is_adopted_without_a_download(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 4)) as world:
        await world.run()
        key = min(world.truth())
        await unstore(world, key)
        assert kinds(await found(world)) == {key: Kind.UNCONFIRMED}
        asked = world.simulator.journal.requests["image"]
        repaired = await found(world, repair=True)
        assert (repaired.repairs[Repair.ADOPTED], repaired.left) == (1, 0)
        assert world.simulator.journal.requests["image"] == asked
        assert (await found(world, deep=True)).matched == 4


async def test_an_object_whose_hash_nobody_knows_is_compared_by_the_next_transfer(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 4)) as world:
        await world.run()
        key = min(world.truth())
        await unstore(world, key)
        body = b""
        async with world.runtime.store.read(key) as chunks:
            async for chunk in chunks:
                body += chunk
        # By another tool, which says nothing about it, or says what is no hash at all.
        await put(world, key, body, sha256="not a hash")
        await world.rows("UPDATE draenei_content.transfers SET state = 'dead', attempts = 5")
        repaired = await found(world, repair=True)
        assert (repaired.repairs[Repair.REQUEUED], repaired.left) == (1, 0)
        assert (await world.run("again")).images_adopted == 1
        assert (await found(world, deep=True)).matched == 4


@pytest.mark.parametrize(
    "key", ["wallpapers/nobody1.jpg", "wallpapers/readme.txt", "wallpapers/a/b.png"]
)
async def test_an_object_of_no_row_is_put_on_a_list_and_not_deleted(
    open_world: OpenWorld, small_images: Path, key: str
) -> None:
    async with open_world(small(small_images, 2)) as world:
        await world.run()
        await put(world, key, b"mine")
        assert kinds(await found(world)) == {key: Kind.UNOWNED}
        repaired = await found(world, repair=True)
        assert (repaired.repairs[Repair.QUARANTINED], repaired.left) == (1, 0)
        known = await found(world)
        assert (known.quarantined, known.kinds.total()) == (1, 0)
        assert key in await world.objects()
        # Changed since, it is news, be it as long as before.
        await put(world, key, b"ours")
        assert kinds(await found(world)) == {key: Kind.UNOWNED}


async def test_what_is_missing_is_fetched_from_where_it_is_now(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        await world.run()
        lost = min(world.truth())
        await delete(world, lost)
        # The site has moved it since it was stored.
        await world.rows(
            "UPDATE draenei_content.wallpapers SET pending_url = url,"
            " url = 'http://gone.example/full/ab/old.jpg' WHERE s3_key = $1",
            lost,
        )
        assert (await found(world, repair=True)).left == 0
        assert (await world.run("again")).images_uploaded == 1
        assert await world.objects() == world.truth()


async def test_a_bucket_that_is_not_theirs_is_not_filled_again_by_mistake(
    open_world: OpenWorld, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.stages.verify.SAMPLED_ROWS", 4)
    async with open_world(small(small_images, 6)) as world:
        await world.run()
        for key in sorted(world.truth())[:3]:
            await delete(world, key)
        with pytest.raises(Refusal, match="Check BUCKET_NAME; --refill"):
            await found(world, repair=True)
        assert (await found(world)).kinds[Kind.MISSING] == 3
        refilled = await run_verify(world.runtime, deep=False, repair=True, refill=True)
        assert (refilled.repairs[Repair.REQUEUED], refilled.left) == (3, 0)


async def test_what_only_a_store_without_checksums_says_is_not_believed(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        await world.run()
        key = min(world.truth())
        await unstore(world, key)
        options = VerifyOptions(deep=False, repair=True, readers=2, trusts_checksums=False)
        findings = await verify(
            catalog=world.runtime.catalog.verification,
            store=world.runtime.store,
            options=options,
            progress=SilentProgress(),
        )
        assert findings.repairs == {Repair.REQUEUED: 1}
        assert (await world.run("again")).images_adopted == 1


async def test_a_repair_takes_no_try_back_of_what_is_not_given_up(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        await world.run()
        key = min(world.truth())
        await unstore(world, key)
        await put(world, key, b"another object")
        await world.rows("UPDATE draenei_content.transfers SET attempts = 3, run_attempts = 1")
        assert (await found(world, repair=True)).repairs == {Repair.REQUEUED: 1}
        (row,) = await world.rows("SELECT attempts, run_attempts FROM draenei_content.transfers")
        assert tuple(row) == (3, 1)


async def claim_of_an_unstored_row(world: World) -> Claim:
    """Let a worker hold an image whose object is there and whose row does not say so."""
    await world.run()
    await unstore(world, min(world.truth()))
    audit_id = await world.value("SELECT max(id) FROM draenei_content.run_audit")
    (claim,) = await world.runtime.catalog.transfers.claim(audit_id, 10)
    return claim


async def test_what_a_dead_worker_held_is_adopted_too(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        claim = await claim_of_an_unstored_row(world)
        await world.rows(
            "UPDATE draenei_content.transfers SET lease_until = now() - interval '1 s'"
        )
        assert (await found(world, repair=True)).repairs == {Repair.ADOPTED: 1}
        assert await world.runtime.catalog.transfers.heartbeat([claim]) == set()


async def test_what_a_worker_holds_is_no_difference(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        claim = await claim_of_an_unstored_row(world)
        for repair in (False, True):
            findings = await found(world, repair=repair)
            assert (findings.in_progress, findings.kinds.total()) == (1, 0)
        assert await world.runtime.catalog.transfers.heartbeat([claim])


async def test_what_the_original_stored_is_there_and_proves_nothing(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        await world.run()
        key = min(world.truth())
        await world.rows(
            "UPDATE draenei_content.wallpapers SET object_sha256 = NULL, object_bytes = NULL,"
            " stored_at = NULL WHERE s3_key = $1",
            key,
        )
        findings = await found(world, deep=True)
        assert (findings.matched, findings.unproven, findings.left) == (2, 1, 0)
        await delete(world, key)
        assert kinds(await found(world)) == {key: Kind.MISSING}


@pytest.mark.slow
async def test_a_hundred_thousand_objects_are_verified_in_flat_memory(database: Database) -> None:
    store, body = MemoryStore(), b"image"
    digest = hashlib.sha256(body)
    for number in range(MANY_OBJECTS):
        await store.put(
            f"wallpapers/{number:06}.jpg",
            [body],
            size_bytes=len(body),
            sha256=digest.digest(),
            content_type=ImageType.JPEG,
            token="",
        )
    async with database.session() as session:
        await session.connection.execute(
            "INSERT INTO draenei_content.wallpapers"
            " (wallhaven_id, url, s3_key, object_sha256, object_bytes, stored_at)"
            " SELECT lpad(n::text, 6, '0'), '', format('wallpapers/%s.jpg',"
            f" lpad(n::text, 6, '0')), '{digest.hexdigest()}', {len(body)}, now()"
            f" FROM generate_series(1, {MANY_OBJECTS}) AS n"
        )
    catalog, options = Verification(database), VerifyOptions(False, False, 4)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    findings = await verify(
        catalog=catalog, store=store, options=options, progress=SilentProgress()
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert findings.matched == MANY_OBJECTS - 1
    assert kinds(findings) == {
        "wallpapers/000000.jpg": Kind.UNOWNED,
        f"wallpapers/{MANY_OBJECTS}.jpg": Kind.MISSING,
    }
    # A page of each side, and the sorted keys of the store in memory, 8 bytes each.
    assert peak - before < 4 * 2**20
