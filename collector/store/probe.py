"""Find out by trial what a store really enforces: claims and versions prove nothing.

Some stores ignore `If-None-Match` on a put or on the completion of a multipart upload, or keep
bytes whose checksum is wrong. The probe uses the port alone, so it sees what the stages will get.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from uuid import uuid4

from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt

from collector.core.audit import STORE_LACKS
from collector.core.errors import Code, Edge, ItemError, MissingRight, Outage
from collector.core.images import ImageType
from collector.core.keys import PROBE_PREFIX
from collector.core.runs import Json
from collector.logs import logger
from collector.ports import ObjectExists, ObjectStore, Upload, WriteUnknown
from collector.store import S3Store

# Fixed keys: all probes together leave one tiny object, and a second one only in a store that keeps
# wrong bytes. Nothing is deleted.
_CONDITIONAL = f"{PROBE_PREFIX}conditional"
_CHECKSUM = f"{PROBE_PREFIX}checksum"
_BODY = b"draenei-collector probe\n"
_SHA256 = hashlib.sha256(_BODY).digest()
# A lost answer makes a probe useless; three of them in a row mean that the store is broken.
MAX_PROBE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a store was seen to do; the promises of a transfer need all of it."""

    conditional_put: bool
    conditional_complete: bool
    checksums: bool
    metadata: bool
    stored_checksum: bool
    aborts: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the fields that are false."""
        return tuple(field.name for field in fields(self) if not getattr(self, field.name))

    @property
    def replaces_objects(self) -> bool:
        """Whether some kind of write would replace an object."""
        return not (self.conditional_put and self.conditional_complete)

    def __str__(self) -> str:
        """Return one line for each field, as `doctor` prints them."""
        return "\n".join(
            f"{'yes' if getattr(self, name) else 'NO ':<3} {meaning}"
            for name, meaning in _MEANING.items()
        )


_MEANING = {
    "conditional_put": "a put never replaces an object",
    "conditional_complete": "a completed multipart upload never replaces an object",
    "checksums": "bytes that differ from their checksum are refused",
    "metadata": "an object keeps the metadata it was written with",
    "stored_checksum": "the store reports the sha256 that it computed itself",
    "aborts": "an aborted upload is gone from the listing",
}


async def probe(store: ObjectStore) -> ProbeResult:
    """Return what `store` enforces; leaves the object `.probe/conditional`, and no upload.

    Raises Outage if the store cannot be used at all, ItemError if a call fails. On cancellation one
    upload may be left under `.probe/`, which the janitor drops a day later.
    """
    await _refuses_second_put(store)
    conditional_put = await _refuses_second_put(store)
    info = await store.head(_CONDITIONAL)
    upload = await store.begin(_CONDITIONAL, content_type=ImageType.PNG, token=uuid4().hex)
    conditional_complete = await _refuses_complete_onto_object(store, upload)
    return ProbeResult(
        conditional_put=conditional_put,
        conditional_complete=conditional_complete,
        checksums=await _refuses_wrong_bytes(store),
        metadata=info is not None and bool(info.token),
        stored_checksum=info is not None and (info.checksum or "").startswith("sha256:"),
        aborts=upload not in [left async for left in store.uploads(PROBE_PREFIX)],
    )


async def _refuses_second_put(store: ObjectStore) -> bool:
    try:
        await _put(store, _CONDITIONAL, _SHA256)
    except ObjectExists:
        return True
    return False


async def _refuses_wrong_bytes(store: ObjectStore) -> bool:
    try:
        await _put(store, _CHECKSUM, hashlib.sha256(b"other bytes").digest())
    except ItemError as error:
        if error.code is Code.CHECKSUM_MISMATCH:
            return True
        raise
    except ObjectExists:
        # Only an earlier probe can have written the object, so the store accepted it then.
        return False
    return False


async def _put(store: ObjectStore, key: str, sha256: bytes) -> None:
    await store.put(
        key,
        [_BODY],
        size_bytes=len(_BODY),
        sha256=sha256,
        content_type=ImageType.PNG,
        token=uuid4().hex,
    )


async def _refuses_complete_onto_object(store: ObjectStore, upload: Upload) -> bool:
    try:
        part = await store.upload_part(upload, 1, [_BODY], size_bytes=len(_BODY), sha256=_SHA256)
        await store.complete(upload, [part])
    except ObjectExists:
        return True
    except WriteUnknown:
        return False
    finally:
        await store.abort(upload)
    return False


@dataclass(frozen=True, slots=True)
class ProbedStore:
    """A store to write to, whether each stored object must be read back, and what the store lacks.

    `trusts_checksums` only if the store was seen to compare bytes with their checksum.
    """

    store: S3Store
    reads_back: bool
    trusts_checksums: bool
    lacks: Mapping[str, Json]


async def probe_store(store: S3Store) -> ProbedStore:
    """Probe the store and return how to write to it, so that the promises of `ObjectStore` hold.

    If it would replace objects, each write checks first whether the key is free. If it does not
    verify checksums, each object is read back. If rights are missing to probe it to the end, it is
    not trusted to refuse a write to an existing object. Raises Outage if it cannot be used at all.
    """
    try:
        result = await _probe_with_retries(store)
    except MissingRight as refusal:
        logger.warning(
            "no right to probe the store: each write checks first whether the key is free: %s",
            refusal,
        )
        return ProbedStore(
            store.looking_first(),
            reads_back=False,
            trusts_checksums=False,
            lacks={STORE_LACKS: ["the right to be probed"]},
        )
    if not result.missing:
        return ProbedStore(store, reads_back=False, trusts_checksums=True, lacks={})
    missing = ", ".join(result.missing)
    logger.warning("the store lacks %s: `collector doctor` says more", missing)
    if result.replaces_objects:
        store = store.looking_first()
    return ProbedStore(
        store,
        reads_back=not result.checksums,
        trusts_checksums=result.checksums,
        lacks={STORE_LACKS: list(result.missing)},
    )


async def _probe_with_retries(store: S3Store) -> ProbeResult:
    spoiled = retry_if_exception_type((ItemError, WriteUnknown))
    stop = stop_after_attempt(MAX_PROBE_ATTEMPTS)
    probing = AsyncRetrying(retry=spoiled, stop=stop, reraise=True)
    try:
        return await probing(probe, store)
    except (ItemError, WriteUnknown) as error:
        raise Outage(Edge.UPLOAD, f"the store failed when it was probed: {error}") from None
