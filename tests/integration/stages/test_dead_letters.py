"""What is given up on: listed, tried again, closed by a person, and explained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from world import OpenWorld, World, small

from collector.core.history import Choice, ItemState
from collector.core.runs import RunStatus, StageName
from collector.runtime.opening import RunOptions
from collector.simulator import Hooks, Wallpaper


class Gone:
    """Answers 410 for these wallpapers, as long as they are listed here."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    async def image(self, _: web.Request, wallpaper: Wallpaper) -> web.StreamResponse | None:
        return web.Response(status=410) if wallpaper.id in self.ids else None


async def state_of(world: World, wallhaven_id: str) -> ItemState:
    return (await world.runtime.catalog.items.history(wallhaven_id)).state


async def test_what_was_given_up_is_tried_again_when_a_person_says_so(
    open_world: OpenWorld, small_images: Path
) -> None:
    gone = Gone()
    async with open_world(small(small_images, 6), Hooks(image=gone.image)) as world:
        first, second, third, *_ = (wallpaper.id for wallpaper in world.simulator.catalogue)
        gone.ids = {first, second, third}
        await world.run("one")
        letters = world.runtime.catalog.dead_letters
        assert {letter.wallhaven_id for letter in await letters.open_letters()} == gone.ids
        assert await letters.open_letters("not_found") == []

        gone.ids = {third}
        changed = await letters.requeue(Choice([first, "nobody"]))
        assert [letter.wallhaven_id for letter in changed.closed] == [first]
        assert (changed.left, changed.unknown) == ([], ["nobody"])
        assert await state_of(world, first) is ItemState.PENDING
        assert (await world.run("two")).images_uploaded == 1
        assert await state_of(world, first) is ItemState.STORED

        await letters.requeue(Choice(code="gone"))
        again = await world.run("three")
        assert (again.images_uploaded, again.download_failures) == (1, 1)
        (letter,) = await letters.open_letters()
        assert (letter.wallhaven_id, letter.attempts, letter.run_id) == (third, 1, "three")

        await letters.resolve(Choice())
        assert await letters.open_letters() == []
        assert await state_of(world, third) is ItemState.DEAD
        assert (await world.run("four")).download_failures == 0, "what is resolved stays given up"
        assert (await letters.requeue(Choice())).closed == []


@pytest.mark.parametrize("done", ["requeue", "resolve"])
async def test_an_audit_says_the_same_when_its_dead_letters_are_closed(
    open_world: OpenWorld, small_images: Path, done: str
) -> None:
    """And when another run has stored what was missing, or has refused the same items."""
    gone, broken = Gone(), set[str]()

    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | {"path": None} if item["id"] in broken else item for item in items]

    hooks = Hooks(image=gone.image, listing=listing)
    async with open_world(small(small_images, 40), hooks) as world:
        ids = [wallpaper.id for wallpaper in world.simulator.catalogue]
        gone.ids, broken = set(ids[:12]), set(ids[-3:])
        first = await world.run("one")
        assert first.status is RunStatus.FAILED
        assert "images given up" in str(first.notes)
        # The transfer ends with the tenth; others may have been under way.
        assert first.report["images_dead"] in (10, 11, 12)
        assert first.report["metadata_dead"] == 3

        await getattr(world.runtime.catalog.dead_letters, done)(Choice())
        assert await world.stage(StageName.AUDIT, "one") == first
        gone.ids = set()
        await world.run("two", RunOptions(refresh=True))
        assert await world.stage(StageName.AUDIT, "one") == first


async def test_a_run_that_goes_on_is_counted_anew(
    open_world: OpenWorld, small_images: Path
) -> None:
    gone = Gone()
    async with open_world(small(small_images, 15), Hooks(image=gone.image)) as world:
        gone.ids = {wallpaper.id for wallpaper in world.simulator.catalogue[:12]}
        assert (await world.run()).status is RunStatus.FAILED
        gone.ids = set()
        await world.runtime.catalog.dead_letters.requeue(Choice())
        again = await world.run()
        assert (again.status, again.missing_s3_after_run) == (RunStatus.SUCCEEDED, 0)
        assert (again.images_uploaded, again.report["images_dead"]) == (15, 0)


async def test_a_letter_may_be_named_by_its_number(
    open_world: OpenWorld, small_images: Path
) -> None:
    gone = Gone()
    async with open_world(small(small_images, 3), Hooks(image=gone.image)) as world:
        gone.ids = {wallpaper.id for wallpaper in world.simulator.catalogue}
        await world.run()
        one, other, _ = await world.runtime.catalog.dead_letters.open_letters()
        # The number of one is the wallpaper of the other: the wallpaper counts.
        await world.rows(
            "UPDATE draenei_content.dead_letters SET item = $1 WHERE id = $2", str(one.id), other.id
        )
        changed = await world.runtime.catalog.dead_letters.resolve(Choice([str(one.id)]))
        assert [letter.id for letter in changed.closed] == [other.id]
        changed = await world.runtime.catalog.dead_letters.resolve(Choice([str(one.id)]))
        assert [letter.id for letter in changed.closed] == [one.id]


async def test_a_letter_about_metadata_waits_for_a_good_listing(
    open_world: OpenWorld, small_images: Path
) -> None:
    async with open_world(small(small_images, 3)) as world:
        wallhaven_id = world.simulator.catalogue[0].id
        await world.run("one")
        await world.rows(
            "INSERT INTO draenei_content.dead_letters"
            " (stage, item, wallhaven_id, code, reason, run_id)"
            " VALUES ('load', $1, $1, 'invalid_metadata', 'path: Field required', 'one')",
            wallhaven_id,
        )
        changed = await world.runtime.catalog.dead_letters.requeue(Choice())
        assert [letter.wallhaven_id for letter in changed.left] == [wallhaven_id]
        assert changed.closed == []
        await world.run("two")
        assert await world.runtime.catalog.dead_letters.open_letters() == []


async def test_the_life_of_an_item_is_told_from_the_tables(
    open_world: OpenWorld, small_images: Path
) -> None:
    gone = Gone()
    async with open_world(small(small_images, 3), Hooks(image=gone.image)) as world:
        stored, given_up, _ = (wallpaper.id for wallpaper in world.simulator.catalogue)
        gone.ids = {given_up}
        await world.run("one")

        history = await world.runtime.catalog.items.history(stored)
        assert history.row is not None
        assert history.state is ItemState.STORED
        told = [event.what for event in history.events()]
        assert [line.split()[0] for line in told] == ["listed", "row", "uploaded"]
        assert "read by one" in told[0]
        assert told[1:] == ["row created by one", "uploaded by one in 1 attempt"]
        (key,) = [key for key in await world.objects() if stored in key]
        assert (history.row.s3_key, history.row.object_sha256) == (key, world.truth()[key])

        history = await world.runtime.catalog.items.history(given_up)
        assert history.state is ItemState.DEAD
        told = [event.what for event in history.events()]
        assert {
            "given up at transfer: gone",
            "not stored by one in 1 attempt: gone at download",
        } < set(told)
        written = json.loads(json.dumps(history.as_json()))
        assert written["state"] == "dead"
        assert written["dead_letters"][0]["code"] == "gone"
        assert written["attempts_by_run"][0]["code"] == "gone"

        assert not (await world.runtime.catalog.items.history("nobody")).is_known
