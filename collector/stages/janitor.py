"""Janitor: tidy up after processes that died and runs that are old, without touching what lives."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from functools import partial

import anyio

from collector.catalog import Janitor
from collector.core.errors import ItemError
from collector.core.keys import KEY_PREFIX, PROBE_PREFIX
from collector.core.maintenance import RunDetail, Swept, Trimmed
from collector.ports import ObjectStore, Upload

logger = logging.getLogger(__name__)

# A page of what one reads of either side.
BATCH_UPLOADS = 500
# Rows of one transaction: what waits for it, waits for milliseconds.
BATCH_ROWS = 2_000
# One upload that the store does not let go of must not keep the janitor from all the others.
ABORT_TIMEOUT_SECONDS = 30.0
# SeaweedFS shows only some of more than 1,000 uploads; those that hide come up once these are gone.
MAX_SWEEPS = 100


async def trim_old_runs(catalog: Janitor, keep_days: int) -> Trimmed:
    """Trim details of runs that ended more than `keep_days` days ago; 0 keeps all.

    Their audit rows stay as they are, and so does what open crawls, gaps of searches and audits of
    younger runs are made from. Batch by batch, each its own transaction: what was trimmed before an
    Outage or a cancellation stays trimmed, and the next call goes on. Safe beside runs that are
    under way.
    """
    if not keep_days:
        return Trimmed(0, dict.fromkeys(RunDetail, 0))
    runs = await _until_none(partial(catalog.mark_trimmed, keep_days, BATCH_ROWS))
    rows = {
        detail: await _until_none(partial(catalog.trim, detail, keep_days, BATCH_ROWS))
        for detail in RunDetail
    }
    return Trimmed(runs, rows)


async def _until_none(batch: Callable[[], Awaitable[int]]) -> int:
    total = 0
    while done := await batch():
        total += done
    return total


async def abort_stale_uploads(
    catalog: Janitor, store: ObjectStore, begun_before: datetime
) -> Swept:
    """Drop the multipart uploads that nobody will complete.

    Those are the ones noted for wallpapers that nobody has in hand, and those that the store says
    were begun before `begun_before`, unless a claim that lives has noted one. No upload is ever
    completed here, and no object deleted. Raises Outage(upload). Safe to repeat: what could not be
    dropped stays noted, or old.
    """
    noted = await _abort_noted(catalog, store)
    swept = await _sweep(catalog, store, begun_before)
    return Swept(noted.aborted + swept.aborted, noted.left + swept.left)


async def _abort_noted(catalog: Janitor, store: ObjectStore) -> Swept:
    aborted = left = behind_row = 0
    while batch := await catalog.noted_uploads(behind_row, BATCH_UPLOADS):
        for noted in batch:
            # Where the key is no longer known, the sweep will find the upload by its age.
            if noted.key is None or await _is_aborted(store, Upload(noted.key, noted.upload_id)):
                await catalog.forget_upload(noted)
                aborted += noted.key is not None
            else:
                left += 1
        behind_row = batch[-1].wallpaper_id
    return Swept(aborted, left)


async def _sweep(catalog: Janitor, store: ObjectStore, begun_before: datetime) -> Swept:
    aborted, stubborn = set[Upload](), set[Upload]()
    for _ in range(MAX_SWEEPS):
        stale = [
            upload
            async for upload in _stale(catalog, store, begun_before)
            # A store may show for a while what it has dropped.
            if upload not in stubborn | aborted
        ]
        for upload in stale:
            if await _is_aborted(store, upload):
                aborted.add(upload)
            else:
                stubborn.add(upload)
        if not stale:
            break
    return Swept(len(aborted), len(stubborn))


async def _stale(
    catalog: Janitor, store: ObjectStore, begun_before: datetime
) -> AsyncIterator[Upload]:
    old = [
        upload
        for prefix in (KEY_PREFIX, PROBE_PREFIX)
        async for upload in store.uploads(prefix)
        if upload.begun_at is not None and upload.begun_at < begun_before
    ]
    in_hand = await catalog.uploads_in_hand([upload.upload_id for upload in old])
    for upload in old:
        if upload.upload_id not in in_hand:
            yield upload


async def _is_aborted(store: ObjectStore, upload: Upload) -> bool:
    try:
        with anyio.fail_after(ABORT_TIMEOUT_SECONDS):
            await store.abort(upload)
    except (ItemError, TimeoutError) as error:
        problem = error.reason if isinstance(error, ItemError) else "no answer in time"
        logger.warning("upload of %s not aborted yet: %s", upload.key, problem)
        return False
    return True
