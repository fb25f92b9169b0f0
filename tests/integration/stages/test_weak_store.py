"""A store that would replace objects: found out, made up for, and told."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from world import OpenWorld, World, small

from collector.cli.progress import SilentProgress
from collector.core.errors import Code, Edge, MissingRight
from collector.core.runs import RunStatus
from collector.doctor import examine
from collector.store import probe as probes
from collector.store.bodies import BodySender
from collector.store.client import ControlCalls


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store never hear of a condition, so that it replaces objects as weak ones do."""
    put, call = BodySender.put, ControlCalls.call

    async def put_anyway(self: BodySender, target: str, *args: Any, **kwargs: Any) -> str:
        headers = dict(kwargs.pop("headers"))
        headers.pop("if-none-match", None)
        return await put(self, target, *args, headers=headers, **kwargs)

    async def call_anyway(self: ControlCalls, operation: str, **kwargs: Any) -> Any:
        kwargs.pop("IfNoneMatch", None)
        return await call(self, operation, **kwargs)

    monkeypatch.setattr(BodySender, "put", put_anyway)
    monkeypatch.setattr(ControlCalls, "call", call_anyway)


async def plant(world: World, keys: list[str]) -> None:
    body = b"something else"
    for key in keys:
        await world.runtime.store.looking_first()._control.call("put_object", Key=key, Body=body)


@pytest.mark.usefixtures("careless")
@pytest.mark.parametrize("images", ["small_images", "large_images"])
async def test_an_object_is_not_replaced_by_a_store_that_would(
    open_world: OpenWorld,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    images: str,
) -> None:
    folder: Path = request.getfixturevalue(images)
    async with open_world(small(folder, 2)) as world:
        first, _ = world.truth()
        await plant(world, [first])
        before = await world.objects()
        with caplog.at_level(logging.WARNING):
            audit = await world.run()
        assert (audit.images_uploaded, audit.upload_failures) == (1, 1)
        assert (await world.objects())[first] == before[first]
        (letter,) = await world.runtime.catalog.dead_letters.open_letters()
        assert letter.code == Code.CONFLICT_OBJECT
        assert audit.status is RunStatus.PARTIAL
        assert "the store lacks conditional_put, conditional_complete" in str(audit.notes)
        assert caplog.text.count("the store lacks") == 1

        (bucket,) = [
            check
            for check in await examine(world.settings, SilentProgress())
            if check.name == "bucket"
        ]
        assert not bucket.is_ok
        assert "conditional_put" in bucket.found


async def test_a_store_that_keeps_every_promise_is_not_spoken_of(
    open_world: OpenWorld, small_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_world(small(small_images, 2)) as world:
        audit = await world.run()
    assert (audit.status, audit.notes) == (RunStatus.SUCCEEDED, None)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_store_that_may_not_be_probed_is_asked_first(
    open_world: OpenWorld, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: object) -> None:
        raise MissingRight(Edge.UPLOAD, "not allowed")

    monkeypatch.setattr(probes, "probe", refuse)
    async with open_world(small(small_images, 2)) as world:
        fitted = await probes.probe_store(world.runtime.store)
        assert fitted.store._looks_first
        assert not fitted.trusts_checksums
        assert "the right to be probed" in str(fitted.lacks)
        assert (await world.run()).images_uploaded == 2
