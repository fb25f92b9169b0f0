"""A store as good as it is: what it lacks is found out, made up for, and told."""

from __future__ import annotations

import logging

from collector.adapters.s3 import S3Store
from collector.adapters.s3.probe import Capabilities, probe
from collector.core.audit import STORE_LACKS
from collector.core.errors import Edge, ItemError, Outage, Refusal
from collector.core.runs import Json
from collector.ports import WriteUnknown

logger = logging.getLogger("collector")


# A probe that a lost answer has spoiled says nothing; three in a row say that the store is ill.
PROBE_TRIES = 3


async def fit_store(store: S3Store) -> tuple[S3Store, dict[str, Json]]:
    """Return the store to write with, and what a report should say that it lacks.

    One that would replace objects is asked before each write whether one is there. Raises Outage
    where it cannot be used at all. One that may not be probed to the end is not trusted either.
    """
    try:
        capabilities = await _probed(store)
    except Refusal as refusal:
        logger.warning("[draenei] the store may not be probed, so it is asked first: %s", refusal)
        return store.looking_first(), {}
    if not capabilities.missing:
        return store, {}
    lacks = ", ".join(capabilities.missing)
    logger.warning("[draenei] the store lacks %s; `collector doctor` says more", lacks)
    if capabilities.replaces_objects:
        store = store.looking_first()
    return store, {STORE_LACKS: list(capabilities.missing)}


async def _probed(store: S3Store) -> Capabilities:
    for number in range(1, PROBE_TRIES + 1):
        try:
            return await probe(store)
        except (ItemError, WriteUnknown) as error:
            if number == PROBE_TRIES:
                raise Outage(Edge.UPLOAD, f"the store failed when it was probed: {error}") from None
    raise AssertionError("the last try returns or raises")
