"""A multipart upload that is either completed or aborted, whatever happens."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
from anyio.abc import TaskGroup

from collector.core.errors import CollectorError
from collector.core.images import ImageType
from collector.core.parts import Part
from collector.failpoints import Point, reach
from collector.flow import task_group
from collector.ports import ObjectStore, Upload, UploadedPart

logger = logging.getLogger(__name__)

# A clean exit after SIGTERM has 4 s in all; the janitor finds what cannot be aborted in 2.
ABORT_TIMEOUT_SECONDS = 2.0


class MultipartWriter:
    """Sends parts one at a time while the next one fills; the upload begins with the first."""

    def __init__(
        self,
        store: ObjectStore,
        begin: Callable[[], Awaitable[Upload]],
        journal: Callable[[str], Awaitable[None]],
        tasks: TaskGroup,
    ) -> None:
        self._store = store
        self._begin = begin
        self._journal = journal
        self._tasks = tasks
        self._sent = anyio.Event()
        self._sent.set()
        self._parts: list[UploadedPart] = []
        self.upload: Upload | None = None
        self.completed = False

    async def write(self, part: Part) -> None:
        """Send `part` once the previous one is stored; returns when sending begins."""
        if self.upload is None:
            self.upload = await self._begin()
            reach(Point.UPLOAD_BEGUN)
            await self._journal(self.upload.upload_id)
            reach(Point.UPLOAD_NOTED)
        await self.sent()
        self._sent = anyio.Event()
        self._tasks.start_soon(self._send, self.upload, part)

    async def sent(self) -> None:
        """Wait until no part is being sent."""
        await self._sent.wait()

    async def complete(self, before_write: Callable[[], None]) -> str:
        """Make the object visible and return its composite checksum, `sha256:<base64>-<parts>`.

        The upload is aborted at the end unless the caller sets `completed`; an abort does not
        change an object that exists. Raises ObjectExists, WriteUnknown.
        """
        await self.sent()
        if self.upload is None:
            raise ValueError("no part was written")
        reach(Point.PARTS_STORED)
        before_write()
        await self._store.complete(self.upload, self._parts)
        reach(Point.WRITTEN)
        return self.composite_checksum

    @property
    def composite_checksum(self) -> str:
        """The checksum that the store should report: sha256 of the parts' sha256."""
        digest = hashlib.sha256(b"".join(part.sha256 for part in self._parts)).digest()
        return f"sha256:{base64.b64encode(digest).decode()}-{len(self._parts)}"

    async def _send(self, upload: Upload, part: Part) -> None:
        sha256 = hashlib.sha256()
        for chunk in part.chunks:
            sha256.update(chunk)
        self._parts.append(
            await self._store.upload_part(
                upload,
                part.number,
                part.chunks,
                size_bytes=part.size_bytes,
                sha256=sha256.digest(),
            )
        )
        reach(Point.PART_STORED)
        self._sent.set()


@asynccontextmanager
async def open_multipart(
    store: ObjectStore,
    key: str,
    *,
    content_type: ImageType,
    token: str,
    journal: Callable[[str], Awaitable[None]],
) -> AsyncIterator[MultipartWriter]:
    """Yield a writer for one object.

    `journal` commits the upload's id before any part is sent. On any exit without completion,
    cancellation included, parts in flight are joined and the upload is aborted within
    ABORT_TIMEOUT_SECONDS.
    """
    begin = partial(store.begin, key, content_type=content_type, token=token)
    writer: MultipartWriter | None = None
    try:
        async with task_group() as tasks:
            writer = MultipartWriter(store, begin, journal, tasks)
            yield writer
    finally:
        if writer is not None and writer.upload is not None and not writer.completed:
            await abort_upload(store, writer.upload)


async def abort_upload(store: ObjectStore, upload: Upload) -> None:
    """Abort, shielded from cancellation and bounded; never raises.

    An upload that cannot be aborted now stays in the journal: the next claim of its item, or the
    janitor, tries again.
    """
    with anyio.move_on_after(ABORT_TIMEOUT_SECONDS, shield=True) as scope:
        try:
            await store.abort(upload)
        except CollectorError as error:
            logger.warning("upload of %s not aborted, the janitor retries: %s", upload.key, error)
    if scope.cancelled_caught:
        logger.warning(
            "upload of %s not aborted, the janitor retries: no answer in time", upload.key
        )
