"""Verify: the bucket against the tables, both ways, in memory that does not grow with them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
from anyio.abc import ObjectReceiveStream, ObjectSendStream
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

from collector.catalog import Verification
from collector.core.errors import Code, Edge, Fault, ItemError, Refusal
from collector.core.keys import KEY_PREFIX
from collector.core.maintenance import (
    Difference,
    Findings,
    KeyedRow,
    Kind,
    ListedObject,
    PresentRow,
    QuarantinedObject,
    Repair,
    Standing,
    classify_unmatched,
    id_of_key,
)
from collector.flow import task_group
from collector.ports import ObjectInfo, ObjectStore, Progress, true_sha256

# A listing's page has as many keys.
BATCH_ROWS = 1_000
# So many rows tell whether a bucket is theirs; a smaller collection is soon fetched again.
SAMPLED_ROWS = 100
# One that breaks off three times in a row does so for a reason.
MAX_READ_ATTEMPTS = 3

Job = Callable[[], Awaitable[None]]
T = TypeVar("T")

Pair = tuple[ListedObject | None, KeyedRow | None]


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """`deep` reads every object and compares its sha256; `repair` puts right what can be.

    `readers` objects are looked at, one by one, at once. Without `trusts_checksums` nothing is
    adopted by what the store says of it. Where most objects are missing, only `refill` sends for
    them again.
    """

    deep: bool
    repair: bool
    readers: int
    trusts_checksums: bool = True
    refill: bool = False


async def verify(
    *, catalog: Verification, store: ObjectStore, options: VerifyOptions, progress: Progress
) -> Findings:
    """Compare all rows that name an object with all objects under our prefix.

    Whatever seems to differ is looked at once more, on its own, before it counts: a listing alone
    proves nothing, and runs may be at work meanwhile. A repair sends for missing images again,
    adopts objects whose true hash is known, and notes strange ones in quarantine; it deletes and
    replaces nothing. Each is committed by itself: interrupted, it has done what it has done.
    """
    return await _Verify(catalog, store, options, progress).run()


class _Verify:
    def __init__(
        self,
        catalog: Verification,
        store: ObjectStore,
        options: VerifyOptions,
        progress: Progress,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._options = options
        self._progress = progress
        self._findings = Findings()

    async def run(self) -> Findings:
        if self._options.repair:
            await self._require_its_bucket()
            # A row that is not in the backlog could not be adopted.
            await self._catalog.enlist()
        self._progress.start("objects", None)
        # No buffer: the walk waits for who looks closer, so that nothing piles up.
        send, receive = anyio.create_memory_object_stream[Job](0)
        async with task_group() as readers:
            for _ in range(self._options.readers):
                readers.start_soon(_do_all, receive.clone())
            receive.close()
            async with send:
                await self._walk(send)
        self._progress.finish("objects")
        return self._findings

    async def _require_its_bucket(self) -> None:
        """Raise Refusal where most objects are missing: the bucket may be another one."""
        rows = await self._catalog.keyed_rows("", 0, SAMPLED_ROWS)
        if self._options.refill or len(rows) < SAMPLED_ROWS:
            return
        missing = 0
        for row in rows:
            missing += await self._store.head(row.s3_key) is None
        if missing > SAMPLED_ROWS / 2:
            raise Refusal(
                Edge.UPLOAD,
                f"{missing} of the first {SAMPLED_ROWS} objects are missing: is it the right"
                " bucket? --refill fetches all of them again",
            )

    async def _walk(self, jobs: ObjectSendStream[Job]) -> None:
        strays: list[ListedObject] = []
        async for found, row in paired(self._objects(), self._rows()):
            if found is None and row is not None:
                await jobs.send(partial(self._look_at, row))
            elif found is not None and row is None:
                strays.append(found)
            elif found is not None and row is not None:
                await self._compare(found, row, jobs)
            if len(strays) == BATCH_ROWS:
                await jobs.send(partial(self._look_up, strays))
                strays = []
        if strays:
            await jobs.send(partial(self._look_up, strays))

    async def _objects(self) -> AsyncIterator[ListedObject]:
        async for key, size_bytes in self._store.keys(KEY_PREFIX):
            self._findings.objects += 1
            self._findings.bytes += size_bytes
            self._progress.advance("objects", 1, size_bytes)
            yield ListedObject(key, size_bytes)

    async def _rows(self) -> AsyncIterator[KeyedRow]:
        behind_key, behind_row = "", 0
        while rows := await self._catalog.keyed_rows(behind_key, behind_row, BATCH_ROWS):
            for row in rows:
                self._findings.rows += 1
                yield row
            behind_key, behind_row = rows[-1].s3_key, rows[-1].wallpaper_id

    async def _compare(
        self, found: ListedObject, row: KeyedRow, jobs: ObjectSendStream[Job]
    ) -> None:
        if row.object_bytes is None:
            self._findings.unproven += 1
        elif row.object_bytes != found.size_bytes:
            await jobs.send(partial(self._look_at, row))
        elif self._options.deep:
            await jobs.send(partial(self._read, row))
        else:
            self._findings.matched += 1

    async def _look_at(self, row: KeyedRow) -> None:
        """Ask for the object of one row; it may be there, or the row another one by now."""
        try:
            info = await self._store.head(row.s3_key)
        except ItemError as error:
            self._findings.add(_difference(Kind.UNREADABLE, row, error.reason))
            return
        if info is None:
            await self._differs(Kind.MISSING, row, None, "the store has nothing under this key")
        elif row.object_bytes is None:
            self._findings.unproven += 1
        elif row.object_bytes != info.size_bytes:
            detail = f"the row says {row.object_bytes} bytes, the object has {info.size_bytes}"
            await self._differs(Kind.SIZE_DIFFERS, row, info, detail)
        elif self._options.deep:
            await self._read(row)
        else:
            self._findings.matched += 1

    async def _read(self, row: KeyedRow) -> None:
        """Compare the object's bytes with the row's sha256."""
        try:
            sha256 = await self._sha256(row.s3_key)
            info = await self._store.head(row.s3_key)
        except ItemError as error:
            if error.code is Code.NOT_FOUND:
                await self._differs(Kind.MISSING, row, None, error.reason)
            else:
                self._findings.add(_difference(Kind.UNREADABLE, row, error.reason))
            return
        if sha256 == row.object_sha256:
            self._findings.matched += 1
            return
        detail = f"the row says sha256 {row.object_sha256}, the bytes have {sha256}"
        await self._differs(Kind.BYTES_DIFFER, row, info, detail)

    async def _sha256(self, key: str) -> str:
        passing, stop = retry_if_exception(_may_pass), stop_after_attempt(MAX_READ_ATTEMPTS)
        reading = AsyncRetrying(retry=passing, stop=stop, reraise=True)
        return await reading(self._sha256_once, key)

    async def _sha256_once(self, key: str) -> str:
        digest = hashlib.sha256()
        async with self._store.read(key) as chunks:
            async for chunk in chunks:
                digest.update(chunk)
        return digest.hexdigest()

    async def _differs(
        self, kind: Kind, row: KeyedRow, info: ObjectInfo | None, detail: str
    ) -> None:
        """Note a difference, unless the row has changed since it was read; repair it."""
        present = (await self._catalog.present_rows([row.wallhaven_id])).get(row.wallhaven_id)
        if present is None or (present.s3_key, present.object_sha256) != (
            row.s3_key,
            row.object_sha256,
        ):
            self._findings.in_hand += 1
            return
        repair = None
        if self._options.repair:
            if info is not None:
                await self._catalog.quarantine(_quarantined(row.s3_key, info, detail))
            repair = Repair.REQUEUED if await self._catalog.unstore(row) else None
        self._findings.add(_difference(kind, row, detail, repair))

    async def _look_up(self, strays: Sequence[ListedObject]) -> None:
        """Classify objects that no row named when it was read."""
        rows = await self._catalog.present_rows([id_of_key(stray.key) for stray in strays])
        quarantined = await self._catalog.quarantined([stray.key for stray in strays])
        for stray in strays:
            row = rows.get(id_of_key(stray.key))
            is_known = await self._is_still(quarantined.get(stray.key), stray)
            match classify_unmatched(stray, row, quarantined=is_known):
                case Standing.MATCHED:
                    self._findings.matched += 1
                case Standing.QUARANTINED:
                    self._findings.quarantined += 1
                case Standing.IN_HAND:
                    self._findings.in_hand += 1
                case Kind() as kind:
                    await self._found_stray(kind, stray, row)

    async def _is_still(self, known: QuarantinedObject | None, stray: ListedObject) -> bool:
        """Say whether an object is the one that was put into quarantine."""
        if known is None or known.size_bytes != stray.size_bytes:
            return False
        with suppress(ItemError):  # of the store: then it is news, and looked at again
            info = await self._store.head(stray.key)
            return info is not None and info.etag == known.etag
        return False

    async def _found_stray(self, kind: Kind, stray: ListedObject, row: PresentRow | None) -> None:
        repair = None
        if self._options.repair:
            with suppress(ItemError):  # of the store: then nothing was done about it
                repair = await self._repaired(kind, stray, row)
        wallhaven_id = row.wallhaven_id if row and kind is not Kind.UNOWNED else None
        detail = f"{stray.size_bytes} bytes"
        self._findings.add(Difference(kind, stray.key, wallhaven_id, detail, repair))

    async def _repaired(
        self, kind: Kind, stray: ListedObject, row: PresentRow | None
    ) -> Repair | None:
        info = await self._store.head(stray.key)
        if info is None:
            return None
        if row is None or kind is not Kind.UNCONFIRMED:
            await self._catalog.quarantine(_quarantined(stray.key, info, "it belongs to no row"))
            return Repair.QUARANTINED
        trusted = self._options.trusts_checksums
        sha256 = true_sha256(info, row.object_sha256) if trusted else None
        if sha256 is not None and info.size_bytes == row.file_size:
            adopted = await self._catalog.adopt(row, stray.key, sha256, info.size_bytes)
            return Repair.ADOPTED if adopted else None
        # Only its source can tell what it is: the next transfer fetches that and compares.
        return Repair.REQUEUED if await self._catalog.retry(row) else None


async def _do_all(jobs: ObjectReceiveStream[Job]) -> None:
    async with jobs:
        async for job in jobs:
            await job()


def _difference(kind: Kind, row: KeyedRow, detail: str, repair: Repair | None = None) -> Difference:
    return Difference(kind, row.s3_key, row.wallhaven_id, detail, repair)


def _quarantined(key: str, info: ObjectInfo, reason: str) -> QuarantinedObject:
    return QuarantinedObject(key, info.etag, info.size_bytes, reason)


async def paired(
    objects: AsyncIterator[ListedObject], rows: AsyncIterator[KeyedRow]
) -> AsyncIterator[Pair]:
    """Yield each object with the row that names it, and what is left on either side with None.

    Both sides come in the byte order of their keys, which is the order of Python's strings, too;
    two items are held, however many there are. Raises Refusal where the bucket lists its keys in
    another order: then nothing that it does not list could be said to be missing.
    """
    found, row = await _next_object(objects, None), await anext(rows, None)
    while found is not None or row is not None:
        if row is None or (found is not None and found.key < row.s3_key):
            yield found, None
            found = await _next_object(objects, found)
        elif found is None or row.s3_key < found.key:
            yield None, row
            row = await anext(rows, None)
        else:
            yield found, row
            found, row = await _next_object(objects, found), await anext(rows, None)


async def _next_object(
    objects: AsyncIterator[ListedObject], last: ListedObject | None
) -> ListedObject | None:
    found = await anext(objects, None)
    if found is not None and last is not None and found.key <= last.key:
        raise Refusal(
            Edge.UPLOAD,
            f"the store lists {found.key!r:.100} behind {last.key!r:.100}: without the order of S3"
            " it cannot be compared",
        )
    return found


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, ItemError) and error.fault is Fault.TRANSIENT
