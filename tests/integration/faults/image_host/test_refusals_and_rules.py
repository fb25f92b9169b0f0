"""The image host refuses, asks for patience, or breaks the rules of HTTP."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from faulty_world import FaultyWorld, OpenFaults
from image_faults import (
    GIVES_UP,
    OK,
    TRIES,
    attempts,
    both_ways,
    codes,
    dripping,
    everything,
    given_up,
    half,
    in_turn,
    key_of,
    of,
    page,
    reasons,
    tries,
    wire,
)
from peers import http
from peers.exchange import Exchange
from peers.http import Fault
from world import small

from collector.core.errors import Code
from collector.core.runs import RunStatus
from collector.runtime.opening import RunOptions
from collector.simulator import Wallpaper

# --- The host refuses, or asks for patience ------------------------------------------------------


@pytest.mark.case("CDN-15")
async def test_what_is_gone_is_asked_for_once_and_what_is_not_found_a_few_times(
    open_faults: OpenFaults, small_images: Path
) -> None:
    statuses = (404, 410, 451)
    async with open_faults(small(small_images, 8), collector_retry_base_seconds=0) as world:
        wallpapers = in_turn(world)[: len(statuses)]
        for wallpaper, status in zip(wallpapers, statuses, strict=True):
            world.images.on(of(wallpaper), http.status(status), times=None)
        missing, gone, withheld = wallpapers
        lagging = in_turn(world)[len(statuses)]
        world.images.on(of(lagging), http.status(404))
        final = {gone.id: (Code.GONE, 1), withheld.id: (Code.GONE, 1)}

        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 5)
        assert await codes(world) == final
        assert [world.images.count(of(it)) for it in (lagging, *wallpapers)] == [2, 2, 1, 1]

        for number in range(3):
            await world.run(f"again {number}")
        assert await codes(world) == {missing.id: (Code.NOT_FOUND, 5), **final}
        assert [world.images.count(of(it)) for it in wallpapers] == [5, 1, 1]
        await world.check()


@pytest.mark.case("CDN-16")
async def test_an_image_that_is_forbidden_is_given_up_after_its_tries(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 8), **GIVES_UP) as world:
        faults = {
            "403": http.status(403),
            "401": http.status(401),
            "challenge": page(403, server="cloudflare"),
        }
        given = await given_up(world, faults)
        assert given == dict.fromkeys(faults, (Code.FORBIDDEN, TRIES))
        assert world.images.count(of(in_turn(world)[0])) == TRIES
        await world.check()


@pytest.mark.case("CDN-16")
@pytest.mark.parametrize(("wallpapers", "max_asked"), [(3, 7), (24, 36)], ids=["few", "many"])
async def test_a_host_that_forbids_everything_is_an_outage_and_costs_no_attempt(
    open_faults: OpenFaults, small_images: Path, wallpapers: int, max_asked: int
) -> None:
    async with open_faults(small(small_images, wallpapers), **GIVES_UP) as world:
        world.images.on(everything, http.status(403), times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.FAILED, 0)
        assert "the image host fails for most images (forbidden" in (audit.notes or "")
        assert (await codes(world), await attempts(world)) == ({}, {0})
        assert world.images.count(everything) <= max_asked
        await world.converge()
        assert await world.objects() == world.truth()


@pytest.mark.case("CDN-16")
async def test_a_host_that_forbids_what_it_gave_before_is_out_and_one_that_does_not_is_not(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 24), **GIVES_UP) as world:
        given, *others = in_turn(world)
        await world.run("first", RunOptions(limit=1))
        assert [*await world.objects()] == [key_of(given)]

        world.images.on(everything, http.status(403), times=None)
        assert (await world.run("out")).status is RunStatus.FAILED
        assert (await codes(world), await attempts(world)) == ({}, {0})

        world.heal()
        world.images.on(lambda asked: not of(given)(asked), http.status(403), times=None)
        assert (await world.run("well")).download_failures == len(others)
        forbidden = (Code.FORBIDDEN, TRIES)
        assert await codes(world) == {wallpaper.id: forbidden for wallpaper in others}
        await world.check()


def waited(world: FaultyWorld, wallpaper: Wallpaper) -> float:
    """Return the seconds between the first two requests for an image."""
    first, second, *_ = (asked.at for asked in world.images.asked if of(wallpaper)(asked))
    return second - first


def date_in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.case("CDN-17")
async def test_an_image_is_asked_for_again_when_its_host_says(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4)) as world:
        met = in_turn(world)[:2]
        for wallpaper, status in zip(met, (429, 503), strict=True):
            world.images.on(of(wallpaper), http.status(status, retry_after="1"))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 4)
        assert min(waited(world, wallpaper) for wallpaper in met) >= 1.0
        assert {world.images.count(of(wallpaper)) for wallpaper in met} == {2}
        await world.check()


@pytest.mark.case("CDN-17")
async def test_an_image_is_asked_for_again_at_the_date_that_its_host_says(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4)) as world:
        wallpaper = in_turn(world)[0]

        async def busy(exchange: Exchange) -> None:
            await http.status(503, retry_after=date_in(2), date=date_in(0))(exchange)

        world.images.on(of(wallpaper), busy)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 4)
        assert waited(world, wallpaper) >= 0.9
        await world.check()


@pytest.mark.case("CDN-17")
async def test_a_host_that_asks_for_patience_is_left_alone_by_all(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=2) as world:
        busy = http.status(429, retry_after="1")
        world.images.on(everything, busy, skip=2)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 12)
        times = [asked.at for asked in world.images.asked]
        said_at = times[2]
        # One may have been on its way when the host said so.
        early = [at - said_at for at in times[4:] if at < said_at + 1.0]
        assert early == [], "asked in the second that the host did not want to be asked"
        await world.check()


NO_POLICY = ("-5", "nan", "soon", "1e9", "1, 2", "0", "\u0662")


@pytest.mark.case("CDN-17")
async def test_nonsense_for_a_time_is_no_time(open_faults: OpenFaults, small_images: Path) -> None:
    async with open_faults(small(small_images, 20)) as world:
        met = in_turn(world)[: len(NO_POLICY)]
        for wallpaper, text in zip(met, NO_POLICY, strict=True):
            raw = text.encode().decode("latin-1")
            world.images.on(of(wallpaper), http.status(503, retry_after=raw))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 20)
        assert max(waited(world, wallpaper) for wallpaper in met) < 2.0
        await world.check()


@pytest.mark.case("CDN-17")
async def test_a_time_too_far_off_is_left_to_a_later_run_and_is_an_hour_at_most(
    open_faults: OpenFaults, small_images: Path
) -> None:
    far = ("31", "1000000000", "9" * 5000)
    async with open_faults(small(small_images, 6)) as world:
        met = in_turn(world)[: len(far)]
        for wallpaper, text in zip(met, far, strict=True):
            world.images.on(of(wallpaper), http.status(503, retry_after=text))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 3)
        assert {world.images.count(of(wallpaper)) for wallpaper in met} == {1}
        latest = "SELECT max(next_attempt_at) - now() FROM draenei_content.transfers"
        assert timedelta(minutes=59) < await world.value(latest) <= timedelta(hours=1)
        await world.check(converged=False)
        await world.rows("UPDATE draenei_content.transfers SET next_attempt_at = now()")
        await world.converge()


STATUSES: dict[str, Fault] = {
    **{str(number): http.status(number) for number in (204, 205, 400, 402, 418, 500, 502, 522)},
    **{
        f"{number} with the image": wire(
            lambda it, number=number: replace(it, status=number).framed(), then="keep"
        )
        for number in (201, 202, 203, 206)
    },
    "206 with a part": wire(
        lambda it: replace(it, status=206, body=half(it.body)).framed(
            content_range=f"bytes 0-{len(it.body) // 2 - 1}/{len(it.body)}"
        ),
        then="keep",
    ),
}


@both_ways
@pytest.mark.case("CDN-18")
async def test_only_200_brings_an_image(open_faults: OpenFaults, small_images: Path) -> None:
    async with open_faults(small(small_images, 24), **GIVES_UP) as world:
        given = await given_up(world, STATUSES, in_turn(world)[::-1])
        assert given == dict.fromkeys(STATUSES, (Code.SOURCE_ERROR, TRIES))
        assert set(await reasons(world)) == {f"HTTP {name[:3]}" for name in STATUSES}
        await world.check()


@pytest.mark.case("CDN-18")
async def test_an_answer_to_a_condition_that_was_not_set_is_the_hosts_trouble(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4), **GIVES_UP) as world:
        given = await given_up(world, {"304": http.status(304)})
        assert given == {"304": (Code.SOURCE_ERROR, TRIES)}
        await world.check()


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


@pytest.mark.case("CDN-18")
async def test_answers_that_only_announce_one_are_passed_over(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4), **GIVES_UP) as world:
        flood = wire(lambda answer: EARLY * 500 + answer.framed(), then="keep")
        world.images.on(everything, flood, times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 4)
        assert {await tries(world, wallpaper) for wallpaper in in_turn(world)} == {1}
        await world.check()


@pytest.mark.usefixtures("short_deadline")
@pytest.mark.case("CDN-18")
async def test_announcements_without_end_are_not_listened_to_for_ever(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4), **GIVES_UP) as world:
        flood = dripping(lambda _: (b"", EARLY * 10_000), step=50 * len(EARLY))
        assert await given_up(world, {"it": flood}) == {"it": (Code.SOURCE_ERROR, TRIES)}
        assert (await reasons(world))[0].startswith("not done in")
        await world.check()


# --- The answer breaks the rules of HTTP ---------------------------------------------------------


def headed(*lines: bytes, end: bytes = b"\r\n") -> Fault:
    """Send the image below these lines."""
    head = end.join([*lines, b"", b""])
    return wire(lambda answer: head.replace(b"N", b"%d" % len(answer.body)) + answer.body)


STATUS, LENGTH = OK[:-2], b"Content-Length: N"
UNREADABLE: dict[str, Fault] = {
    "two lengths": headed(STATUS, LENGTH, b"Content-Length: 5"),
    "two equal lengths": headed(STATUS, LENGTH, LENGTH),
    "lengths in a list": headed(STATUS, b"Content-Length: N, N"),
    "length and chunks": headed(STATUS, LENGTH, b"Transfer-Encoding: chunked"),
    "chunks in chunks": headed(STATUS, b"Transfer-Encoding: chunked, chunked"),
    "negative length": headed(STATUS, b"Content-Length: -1"),
    "signed length": headed(STATUS, b"Content-Length: +N"),
    "length in words": headed(STATUS, b"Content-Length: some"),
    "length of 5000 digits": headed(STATUS, b"Content-Length: " + b"9" * 5000),
    "a bare return": headed(STATUS, b"X: a\rb", LENGTH),
    "a nul": headed(STATUS, b"X: a\0b", LENGTH),
    "no colon": headed(STATUS, b"nothing", LENGTH),
    "a field of a megabyte": headed(STATUS, b"X: " + b"x" * 1_000_000, LENGTH),
    "fields of a megabyte": headed(STATUS, *[b"X: x"] * 150_000, LENGTH),
    "no status": headed(b"HTTP/1.1", LENGTH),
    "status of two digits": headed(b"HTTP/1.1 20 OK", LENGTH),
    "status in words": headed(b"HTTP/1.1 yes OK", LENGTH),
    "another version": headed(b"HTTP/9.9 200 OK", LENGTH),
    "another protocol": headed(b"SSH-2.0-OpenSSH_9.9", b""),
}
# Against the rules, and plain all the same; the body is judged as any other.
READ_AS_MEANT: dict[str, Fault] = {
    "bare line feeds": headed(STATUS, LENGTH, end=b"\n"),
    "a space before the colon": headed(STATUS, b"Content-Length : N"),
    "a folded field": headed(STATUS, b"X: a", b" b", LENGTH),
    "empty lines first": headed(b"", b"", STATUS, LENGTH),
}


@pytest.mark.case("CDN-22")
async def test_a_head_that_is_none_is_the_hosts_trouble(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 36), **GIVES_UP) as world:
        first, *others = in_turn(world)[::-1]
        meant = others[len(UNREADABLE) :]
        for wallpaper, fault in zip(meant, READ_AS_MEANT.values(), strict=False):
            world.images.on(of(wallpaper), fault, times=None)
        given = await given_up(world, UNREADABLE, others)
        assert given == dict.fromkeys(UNREADABLE, (Code.SOURCE_ERROR, TRIES))
        assert set(await reasons(world)) == {"ClientResponseError"}
        # The lane waits for the end of a head with bare line feeds, until it knows the host as odd.
        bare, *plain = meant
        assert await tries(world, bare) <= 2
        assert {await tries(world, it) for it in (first, *plain)} == {1}
        await world.check()
