"""What the tests of store faults share: requests, misbehaviour, results.

A run asks the store three things: at its start whether the bucket is there, then what the store
can do (objects under `.probe/`), then for the images' own objects. Faults are put before one of
these, and the request counts are exact where the order of requests is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from faulty_world import FaultyWorld
from peers import http
from peers.exchange import Answer, Asked
from peers.http import Fault, Match

from collector.core.audit import AuditRow
from collector.core.runs import RunStatus
from collector.ports import Upload
from collector.runtime import opening

# An item is tried twice in a run, and each of its calls four times.
TRIES_OF_A_RUN = 2
# Where a test waits for a time-out: long for an answer on loopback, short for us.
SILENCE_SECONDS = 0.8
# What is bounded by less ends long before.
MAX_SECONDS = 20.0


def set_store_options(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let the runtime open its store otherwise than settings can say."""
    options = opening.s3_options
    monkeypatch.setattr(opening, "s3_options", lambda *a: replace(options(*a), **changes))


def everything(_: Asked) -> bool:
    return True


def of_images(asked: Asked) -> bool:
    return "/wallpapers/" in asked.path


def puts(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "PUT" and not asked.query


def part(number: int) -> Match:
    return lambda asked: of_images(asked) and f"partNumber={number}&" in asked.query


def begins(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "POST" and "uploadId=" not in asked.query


def completes(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "POST" and "uploadId=" in asked.query


def aborts(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "DELETE"


def heads(asked: Asked) -> bool:
    return of_images(asked) and asked.method == "HEAD"


def downloads(world: FaultyWorld) -> int:
    return world.images.count(everything)


def xml(code: str) -> bytes:
    said_so = f"<Error><Code>{code}</Code><Message>as a test wants it</Message></Error>"
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + said_so.encode()


def refusal(status: int, code: str, **headers: str) -> Fault:
    """Answer with an error of S3; nothing is carried out."""
    return http.status(status, xml(code), content_type="application/xml", **headers)


def after(fault: Answer) -> Fault:
    """Carry the request out, and answer otherwise."""
    return http.rewritten(lambda _: fault)


async def backlog(world: FaultyWorld) -> set[tuple[str, int]]:
    """Return the states of what is not stored, each with its attempts."""
    rows = await world.rows("SELECT state, attempts FROM draenei_content.transfers")
    return {(row["state"], row["attempts"]) for row in rows}


async def codes(world: FaultyWorld) -> list[str]:
    return [letter.code for letter in await world.runtime.catalog.dead_letters.open_letters()]


async def uploads(world: FaultyWorld) -> list[Upload]:
    return [upload async for upload in world.bucket.uploads("wallpapers/")]


async def stored(world: FaultyWorld) -> list[str]:
    return [key async for key, _ in world.bucket.keys("wallpapers/")]


async def assert_outage(world: FaultyWorld, audit: AuditRow, problem: str) -> None:
    """The run says what is wrong, nobody is blamed, and no item has lost a try."""
    assert audit.status is RunStatus.FAILED
    assert problem in str(audit.notes)
    assert await codes(world) == []
    assert await backlog(world) == {("pending", 0)}


async def assert_settled(world: FaultyWorld, audit: AuditRow, images: int = 1) -> None:
    """All images are stored, each by its first try."""
    assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, images)
    assert downloads(world) == images


async def assert_begun_anew(world: FaultyWorld, audit: AuditRow) -> None:
    """The one image is stored, by a second try that began from nothing."""
    assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 1)
    assert (world.store.count(begins), downloads(world)) == (2, 2)
