"""Janitor: clean up after dead processes and old runs, without touching live ones."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial

import anyio

from collector.catalog import Runs, Transfers
from collector.core.errors import ItemError
from collector.core.keys import KEY_PREFIX, PROBE_PREFIX
from collector.core.maintenance import RunDetail, Swept, Trimmed
from collector.ports import ObjectStore, Upload

logger = logging.getLogger(__name__)

# Rows of one query.
BATCH_UPLOADS = 500
# Rows of one transaction: others wait for its locks for milliseconds.
BATCH_ROWS = 2_000
# One upload that the store does not abort must not keep the janitor from all the others.
ABORT_TIMEOUT_SECONDS = 30.0
# SeaweedFS lists only some of more than 1,000 uploads; the others appear once these are gone.
MAX_SWEEPS = 100


async def trim_old_runs(catalog: Runs, keep_days: int) -> Trimmed:
    """Trim details of runs that ended more than `keep_days` days ago; 0 keeps all.

    Kept: their audit rows, and what open crawls, gaps of searches and audits of younger runs need.
    Each batch is a transaction of its own: what was trimmed before an Outage or a cancellation
    stays trimmed, and the next call resumes. Safe while other runs are active.
    """
    if not keep_days:
        return Trimmed(0, dict.fromkeys(RunDetail, 0))
    runs = await _repeat(partial(catalog.mark_trimmed, keep_days, BATCH_ROWS))
    rows = {
        detail: await _repeat(partial(catalog.trim, detail, keep_days, BATCH_ROWS))
        for detail in RunDetail
    }
    return Trimmed(runs, rows)


async def _repeat(batch: Callable[[], Awaitable[int]]) -> int:
    total = 0
    while done := await batch():
        total += done
    return total


async def abort_stale_uploads(
    catalog: Transfers, store: ObjectStore, begun_before: datetime
) -> Swept:
    """Abort multipart uploads that no worker will complete.

    These are the uploads noted for wallpapers without a claim, and those that began before
    `begun_before` according to the store, unless a live claim has noted them. Completes no upload
    and deletes no object. Raises Outage(upload). Safe to repeat: an upload that could not be
    aborted is found again.
    """
    noted = await _abort_noted(catalog, store)
    swept = await _sweep(catalog, store, begun_before)
    return Swept(noted.aborted + swept.aborted, noted.left + swept.left)


async def _abort_noted(catalog: Transfers, store: ObjectStore) -> Swept:
    aborted = left = last_id = 0
    while batch := await catalog.noted_uploads(last_id, BATCH_UPLOADS):
        for noted in batch:
            # If the key is no longer known, the sweep finds the upload by its age.
            if noted.key is None or await _abort(store, Upload(noted.key, noted.upload_id)):
                await catalog.forget_upload(noted)
                aborted += noted.key is not None
            else:
                left += 1
        last_id = batch[-1].wallpaper_id
    return Swept(aborted, left)


async def _sweep(catalog: Transfers, store: ObjectStore, begun_before: datetime) -> Swept:
    aborted, stubborn = set[Upload](), set[Upload]()
    for _ in range(MAX_SWEEPS):
        # A store may list an upload for a while after it was aborted.
        stale = await _stale(catalog, store, begun_before) - stubborn - aborted
        if not stale:
            break
        for upload in stale:
            (aborted if await _abort(store, upload) else stubborn).add(upload)
    return Swept(len(aborted), len(stubborn))


async def _stale(catalog: Transfers, store: ObjectStore, begun_before: datetime) -> set[Upload]:
    old = [
        upload
        for prefix in (KEY_PREFIX, PROBE_PREFIX)
        async for upload in store.uploads(prefix)
        if upload.begun_at is not None and upload.begun_at < begun_before
    ]
    claimed = await catalog.claimed_uploads([upload.upload_id for upload in old])
    return {upload for upload in old if upload.upload_id not in claimed}


async def _abort(store: ObjectStore, upload: Upload) -> bool:
    try:
        with anyio.fail_after(ABORT_TIMEOUT_SECONDS):
            await store.abort(upload)
    except (ItemError, TimeoutError) as error:
        problem = error.reason if isinstance(error, ItemError) else "no answer in time"
        logger.warning(
            "upload of %s not aborted, the next janitor retries: %s", upload.key, problem
        )
        return False
    return True
