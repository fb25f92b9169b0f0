"""The conformance suite: what every ObjectStore promises, asked of each."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from uuid import uuid4

import anyio
import pytest

from collector.core.errors import Code, Edge, Fault, ItemError, Outage
from collector.core.images import ImageType
from collector.core.parts import Chunk
from collector.local import LocalS3
from collector.ports import ObjectExists, ObjectStore, Upload, UploadedPart
from collector.store import S3Options, S3Store, open_s3
from collector.store.memory import MemoryStore
from collector.store.probe import probe

# The least size of every part but the last, in S3.
MIN_PART_BYTES = 5 * 1024 * 1024
# No call of these tests takes a tenth of this; it bounds them all.
READ_SECONDS = 20.0
RACERS = 16
BUCKET = "conformance"


def s3_options(server: LocalS3, bucket: str = BUCKET) -> S3Options:
    return S3Options(
        bucket=bucket,
        endpoint_url=server.endpoint_url,
        region=server.region,
        access_key=server.access_key,
        secret_key=server.secret_key,
        connections=RACERS,
        read_seconds=READ_SECONDS,
    )


@pytest.fixture(params=["memory", "s3", "s3 that looks first"])
async def store(request: pytest.FixtureRequest, s3_server: LocalS3) -> AsyncIterator[ObjectStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    async with open_s3(s3_options(s3_server)) as opened:
        await opened.create_bucket()
        await opened.check_bucket()
        yield opened if request.param == "s3" else opened.looking_first()


@pytest.fixture
def prefix() -> str:
    return f"wallpapers/{uuid4().hex}/"


def sha256(chunks: Sequence[Chunk]) -> bytes:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.digest()


async def put(
    store: ObjectStore,
    key: str,
    chunks: Sequence[Chunk],
    *,
    token: str = "token",
    content_type: ImageType = ImageType.JPEG,
    digest: bytes | None = None,
) -> None:
    await store.put(
        key,
        chunks,
        size_bytes=sum(map(len, chunks)),
        sha256=digest or sha256(chunks),
        content_type=content_type,
        token=token,
    )


async def send_part(
    store: ObjectStore, upload: Upload, number: int, chunks: Sequence[Chunk]
) -> UploadedPart:
    size_bytes = sum(map(len, chunks))
    return await store.upload_part(
        upload, number, chunks, size_bytes=size_bytes, sha256=sha256(chunks)
    )


async def begin(store: ObjectStore, key: str, token: str = "token") -> Upload:
    return await store.begin(key, content_type=ImageType.PNG, token=token)


async def read(store: ObjectStore, key: str) -> bytes:
    async with store.read(key) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def uploads(store: ObjectStore, prefix: str) -> list[Upload]:
    return [upload async for upload in store.uploads(prefix)]


async def listed(store: ObjectStore, prefix: str) -> list[tuple[str, int]]:
    return sorted([item async for item in store.keys(prefix)])


def part_chunks(letter: bytes, size_bytes: int = MIN_PART_BYTES) -> list[Chunk]:
    half = size_bytes // 2
    body = letter * size_bytes
    return [body[:half], memoryview(body)[half:]]


async def test_head_of_nothing_is_none(store: ObjectStore, prefix: str) -> None:
    assert await store.head(f"{prefix}a.jpg") is None


async def test_read_of_nothing_is_not_found(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(ItemError) as caught:
        await read(store, f"{prefix}a.jpg")
    assert (caught.value.code, caught.value.fault) == (Code.NOT_FOUND, Fault.PERMANENT)


@pytest.mark.parametrize("image_type", list(ImageType))
async def test_put_shows_in_head_and_read(
    store: ObjectStore, prefix: str, image_type: ImageType
) -> None:
    key = f"{prefix}a.{image_type.extension}"
    body = bytes(range(256)) * 1000
    chunks: list[Chunk] = [body[:1], memoryview(body)[1:70_000], b"", body[70_000:]]
    await put(store, key, chunks, token="ours", content_type=image_type)
    info = await store.head(key)
    assert info is not None
    assert info.size_bytes == len(body)
    assert info.sha256 == hashlib.sha256(body).hexdigest()
    assert info.token == "ours"
    digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
    assert info.checksum == f"sha256:{digest}"
    assert info.etag
    assert await read(store, key) == body


async def test_empty_object(store: ObjectStore, prefix: str) -> None:
    key = f"{prefix}a.jpg"
    await put(store, key, [])
    info = await store.head(key)
    assert info is not None
    assert info.size_bytes == 0
    assert await read(store, key) == b""


async def test_put_never_replaces(store: ObjectStore, prefix: str) -> None:
    key = f"{prefix}a.jpg"
    await put(store, key, [b"first"])
    with pytest.raises(ObjectExists) as caught:
        await put(store, key, [b"second"])
    assert caught.value.key == key
    assert await read(store, key) == b"first"


async def test_racing_puts_have_one_winner(store: ObjectStore, prefix: str) -> None:
    key = f"{prefix}a.jpg"
    winners: list[int] = []
    losers: list[int] = []

    async def race(number: int) -> None:
        try:
            await put(store, key, [f"{number:1000}".encode()], token=str(number))
        except ObjectExists:
            losers.append(number)
        else:
            winners.append(number)

    async with anyio.create_task_group() as racers:
        for number in range(RACERS):
            racers.start_soon(race, number)
    assert (len(winners), len(losers)) == (1, RACERS - 1)
    info = await store.head(key)
    assert info is not None
    assert info.token == str(winners[0])
    assert int(await read(store, key)) == winners[0]


async def test_wrong_checksum_is_refused(store: ObjectStore, prefix: str) -> None:
    key = f"{prefix}a.jpg"
    with pytest.raises(ItemError) as caught:
        await put(store, key, [b"body"], digest=sha256([b"other"]))
    assert (caught.value.code, caught.value.fault) == (Code.CHECKSUM_MISMATCH, Fault.TRANSIENT)
    assert await store.head(key) is None
    assert await listed(store, prefix) == []


async def test_wrong_checksum_of_a_part_is_refused(store: ObjectStore, prefix: str) -> None:
    upload = await begin(store, f"{prefix}a.png")
    with pytest.raises(ItemError) as caught:
        await store.upload_part(upload, 1, [b"body"], size_bytes=4, sha256=sha256([b"other"]))
    assert caught.value.code is Code.CHECKSUM_MISMATCH
    await store.abort(upload)


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
async def test_multipart_is_joined_by_number(
    store: ObjectStore, prefix: str, order: Sequence[int]
) -> None:
    key = f"{prefix}a.png"
    bodies = {1: part_chunks(b"a"), 2: part_chunks(b"b"), 3: part_chunks(b"c", 7)}
    upload = await begin(store, key, token="ours")
    parts = [await send_part(store, upload, number, bodies[number]) for number in order]
    assert await store.head(key) is None
    await store.complete(upload, parts)
    info = await store.head(key)
    assert info is not None
    assert info.size_bytes == 2 * MIN_PART_BYTES + 7
    assert (info.token, info.sha256) == ("ours", None)
    digests = b"".join(sha256(bodies[number]) for number in (1, 2, 3))
    composite = base64.b64encode(hashlib.sha256(digests).digest()).decode()
    assert info.checksum == f"sha256:{composite}-3"
    whole = b"".join(bytes(chunk) for number in (1, 2, 3) for chunk in bodies[number])
    assert await read(store, key) == whole
    assert await uploads(store, prefix) == []


async def test_parts_may_go_side_by_side(store: ObjectStore, prefix: str) -> None:
    key = f"{prefix}a.png"
    upload = await begin(store, key)
    parts: list[UploadedPart] = []

    async def send(number: int, letter: bytes) -> None:
        parts.append(await send_part(store, upload, number, part_chunks(letter)))

    async with anyio.create_task_group() as senders:
        for number, letter in enumerate((b"a", b"b", b"c"), start=1):
            senders.start_soon(send, number, letter)
    await store.complete(upload, parts)
    expected = hashlib.sha256(b"".join(letter * MIN_PART_BYTES for letter in (b"a", b"b", b"c")))
    assert hashlib.sha256(await read(store, key)).digest() == expected.digest()


async def test_repeated_part_replaces_the_first(store: ObjectStore, prefix: str) -> None:
    key = f"{prefix}a.png"
    upload = await begin(store, key)
    await send_part(store, upload, 1, [b"first"])
    second = await send_part(store, upload, 1, [b"second"])
    await store.complete(upload, [second])
    assert await read(store, key) == b"second"


async def test_complete_never_replaces(store: ObjectStore, prefix: str) -> None:
    key = f"{prefix}a.png"
    upload = await begin(store, key)
    part = await send_part(store, upload, 1, [b"second"])
    await put(store, key, [b"first"])
    with pytest.raises(ObjectExists):
        await store.complete(upload, [part])
    assert await read(store, key) == b"first"
    await store.abort(upload)
    assert await uploads(store, prefix) == []
    assert await read(store, key) == b"first"


async def test_abort_leaves_nothing_and_may_be_repeated(store: ObjectStore, prefix: str) -> None:
    key = f"{prefix}a.png"
    upload = await begin(store, key)
    await send_part(store, upload, 1, part_chunks(b"a"))
    assert await uploads(store, prefix) == [upload]
    await store.abort(upload)
    await store.abort(upload)
    assert await uploads(store, prefix) == []
    assert await store.head(key) is None


async def test_part_after_abort_fails(store: ObjectStore, prefix: str) -> None:
    upload = await begin(store, f"{prefix}a.png")
    await store.abort(upload)
    with pytest.raises(ItemError) as caught:
        await send_part(store, upload, 1, [b"late"])
    assert caught.value.code is Code.STORE_ERROR
    assert await uploads(store, prefix) == []


async def test_keys_lists_objects_of_the_prefix_alone(store: ObjectStore, prefix: str) -> None:
    for number in range(5):
        await put(store, f"{prefix}{number}.jpg", [b"x" * number])
    await put(store, f"other-{prefix}a.jpg", [b"x"])
    assert await listed(store, prefix) == [(f"{prefix}{number}.jpg", number) for number in range(5)]


async def test_uploads_lists_uploads_of_the_prefix_alone(store: ObjectStore, prefix: str) -> None:
    begun = [await begin(store, f"{prefix}{number}.png") for number in range(3)]
    again = await begin(store, f"{prefix}0.png")
    other = await begin(store, f"other-{prefix}a.png")
    found = await uploads(store, prefix)
    assert sorted(found, key=str) == sorted([*begun, again], key=str)
    for upload in [*begun, again, other]:
        await store.abort(upload)


async def test_cancelled_put_leaves_nothing_or_the_whole(store: ObjectStore, prefix: str) -> None:
    body = b"x" * 4_000_000
    for number in range(5):
        key = f"{prefix}{number}.jpg"
        with anyio.move_on_after(0.002 * number):
            await put(store, key, [body])
        info = await store.head(key)
        assert info is None or info.size_bytes == len(body)
        if info is not None:
            assert await read(store, key) == body


async def test_probe_finds_every_capability_and_repeats(store: ObjectStore, prefix: str) -> None:
    first = await probe(store)
    assert first.missing == ()
    assert await probe(store) == first
    assert [key for key, _ in await listed(store, ".probe/")] == [".probe/conditional"]
    assert str(first).count("yes") == 6


async def test_keys_reads_on_after_a_page(
    s3_server: LocalS3, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_s3(s3_options(s3_server)) as store:
        await store.create_bucket()
        call = store._control.call
        pages: list[str] = []

        async def call_paged(operation: str, **parameters: object) -> dict[str, object]:
            pages.append(operation)
            return await call(operation, **parameters, MaxKeys=2)

        for number in range(5):
            await put(store, f"{prefix}{number}.jpg", [b"x"])
        monkeypatch.setattr(store._control, "call", call_paged)
        expected = [(f"{prefix}{number}.jpg", 1) for number in range(5)]
        assert await listed(store, prefix) == expected
        assert pages == ["list_objects_v2"] * 3


async def test_create_bucket_may_be_repeated(s3_server: LocalS3) -> None:
    async with open_s3(s3_options(s3_server, "twice")) as store:
        await store.create_bucket()
        await store.create_bucket()
        await store.check_bucket()


async def test_missing_bucket_is_an_outage(s3_server: LocalS3) -> None:
    """Of the check alone: this server makes a bucket of its own accord at the first put."""
    async with open_s3(s3_options(s3_server, "nowhere")) as store:
        with pytest.raises(Outage, match="bucket nowhere does not exist: create it"):
            await store.check_bucket()


@pytest.mark.parametrize(
    ("access_key", "secret_key", "remedy"),
    [
        ("unknown", None, "check AWS_ACCESS_KEY_ID"),
        (None, "wrong", "check AWS_SECRET_ACCESS_KEY"),
    ],
)
async def test_wrong_credentials_are_an_outage(
    s3_server: LocalS3, access_key: str | None, secret_key: str | None, remedy: str
) -> None:
    options = replace(
        s3_options(s3_server),
        access_key=access_key or s3_server.access_key,
        secret_key=secret_key or s3_server.secret_key,
    )
    async with open_s3(options) as store:
        with pytest.raises(Outage, match=remedy):
            await store.check_bucket()
        with pytest.raises(Outage, match=remedy) as caught:
            await put(store, "a.jpg", [b"x"])
    assert caught.value.edge is Edge.UPLOAD


@pytest.mark.parametrize("kind", [MemoryStore, S3Store])
def test_no_store_can_delete(kind: type[ObjectStore]) -> None:
    assert not [name for name in dir(kind) if "delete" in name or "remove" in name]
