"""Find out what a store really enforces, by doing it: claims and versions prove nothing.

Known to differ: stores that ignore `If-None-Match` on a put, or on a completed multipart upload,
or keep bytes whose checksum is wrong. The probe works through the port alone, so it tells what
the stages will get.
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

# Fixed keys: however often a store is probed, one tiny object stays behind (a second one only
# in a store that keeps wrong bytes), and nothing is deleted.
_CONDITIONAL = f"{PROBE_PREFIX}conditional"
_CHECKSUM = f"{PROBE_PREFIX}checksum"
_BODY = b"draenei-collector probe\n"
_SHA256 = hashlib.sha256(_BODY).digest()


# A probe that a lost answer has spoiled says nothing; three in a row say that the store is ill.
MAX_PROBE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a store was seen to do; all of it is needed for the promises of a transfer."""

    conditional_put: bool
    conditional_complete: bool
    checksums: bool
    metadata: bool
    stored_checksum: bool
    aborts: bool

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of what the store does not do."""
        return tuple(field.name for field in fields(self) if not getattr(self, field.name))

    @property
    def replaces_objects(self) -> bool:
        """True where some write would put an object in another one's place."""
        return not (self.conditional_put and self.conditional_complete)

    def __str__(self) -> str:
        """One line for each capability, as `doctor` prints them."""
        return "\n".join(
            f"{'yes' if getattr(self, name) else 'NO ':<3} {meaning}"
            for name, meaning in _MEANING.items()
        )


_MEANING = {
    "conditional_put": "a put never replaces an object",
    "conditional_complete": "a completed multipart upload never replaces an object",
    "checksums": "bytes that differ from their checksum are refused",
    "metadata": "an object keeps the metadata it was written with",
    "stored_checksum": "the store tells the sha256 that it computed itself",
    "aborts": "an aborted upload is gone from the listing",
}


async def probe(store: ObjectStore) -> Capabilities:
    """Return what `store` enforces; leaves `.probe/conditional` and no upload behind.

    Raises Outage where the store cannot be used at all, ItemError where it fails meanwhile.
    Cancelled, it may leave one upload under `.probe/`, which the janitor drops a day later.
    """
    await _refuses_second_put(store)
    conditional_put = await _refuses_second_put(store)
    info = await store.head(_CONDITIONAL)
    upload = await store.begin(_CONDITIONAL, content_type=ImageType.PNG, token=uuid4().hex)
    conditional_complete = await _refuses_complete_onto_object(store, upload)
    return Capabilities(
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
        # Only an earlier probe can have put it there, so it was accepted then.
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
class Fitted:
    """A store to write with, whether what it has stored must be read back, and what it lacks.

    `trusts_checksums` only where it was seen to compare bytes with their checksum.
    """

    store: S3Store
    reads_back: bool
    trusts_checksums: bool
    lacks: Mapping[str, Json]


async def fit_store(store: S3Store) -> Fitted:
    """Return how to write to the store, so that its promises hold.

    One that would replace objects is asked before each write whether one is there; of one that does
    not verify checksums each object is read back. Raises Outage where it cannot be used at all. One
    that may not be probed to the end is not trusted to refuse what is there.
    """
    try:
        capabilities = await _probed(store)
    except MissingRight as refusal:
        logger.warning("the store may not be probed, so it is asked first: %s", refusal)
        return Fitted(
            store.looking_first(),
            reads_back=False,
            trusts_checksums=False,
            lacks={STORE_LACKS: ["the right to be probed"]},
        )
    if not capabilities.missing:
        return Fitted(store, reads_back=False, trusts_checksums=True, lacks={})
    missing = ", ".join(capabilities.missing)
    logger.warning("the store lacks %s; `collector doctor` says more", missing)
    if capabilities.replaces_objects:
        store = store.looking_first()
    return Fitted(
        store,
        reads_back=not capabilities.checksums,
        trusts_checksums=capabilities.checksums,
        lacks={STORE_LACKS: list(capabilities.missing)},
    )


async def _probed(store: S3Store) -> Capabilities:
    spoiled = retry_if_exception_type((ItemError, WriteUnknown))
    stop = stop_after_attempt(MAX_PROBE_ATTEMPTS)
    probing = AsyncRetrying(retry=spoiled, stop=stop, reraise=True)
    try:
        return await probing(probe, store)
    except (ItemError, WriteUnknown) as error:
        raise Outage(Edge.UPLOAD, f"the store failed when it was probed: {error}") from None
