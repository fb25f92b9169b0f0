"""The oracle: knows the truth, the bucket and the tables, and nothing of how they came about.

Every fault test ends with `check`, after what happened has come to rest. The numbers are those of
docs/reliability.md.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from collector.ports import ObjectStore

ENDED = {"succeeded", "partial", "failed", "interrupted", "crashed"}
MAX_TRIES_IN_A_RUN = 2


@dataclass(frozen=True)
class Evidence:
    """What a test knows besides bucket and tables.

    `truth` is the sha256 of each image that the source has, by key; an image that it serves in
    several versions has several. `commits` are the keys that the store wrote, in order, where a
    test has seen them. `texts` are logs and output, in which no `secrets` may stand. `max_attempts`
    bounds the tries of an item.
    """

    truth: Mapping[str, str | set[str]]
    commits: Sequence[str] | None = None
    texts: Sequence[str] = ()
    secrets: Sequence[str] = ()
    max_attempts: int = 5
    converged: bool = True
    strangers: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Rows:
    """The tables, read in one snapshot."""

    wallpapers: list[asyncpg.Record]
    transfers: list[asyncpg.Record]
    letters: list[asyncpg.Record]
    runs: list[asyncpg.Record]
    items: list[asyncpg.Record]
    quarantine: set[str]
    everything: str


async def check(dsn: str, store: ObjectStore, evidence: Evidence) -> None:
    """Assert the invariants I1 to I9 and I11, and I3's end: nothing is left to do."""
    rows = await _read(dsn, evidence.secrets)
    objects = {key: await _hash(store, key) async for key, _ in store.keys("wallpapers/")}
    uploads = [upload.key async for upload in store.uploads("wallpapers/")]
    _objects_of_rows(rows, objects, evidence)
    _partition(rows, evidence)
    _letters(rows)
    assert uploads == [], f"I5: multipart uploads are left: {uploads}"
    strays = set(objects) - {row["s3_key"] for row in rows.wallpapers} - rows.quarantine
    assert strays <= evidence.strangers, f"I6: objects of nobody: {strays}"
    for run in rows.runs:
        _audit(run, rows)
    if evidence.commits is not None:
        twice = {key: n for key, n in Counter(evidence.commits).items() if n > 1}
        assert not twice, f"I8: written more than once: {twice}"
    _tries(rows, evidence)
    _secrets(rows, evidence)


async def _read(dsn: str, secrets: Sequence[str]) -> Rows:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            tables = {
                name: await connection.fetch(f"SELECT * FROM draenei_content.{name}")
                for name in (
                    *("wallpapers", "transfers", "dead_letters", "run_audit", "run_items"),
                    *("quarantined_objects", "run_stages", "staged_wallpapers"),
                )
            }
    finally:
        await connection.close()
    return Rows(
        wallpapers=tables["wallpapers"],
        transfers=tables["transfers"],
        letters=tables["dead_letters"],
        runs=tables["run_audit"],
        items=tables["run_items"],
        quarantine={row["s3_key"] for row in tables["quarantined_objects"]},
        everything=repr(tables) if secrets else "",
    )


async def _hash(store: ObjectStore, key: str) -> tuple[str, int]:
    digest, size_bytes = hashlib.sha256(), 0
    async with store.read(key) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
            size_bytes += len(chunk)
    return digest.hexdigest(), size_bytes


def _objects_of_rows(
    rows: Rows, objects: Mapping[str, tuple[str, int]], evidence: Evidence
) -> None:
    for row in rows.wallpapers:
        key = row["s3_key"]
        if key is None:
            assert row["stored_at"] is None
            continue
        assert key in objects, f"I1: {key} is said to be stored and is not there"
        said = row["object_sha256"], row["object_bytes"]
        assert objects[key] == said, f"I1: {key} is {objects[key]}, and its row says {said}"
        true = evidence.truth.get(key, set())
        assert said[0] in ({true} if isinstance(true, str) else true), (
            f"I2: {key} is not its source"
        )


def _partition(rows: Rows, evidence: Evidence) -> None:
    stored = {row["id"] for row in rows.wallpapers if row["s3_key"] is not None}
    waiting = {row["wallpaper_id"]: row["state"] for row in rows.transfers}
    assert not stored & waiting.keys(), "I3: stored, and in the backlog"
    lost = {row["id"] for row in rows.wallpapers} - stored - waiting.keys()
    assert not lost, f"I3: neither stored nor in the backlog: {lost}"
    assert "claimed" not in waiting.values(), "I3: nobody works any more, and claims are left"
    if evidence.converged:
        assert "pending" not in waiting.values(), "I3: there is still something to do"


def _letters(rows: Rows) -> None:
    ids = {row["id"]: row["wallhaven_id"] for row in rows.wallpapers}
    dead = {ids[row["wallpaper_id"]] for row in rows.transfers if row["state"] == "dead"}
    letters = [row for row in rows.letters if row["resolved_at"] is None]
    images = [row["item"] for row in letters if row["stage"] == "transfer"]
    assert sorted(images) == sorted(dead), "I4: each dead item has one open letter, and no other"
    for letter in letters:
        assert letter["code"], "I4"
        assert letter["reason"], "I4"
        assert letter["attempts"] >= 1, "I4"
        assert letter["run_id"], "I4"


def _audit(run: asyncpg.Record, rows: Rows) -> None:
    assert run["status"] in ENDED, f"I7: run {run['run_id']} is {run['status']}"
    mine = [item for item in rows.items if item["audit_id"] == run["id"]]

    def count(outcome: str, edge: str | None = None) -> int:
        return sum(item["outcome"] == outcome and item["edge"] == edge for item in mine)

    sizes = {row["id"]: row["object_bytes"] for row in rows.wallpapers}
    uploaded = [item["wallpaper_id"] for item in mine if item["outcome"] == "uploaded"]
    recount = {
        "images_uploaded": len(uploaded),
        "images_adopted": count("adopted"),
        "bytes_uploaded": sum(sizes[number] or 0 for number in uploaded),
        "download_failures": count("failed", "download"),
        "upload_failures": count("failed", "upload"),
    }
    said = {name: run[name] for name in recount}
    assert said == recount, f"I7: run {run['run_id']} says {said}, and a recount {recount}"
    assert run["duration_seconds"] >= 0, "I7"


def _tries(rows: Rows, evidence: Evidence) -> None:
    done = Counter(
        item["wallpaper_id"] for item in rows.items if item["outcome"] in ("uploaded", "adopted")
    )
    assert not [it for it, times in done.items() if times > 1], "I9: counted as stored twice"
    most = max((row["attempts"] for row in rows.transfers), default=0)
    assert most <= evidence.max_attempts, f"I10: tried {most} times"
    assert max((item["attempts"] for item in rows.items), default=0) <= max(
        MAX_TRIES_IN_A_RUN, evidence.max_attempts
    )


def _secrets(rows: Rows, evidence: Evidence) -> None:
    texts: list[Any] = [rows.everything, *evidence.texts]
    for secret in evidence.secrets:
        assert not [text for text in texts if secret in text], "I11: a secret is written down"
