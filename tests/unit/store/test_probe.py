"""The probe against stores that each lack one thing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from collector.core.errors import Code, Edge, Fault, ItemError
from collector.ports import ObjectExists, ObjectInfo, Upload, UploadedPart
from collector.store.memory import MemoryStore
from collector.store.probe import probe


class Overwrites(MemoryStore):
    async def put(self, *args: Any, **options: Any) -> None:
        try:
            await super().put(*args, **options)
        except ObjectExists:
            return


class CompletesOnto(MemoryStore):
    async def complete(self, upload: Upload, parts: Sequence[UploadedPart]) -> None:
        await self.abort(upload)


class KeepsWrongBytes(MemoryStore):
    async def put(self, *args: Any, **options: Any) -> None:
        try:
            await super().put(*args, **options)
        except ItemError:
            return


class KeptWrongBytesBefore(MemoryStore):
    async def put(self, key: str, *args: Any, **options: Any) -> None:
        if key == ".probe/checksum":
            raise ObjectExists(key)
        await super().put(key, *args, **options)


class Forgets(MemoryStore):
    async def head(self, key: str) -> ObjectInfo | None:
        info = await super().head(key)
        return replace(info, token=None, checksum="crc32:AAAA") if info else None


class NeverAborts(MemoryStore):
    async def abort(self, upload: Upload) -> None:
        return


@pytest.mark.parametrize(
    ("store", "missing"),
    [
        (MemoryStore(), ()),
        (Overwrites(), ("conditional_put",)),
        (CompletesOnto(), ("conditional_complete",)),
        (KeepsWrongBytes(), ("checksums",)),
        (KeptWrongBytesBefore(), ("checksums",)),
        (Forgets(), ("metadata", "stored_checksum")),
        (NeverAborts(), ("aborts",)),
    ],
)
async def test_the_result_names_what_a_store_lacks(
    store: MemoryStore, missing: tuple[str, ...]
) -> None:
    found = await probe(store)
    assert found.missing == missing
    assert str(found).count("NO ") == len(missing)


async def test_upload_that_a_cancelled_probe_left_does_not_count() -> None:
    class LeftBehind(MemoryStore):
        async def uploads(self, prefix: str) -> AsyncIterator[Upload]:
            yield Upload(f"{prefix}conditional", "older")

    assert (await probe(LeftBehind())).missing == ()


async def test_a_store_that_fails_gives_no_result() -> None:
    class Fails(MemoryStore):
        async def put(self, *args: Any, **options: Any) -> None:
            raise ItemError(Code.STORE_ERROR, "busy", fault=Fault.TRANSIENT, edge=Edge.UPLOAD)

    with pytest.raises(ItemError, match="busy"):
        await probe(Fails())
