"""Verify: compare the bucket with the tables, both ways, in constant memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

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
from collector.stages.mirror import stored_sha256

# A page of a listing has as many keys.
BATCH_ROWS = 1_000
# Enough rows to tell whether it is the right bucket; a smaller collection is soon fetched again.
SAMPLED_ROWS = 100
# A read that breaks off three times in a row will not succeed.
MAX_READ_ATTEMPTS = 3

Job = Callable[[], Awaitable[None]]
Pair = tuple[ListedObject | None, KeyedRow | None]


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """`deep` reads every object and compares its sha256; `repair` repairs what it can.

    `readers` objects are checked at once. Without `trusts_checksums`, no object is adopted by its
    checksum in the store. If most objects are missing, they are requeued only with `refill`.
    """

    deep: bool
    repair: bool
    readers: int
    trusts_checksums: bool = True
    refill: bool = False


async def verify(
    *, catalog: Verification, store: ObjectStore, options: VerifyOptions, progress: Progress
) -> Findings:
    """Compare all rows that name an object with all objects under KEY_PREFIX.

    Each apparent difference is checked again by itself before it counts: a listing alone proves
    nothing, and runs may be active. A repair requeues missing images, adopts objects whose true
    hash is known, and notes unknown objects in quarantine; it deletes and replaces nothing. Each
    repair is committed by itself, so what was done before an interruption stays done. Raises
    Refusal if a repair finds most objects missing without `refill`, or if the bucket does not list
    its keys in byte order.
    """
    return await _Verify(catalog, store, options, progress).run()


@dataclass
class _Verify:
    catalog: Verification
    store: ObjectStore
    options: VerifyOptions
    progress: Progress
    findings: Findings = field(default_factory=Findings)

    async def run(self) -> Findings:
        if self.options.repair:
            await self._require_right_bucket()
            # Only rows in the backlog can be adopted.
            await self.catalog.enlist()
        self.progress.start("objects", None)
        # No buffer: the walk waits for the readers, so jobs do not pile up.
        send, receive = anyio.create_memory_object_stream[Job](0)
        async with task_group() as readers:
            for _ in range(self.options.readers):
                readers.start_soon(_do_all, receive.clone())
            receive.close()
            async with send:
                await self._walk(send)
        self.progress.finish("objects")
        return self.findings

    async def _require_right_bucket(self) -> None:
        rows = await self.catalog.keyed_rows("", 0, SAMPLED_ROWS)
        if self.options.refill or len(rows) < SAMPLED_ROWS:
            return
        missing = 0
        for row in rows:
            missing += await self.store.head(row.s3_key) is None
        if missing > SAMPLED_ROWS / 2:
            raise Refusal(
                Edge.UPLOAD,
                f"{missing} of the first {SAMPLED_ROWS} objects are missing, so nothing was"
                " repaired. Check BUCKET_NAME; --refill fetches all of them again",
            )

    async def _walk(self, jobs: ObjectSendStream[Job]) -> None:
        strays: list[ListedObject] = []
        async for found, row in paired(self._objects(), self._rows()):
            if found is None and row is not None:
                await jobs.send(partial(self._check, row))
            elif found is not None and row is None:
                strays.append(found)
            elif found is not None and row is not None:
                await self._compare(found, row, jobs)
            if len(strays) == BATCH_ROWS:
                await jobs.send(partial(self._check_strays, strays))
                strays = []
        if strays:
            await jobs.send(partial(self._check_strays, strays))

    async def _objects(self) -> AsyncIterator[ListedObject]:
        async for key, size_bytes in self.store.keys(KEY_PREFIX):
            self.findings.objects += 1
            self.findings.bytes += size_bytes
            self.progress.advance("objects", 1, size_bytes)
            yield ListedObject(key, size_bytes)

    async def _rows(self) -> AsyncIterator[KeyedRow]:
        last_key, last_id = "", 0
        while rows := await self.catalog.keyed_rows(last_key, last_id, BATCH_ROWS):
            for row in rows:
                self.findings.rows += 1
                yield row
            last_key, last_id = rows[-1].s3_key, rows[-1].wallpaper_id

    async def _compare(
        self, found: ListedObject, row: KeyedRow, jobs: ObjectSendStream[Job]
    ) -> None:
        if row.object_bytes is None:
            self.findings.unproven += 1
        elif row.object_bytes != found.size_bytes:
            await jobs.send(partial(self._check, row))
        elif self.options.deep:
            await jobs.send(partial(self._read, row))
        else:
            self.findings.matched += 1

    async def _check(self, row: KeyedRow) -> None:
        """Ask the store for the object of one row."""
        try:
            info = await self.store.head(row.s3_key)
        except ItemError as error:
            self.findings.add(_difference(Kind.UNREADABLE, row, error.reason))
            return
        if info is None:
            await self._differs(Kind.MISSING, row, None, "the store has nothing under this key")
        elif row.object_bytes is None:
            self.findings.unproven += 1
        elif row.object_bytes != info.size_bytes:
            detail = f"the row says {row.object_bytes} bytes, the object has {info.size_bytes}"
            await self._differs(Kind.SIZE_DIFFERS, row, info, detail)
        elif self.options.deep:
            await self._read(row)
        else:
            self.findings.matched += 1

    async def _read(self, row: KeyedRow) -> None:
        """Compare the sha256 of the object's bytes with the row's."""
        reading = AsyncRetrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_attempt(MAX_READ_ATTEMPTS),
            reraise=True,
        )
        try:
            digest: bytes = await reading(stored_sha256, self.store, row.s3_key)
            info = await self.store.head(row.s3_key)
        except ItemError as error:
            if error.code is Code.NOT_FOUND:
                await self._differs(Kind.MISSING, row, None, error.reason)
            else:
                self.findings.add(_difference(Kind.UNREADABLE, row, error.reason))
            return
        sha256 = digest.hex()
        if sha256 == row.object_sha256:
            self.findings.matched += 1
            return
        detail = f"the row says sha256 {row.object_sha256}, the bytes have {sha256}"
        await self._differs(Kind.BYTES_DIFFER, row, info, detail)

    async def _differs(
        self, kind: Kind, row: KeyedRow, info: ObjectInfo | None, detail: str
    ) -> None:
        """Note and repair a difference, unless the row has changed since it was read."""
        present = (await self.catalog.present_rows([row.wallhaven_id])).get(row.wallhaven_id)
        if present is None or (present.s3_key, present.object_sha256) != (
            row.s3_key,
            row.object_sha256,
        ):
            self.findings.in_progress += 1
            return
        repair = None
        if self.options.repair:
            if info is not None:
                await self.catalog.quarantine(_quarantined(row.s3_key, info, detail))
            repair = Repair.REQUEUED if await self.catalog.unstore(row) else None
        self.findings.add(_difference(kind, row, detail, repair))

    async def _check_strays(self, strays: Sequence[ListedObject]) -> None:
        """Classify objects that no row named when the rows were read."""
        rows = await self.catalog.present_rows([id_of_key(stray.key) for stray in strays])
        quarantined = await self.catalog.quarantined([stray.key for stray in strays])
        for stray in strays:
            row = rows.get(id_of_key(stray.key))
            is_known = await self._is_unchanged(quarantined.get(stray.key), stray)
            match classify_unmatched(stray, row, quarantined=is_known):
                case Standing.MATCHED:
                    self.findings.matched += 1
                case Standing.QUARANTINED:
                    self.findings.quarantined += 1
                case Standing.IN_PROGRESS:
                    self.findings.in_progress += 1
                case Kind() as kind:
                    await self._stray_differs(kind, stray, row)

    async def _is_unchanged(self, known: QuarantinedObject | None, stray: ListedObject) -> bool:
        """Say whether the object is the one that was quarantined."""
        if known is None or known.size_bytes != stray.size_bytes:
            return False
        with suppress(ItemError):  # the store does not answer: treat it as new
            info = await self.store.head(stray.key)
            return info is not None and info.etag == known.etag
        return False

    async def _stray_differs(self, kind: Kind, stray: ListedObject, row: PresentRow | None) -> None:
        repair = None
        if self.options.repair:
            with suppress(ItemError):  # the store does not answer: not repaired
                repair = await self._repair(kind, stray, row)
        wallhaven_id = row.wallhaven_id if row and kind is not Kind.UNOWNED else None
        detail = f"{stray.size_bytes} bytes"
        self.findings.add(Difference(kind, stray.key, wallhaven_id, detail, repair))

    async def _repair(
        self, kind: Kind, stray: ListedObject, row: PresentRow | None
    ) -> Repair | None:
        info = await self.store.head(stray.key)
        if info is None:
            return None
        if row is None or kind is not Kind.UNCONFIRMED:
            await self.catalog.quarantine(_quarantined(stray.key, info, "it belongs to no row"))
            return Repair.QUARANTINED
        trusted = self.options.trusts_checksums
        sha256 = true_sha256(info, row.object_sha256) if trusted else None
        if sha256 is not None and info.size_bytes == row.file_size:
            adopted = await self.catalog.adopt(row, stray.key, sha256, info.size_bytes)
            return Repair.ADOPTED if adopted else None
        # The hash is unknown: the next transfer downloads the image and compares.
        return Repair.REQUEUED if await self.catalog.retry(row) else None


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
    """Yield each object with the row that names it, and None for a side without a match.

    Both sides must come in the byte order of their keys, which is also the order of Python's
    strings; only two items are held at once. Raises Refusal if the bucket lists its keys in
    another order: then a key that it has not listed yet would seem to be missing.
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
            f"the store lists {found.key!r:.100} after {last.key!r:.100}: without the order of S3"
            " it cannot be compared",
        )
    return found


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, ItemError) and error.fault is Fault.TRANSIENT
