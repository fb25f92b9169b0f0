"""A source that refuses everything: an outage or a wrong setting, not a thousand dead letters."""

from __future__ import annotations

from pathlib import Path

import pytest
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from world import small

from collector.core.errors import Code, SettingsError, TooManyDead
from collector.core.retry import WINDOW_ATTEMPTS
from collector.core.runs import RunStatus, StageName
from collector.core.tally import MIN_SPARE_ATTEMPTS
from collector.runtime.opening import RunOptions

WALLPAPERS = 600
LIMIT = 10
IN_FLIGHT = 16
TEN = RunOptions(limit=LIMIT)
# Attempts that may be under way when the last of a window fails, and that of the known image.
MOST_ASKED = WINDOW_ATTEMPTS + IN_FLIGHT + 3


async def nothing_is_blamed(world: FaultyWorld) -> bool:
    letters = await world.value("SELECT count(*) FROM draenei_content.dead_letters")
    attempts = await world.value("SELECT max(attempts) FROM draenei_content.transfers")
    pending = await world.value(
        "SELECT count(*) FROM draenei_content.transfers WHERE state = 'pending'"
    )
    stored = await world.value(
        "SELECT count(*) FROM draenei_content.wallpapers WHERE stored_at > '-infinity'"
    )
    return (letters, attempts, pending + stored) == (0, 0, len(world.simulator.catalogue))


async def keep_three(world: FaultyWorld, status: int) -> None:
    """Store three images; of all others the host says `status` from now on."""
    await world.run("before", RunOptions(limit=3))
    rows = await world.runtime.catalog.database.fetch("known_good", "http://", 3, 3)
    kept = [row["url"].rpartition("/")[2] for row in rows]
    world.images.on(
        lambda asked: not any(name in asked.path for name in kept), http.status(status), times=None
    )


@pytest.mark.case("CDN-28")
@pytest.mark.parametrize("status", [404, 410, 403])
async def test_a_host_that_has_nothing_is_an_outage_and_no_image_is_given_up(
    open_faults: OpenFaults, small_images: Path, status: int
) -> None:
    async with open_faults(small(small_images, WALLPAPERS)) as world:
        world.images.on(lambda _: True, http.status(status), times=None)
        audit = await world.run("refused", TEN)
        assert audit.status is RunStatus.FAILED
        assert "nothing was ever stored from it" in str(audit.notes)
        assert world.images.count(lambda _: True) <= MOST_ASKED
        assert await nothing_is_blamed(world)
        world.heal()
        assert (await world.run("after", TEN)).images_uploaded == LIMIT


@pytest.mark.case("CDN-28")
@pytest.mark.parametrize("status", [404, 410])
async def test_a_host_that_lost_what_it_delivered_before_is_an_outage(
    open_faults: OpenFaults, small_images: Path, status: int
) -> None:
    async with open_faults(small(small_images, 60)) as world:
        await world.run("before", TEN)
        world.images.on(lambda _: True, http.status(status), times=None)
        audit = await world.run("lost")
        assert audit.status is RunStatus.FAILED
        assert "for images that it delivered before" in str(audit.notes)
        assert await nothing_is_blamed(world)


@pytest.mark.case("CDN-28")
async def test_ten_images_that_are_gone_among_a_hundred_end_as_dead_letters_of_their_own(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(
        small(small_images, 110), collector_max_attempts=2, collector_max_dead_percent=10
    ) as world:
        bad = [wallpaper.id for wallpaper in world.simulator.catalogue][5:105:10]
        world.images.on(
            lambda asked: any(each in asked.path for each in bad), http.status(404), times=None
        )
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 100)
        letters = await world.rows("SELECT wallhaven_id, code FROM draenei_content.dead_letters")
        assert {row["wallhaven_id"] for row in letters} == set(bad)
        assert {row["code"] for row in letters} == {Code.NOT_FOUND}


@pytest.mark.case("CDN-28")
async def test_a_host_that_works_and_lacks_most_images_ends_the_transfer_while_it_runs(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, WALLPAPERS)) as world:
        await keep_three(world, 410)
        with pytest.raises(TooManyDead, match="images given up"):
            await world.stage(StageName.TRANSFER, "gone", RunOptions(limit=0))
        gone = await world.value("SELECT count(*) FROM draenei_content.dead_letters")
        share = world.settings.collector_max_dead_percent / 100 * WALLPAPERS
        assert share < gone <= share + IN_FLIGHT + 1


@pytest.mark.case("CDN-28")
async def test_a_run_with_a_limit_makes_few_more_attempts_than_it_may_store(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, WALLPAPERS)) as world:
        await keep_three(world, 404)
        audit = await world.run("few", TEN)
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 0)
        tries = await world.value(
            "SELECT sum(attempts) FROM draenei_content.run_items WHERE outcome = 'failed'"
        )
        assert tries == MIN_SPARE_ATTEMPTS
        report = audit.report["stages"]
        assert isinstance(report, dict)
        transferred = report["transfer"]
        assert isinstance(transferred, dict)
        assert transferred["are_attempts_used_up"] is True


@pytest.mark.case("CDN-29")
async def test_hosts_that_are_not_listed_are_a_wrong_setting_that_is_named(
    open_faults: OpenFaults, small_images: Path
) -> None:
    wrong = {"wallhaven_image_hosts": "w.wallhaven.cc"}
    async with open_faults(small(small_images, WALLPAPERS), **wrong) as world:
        audit = await world.run("refused", TEN)
        assert audit.status is RunStatus.FAILED
        assert "WALLHAVEN_IMAGE_HOSTS" in str(audit.notes)
        assert world.images.host in str(audit.notes)
        assert world.images.asked == []
        assert await nothing_is_blamed(world)
        with pytest.raises(SettingsError, match="WALLHAVEN_IMAGE_HOSTS"):
            await world.stage(StageName.TRANSFER, "alone", TEN)
        assert await nothing_is_blamed(world)
