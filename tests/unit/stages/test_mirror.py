"""One image on its way: how much of it is taken in, and who is blamed when time is up."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import virtual_time

from collector.core.errors import Code, Edge, Fault, ItemError
from collector.core.image_validation import Validator
from collector.core.parts import PART_BYTES, Chunk
from collector.core.transfers import Claim
from collector.flow import ByteBudget
from collector.ports import Body, Reply, Upload, UploadedPart
from collector.stages.mirror import MirrorPorts, mirror_image
from collector.store.memory import MemoryStore

CHUNK_BYTES = PART_BYTES // 8


class Source:
    """The Http port: a body of zeros in chunks, of which it counts how much was taken."""

    status = 200

    def __init__(self, size_bytes: int, chunk_bytes: int) -> None:
        self.headers: Mapping[str, str] = {"Content-Length": str(size_bytes)}
        self._size_bytes = size_bytes
        self._chunk_bytes = chunk_bytes
        self.taken_bytes = 0
        self.max_bytes: int | None = None

    async def get(self, url: str, headers: Mapping[str, str]) -> Reply:
        raise NotImplementedError

    @asynccontextmanager
    async def open(self, url: str, *, max_bytes: int | None = None) -> AsyncIterator[Body]:
        self.max_bytes = max_bytes
        yield self

    async def chunks(self) -> AsyncIterator[Chunk]:
        zeros = bytes(self._chunk_bytes)
        while self.taken_bytes < self._size_bytes:
            chunk = zeros[: self._size_bytes - self.taken_bytes]
            self.taken_bytes += len(chunk)
            yield chunk


class StuckStore(MemoryStore):
    """A store that takes parts up to number `stuck_at`, which it never answers."""

    def __init__(self, stuck_at: int) -> None:
        super().__init__()
        self._stuck_at = stuck_at

    async def upload_part(
        self, upload: Upload, number: int, chunks: Sequence[Chunk], **known: Any
    ) -> UploadedPart:
        if number == self._stuck_at:
            await anyio.sleep_forever()
        return await super().upload_part(upload, number, chunks, **known)


def claim(size_bytes: int | None) -> Claim:
    return Claim(
        audit_id=1,
        wallpaper_id=1,
        owner=UUID(int=1),
        fence=1,
        attempt=1,
        is_own=True,
        wallhaven_id="aa0001",
        url="https://w.wallhaven.cc/full/aa/wallhaven-aa0001.jpg",
        file_type="image/jpeg",
        file_size=size_bytes,
        dimension_x=None,
        dimension_y=None,
        object_sha256=None,
        stale_upload_id=None,
    )


def ports(source: Source, store: MemoryStore) -> MirrorPorts:
    async def journal_upload(_: Claim, __: str) -> bool:
        return True

    return MirrorPorts(
        http=source,
        store=store,
        budget=ByteBudget(2 * PART_BYTES),
        require_lease=lambda _: None,
        journal_upload=journal_upload,
        max_image_bytes=10 * PART_BYTES,
        clock=anyio.current_time,
    )


@pytest.mark.parametrize("stuck_at", [1, 2])
@virtual_time
async def test_a_body_is_not_taken_beyond_the_part_behind_the_one_on_its_way(
    stuck_at: int,
) -> None:
    size_bytes = 4 * PART_BYTES + 1
    source = Source(size_bytes, CHUNK_BYTES)
    with pytest.raises(ItemError, match="not done in") as caught:
        await mirror_image(claim(size_bytes), ports(source, StuckStore(stuck_at)))
    assert (caught.value.code, caught.value.edge) == (Code.STORE_ERROR, Edge.UPLOAD)
    assert source.taken_bytes == (stuck_at + 1) * PART_BYTES
    assert source.max_bytes == size_bytes


@given(st.integers(PART_BYTES // 16, PART_BYTES // 2))
@virtual_time
async def test_chunks_that_cross_a_border_cost_one_chunk_more(chunk_bytes: int) -> None:
    size_bytes = 3 * PART_BYTES
    source = Source(size_bytes, chunk_bytes)
    with pytest.raises(ItemError):
        await mirror_image(claim(size_bytes), ports(source, StuckStore(1)))
    assert 0 <= source.taken_bytes - 2 * PART_BYTES < chunk_bytes


@virtual_time
async def test_a_body_without_a_told_size_may_have_what_the_budget_has() -> None:
    source = Source(2 * PART_BYTES + 1, CHUNK_BYTES)
    with pytest.raises(ItemError) as caught:
        await mirror_image(claim(None), ports(source, MemoryStore()))
    assert caught.value.code is Code.TOO_LARGE
    assert source.max_bytes == 2 * PART_BYTES


@pytest.mark.parametrize(("file_size", "is_here"), [(1000, True), (None, False)])
async def test_only_a_body_without_a_told_size_is_validated_in_a_thread(
    file_size: int | None, is_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def validate(_: Validator) -> bytes:
        threads.append(threading.get_ident())
        raise ItemError(Code.TRUNCATED, "seen", fault=Fault.TRANSIENT)

    monkeypatch.setattr(Validator, "validate", validate)
    with pytest.raises(ItemError, match="seen"):
        await mirror_image(claim(file_size), ports(Source(1000, CHUNK_BYTES), MemoryStore()))
    assert [it == threading.get_ident() for it in threads] == [is_here]
