"""What only MemoryStore has; what all stores promise is in the conformance suite."""

from __future__ import annotations

import hashlib

import pytest

from collector.core.errors import Code, ItemError
from collector.core.images import ImageType
from collector.ports import ObjectExists, Upload, UploadedPart, WriteUnknown
from collector.store.memory import MemoryStore

KEY = "wallpapers/abc.png"


def digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


async def put(store: MemoryStore, key: str, body: bytes) -> None:
    await store.put(
        key,
        [body],
        size_bytes=len(body),
        sha256=digest(body),
        content_type=ImageType.PNG,
        token="t",
    )


async def begin(store: MemoryStore, key: str = KEY) -> Upload:
    return await store.begin(key, content_type=ImageType.PNG, token="t")


async def send(store: MemoryStore, upload: Upload, number: int, body: bytes) -> UploadedPart:
    return await store.upload_part(
        upload, number, [body], size_bytes=len(body), sha256=digest(body)
    )


async def test_counts_writes_it_accepted() -> None:
    store = MemoryStore()
    await put(store, KEY, b"12345")
    with pytest.raises(ObjectExists):
        await put(store, KEY, b"12345")
    assert (store.counters.puts, store.counters.parts) == (1, 0)
    assert store.counters.held_bytes == store.counters.peak_held_bytes == 5


async def test_peak_outlives_an_abort() -> None:
    store = MemoryStore()
    upload = await begin(store)
    await send(store, upload, 1, b"12345")
    await send(store, upload, 2, b"123")
    await store.abort(upload)
    assert (store.counters.parts, store.counters.held_bytes) == (2, 0)
    assert store.counters.peak_held_bytes == 8


async def test_repeated_part_is_held_once() -> None:
    store = MemoryStore()
    upload = await begin(store)
    await send(store, upload, 1, b"12345")
    await send(store, upload, 1, b"123")
    assert store.counters.held_bytes == 3


async def test_completed_object_is_held_once() -> None:
    store = MemoryStore()
    upload = await begin(store)
    part = await send(store, upload, 1, b"12345")
    await send(store, upload, 2, b"left out")
    await store.complete(upload, [part])
    assert store.counters.held_bytes == 5
    assert store.counters.peak_held_bytes == 13


async def test_wrong_length_is_refused() -> None:
    store = MemoryStore()
    with pytest.raises(ItemError) as caught:
        await store.put(
            KEY,
            [b"123"],
            size_bytes=4,
            sha256=digest(b"123"),
            content_type=ImageType.PNG,
            token="t",
        )
    assert caught.value.code is Code.CHECKSUM_MISMATCH


async def test_complete_with_a_part_that_was_never_sent_fails() -> None:
    store = MemoryStore()
    upload = await begin(store)
    part = await send(store, upload, 1, b"12345")
    for parts in ([], [part, UploadedPart(2, "e", digest(b""))]):
        with pytest.raises(ItemError):
            await store.complete(upload, parts)
    assert await store.head(KEY) is None


async def test_complete_of_a_gone_upload_is_unknown() -> None:
    store = MemoryStore()
    upload = await begin(store)
    part = await send(store, upload, 1, b"12345")
    await store.complete(upload, [part])
    with pytest.raises(WriteUnknown):
        await store.complete(upload, [part])


async def test_uploads_of_one_key_and_token_differ() -> None:
    store = MemoryStore()
    first = await begin(store)
    await store.abort(first)
    assert await begin(store) != first
