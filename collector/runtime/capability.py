"""A store as good as it is: what it lacks is found out, made up for, and told."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from collector.adapters.s3 import S3Store
from collector.adapters.s3.probe import Capabilities, probe
from collector.core.audit import STORE_LACKS
from collector.core.errors import Edge, ItemError, MissingRight, Outage
from collector.core.runs import Json
from collector.ports import WriteUnknown

logger = logging.getLogger("collector")


# A probe that a lost answer has spoiled says nothing; three in a row say that the store is ill.
PROBE_TRIES = 3


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
        logger.warning("[draenei] the store may not be probed, so it is asked first: %s", refusal)
        return Fitted(
            store.looking_first(),
            reads_back=False,
            trusts_checksums=False,
            lacks={STORE_LACKS: ["the right to be probed"]},
        )
    if not capabilities.missing:
        return Fitted(store, reads_back=False, trusts_checksums=True, lacks={})
    missing = ", ".join(capabilities.missing)
    logger.warning("[draenei] the store lacks %s; `collector doctor` says more", missing)
    if capabilities.replaces_objects:
        store = store.looking_first()
    return Fitted(
        store,
        reads_back=not capabilities.checksums,
        trusts_checksums=capabilities.checksums,
        lacks={STORE_LACKS: list(capabilities.missing)},
    )


async def _probed(store: S3Store) -> Capabilities:
    for number in range(1, PROBE_TRIES + 1):
        try:
            return await probe(store)
        except (ItemError, WriteUnknown) as error:
            if number == PROBE_TRIES:
                raise Outage(Edge.UPLOAD, f"the store failed when it was probed: {error}") from None
    raise AssertionError("the last try returns or raises")
