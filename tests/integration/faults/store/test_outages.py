"""The bucket, the credentials, the clock or the way to the store is not as it should be."""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import anyio
import pytest
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Exchange, said
from peers.http import open_peer
from store_faults import (
    MAX_SECONDS,
    SILENCE_SECONDS,
    TRIES_OF_A_RUN,
    aborts,
    after,
    assert_outage,
    begins,
    completes,
    downloads,
    everything,
    heads,
    of_images,
    part,
    puts,
    refusal,
    set_store_options,
    stored,
    uploads,
    xml,
)
from world import EVERYTHING, small

from collector.cli.progress import SilentProgress
from collector.core.runs import RunStatus
from collector.local import LocalS3
from collector.runtime.opening import open_runtime
from collector.store import failures
from collector.store import probe as probes


def address_of(url: str) -> tuple[str, int]:
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    return address.hostname, address.port


@asynccontextmanager
async def opened_anew(world: FaultyWorld, **changes: Any) -> AsyncIterator[FaultyWorld]:
    """Open the runtime as a new process would, with other settings where given."""
    settings = world.settings.model_copy(update=changes)
    async with open_runtime(settings, EVERYTHING, SilentProgress()) as runtime:
        yield replace(world, runtime=runtime, settings=settings)


# --- S3-01, S3-02: the bucket --------------------------------------------------------------------


AT_START = [
    (404, "NoSuchBucket", {}, "does not exist: create it or set BUCKET_NAME"),
    (
        *(301, "PermanentRedirect", {"x_amz_bucket_region": "eu-north-1"}),
        "is in another region (eu-north-1): set AWS_DEFAULT_REGION",
    ),
    (403, "AccessDenied", {}, "is denied: grant s3:ListBucket"),
    (403, "InvalidAccessKeyId", {}, "check AWS_ACCESS_KEY_ID"),
    (403, "SignatureDoesNotMatch", {}, "check AWS_SECRET_ACCESS_KEY"),
]


@pytest.mark.case("S3-01")
async def test_a_bucket_that_is_closed_to_us_is_told_before_anything_is_claimed(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 5)) as world:
        for status, code, headers, remedy in AT_START:
            before = len(world.store.asked)
            world.store.on(everything, refusal(status, code, **headers), times=None)
            async with opened_anew(world) as again:
                await assert_outage(again, await again.run(code), remedy)
            # Of another region the SDK makes sure, with a question of its own.
            assert len(world.store.asked) - before == (2 if status == 301 else 1)
            world.store.heal()
        assert await world.value("SELECT max(fence) FROM draenei_content.transfers") == 0
        assert downloads(world) == 0
        await world.converge()
        assert await stored(world) == sorted(world.truth())


@pytest.mark.case("S3-01")
async def test_what_a_real_store_refuses_is_told_as_well(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        async with opened_anew(world, bucket_name="nobodys-bucket") as elsewhere:
            await assert_outage(elsewhere, await elsewhere.run("elsewhere"), "does not exist")
        async with opened_anew(world, aws_access_key_id="nobody") as nobody:
            await assert_outage(nobody, await nobody.run("nobody"), "check AWS_ACCESS_KEY_ID")
        await world.converge()


@pytest.mark.case("S3-02")
async def test_a_bucket_that_vanishes_in_mid_run_costs_no_item_a_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=2) as world:
        world.store.on(puts, refusal(404, "NoSuchBucket"), times=None, skip=4)
        audit = await world.run()
        await assert_outage(world, audit, "does not exist: create it or set BUCKET_NAME")
        assert world.store.count(puts) in (5, 6), "who is on the way meets it, nobody else"
        # What had just landed when the run ended is found by the next one.
        assert len(await stored(world)) == 4
        assert audit.images_uploaded in (3, 4)
        await world.converge()


@pytest.mark.case("S3-02")
async def test_a_bucket_that_vanishes_under_a_large_image_leaves_its_upload_noted(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        for match in (begins, part(1), completes):
            world.heal()
            world.store.on(match, refusal(404, "NoSuchBucket"), times=None)
            world.store.on(aborts, refusal(404, "NoSuchBucket"), times=None)
            audit = await world.run(f"{len(world.store.asked)}")
            await assert_outage(world, audit, "does not exist")
            noted = await world.value("SELECT upload_id FROM draenei_content.transfers")
            left = [upload.upload_id for upload in await uploads(world)]
            assert (noted in left) == (match is not begins)
        await world.converge()


# --- S3-03, S3-04: a store in trouble, and credentials that end ----------------------------------


BUSY = [(503, "SlowDown"), (500, "InternalError"), (429, "TooManyRequests")]


@pytest.mark.case("S3-03")
async def test_a_burst_of_trouble_is_outlived_within_one_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3), collector_in_flight=1) as world:
        # A rule sees what those before it have let pass: the last try of each image.
        for number, (status, code) in enumerate(BUSY):
            world.store.on(
                puts, refusal(status, code), times=failures.CALL_ATTEMPTS - 1, skip=number
            )
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 3)
        assert world.store.count(puts) == 3 * failures.CALL_ATTEMPTS
        assert downloads(world) == 3, "they are sent again from memory"
        await world.check()


@pytest.mark.case("S3-03")
@pytest.mark.parametrize(("status", "code"), BUSY[:2])
async def test_trouble_for_ever_is_an_outage_and_not_the_items_fault(
    open_faults: OpenFaults, small_images: Path, status: int, code: str
) -> None:
    async with open_faults(small(small_images, 30), collector_in_flight=4) as world:
        world.store.on(puts, refusal(status, code), times=None, skip=3)
        audit = await world.run()
        await assert_outage(world, audit, "the store fails for most images (store_error")
        assert audit.images_uploaded == 3
        tried = Counter(asked.path for asked in filter(puts, world.store.asked))
        assert len(tried) < 30, "the run ends before it has tried them all"
        assert max(tried.values()) <= TRIES_OF_A_RUN * failures.CALL_ATTEMPTS
        await world.converge()


@pytest.mark.case("S3-03")
async def test_a_store_in_trouble_from_the_start_is_not_given_any_work(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        before = len(world.store.asked)
        world.store.on(everything, refusal(503, "SlowDown"), times=None)
        audit = await world.run()
        await assert_outage(world, audit, "the store failed when it was probed")
        assert len(world.store.asked) - before <= probes.MAX_PROBE_ATTEMPTS * failures.CALL_ATTEMPTS
        assert downloads(world) == 0
        await world.converge()


@pytest.mark.case("S3-03")
async def test_a_store_that_goes_down_for_the_last_images_is_an_outage_too(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=2) as world:
        down = refusal(503, "SlowDown")
        world.store.on(lambda _: world.store.count(puts) > 9, down, times=None)
        audit = await world.run()
        await assert_outage(world, audit, "the store")
        assert audit.images_uploaded == 9
        await world.converge()


@pytest.mark.case("S3-03")
async def test_what_was_done_under_a_lasting_error_is_found_by_the_next_try(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        world.store.on(puts, after(said(500, xml("InternalError"))), times=None)
        audit = await world.run()
        assert (audit.status, audit.images_adopted) == (RunStatus.SUCCEEDED, 3)
        assert downloads(world) == 3, "its hash is known, so it is not fetched again"
        await world.check()


ENDED = [
    (400, "ExpiredToken", "renew the credentials"),
    (400, "InvalidToken", "renew the credentials"),
    (403, "AccessDenied", "is denied: grant"),
    (403, "", "is denied: grant"),
]


@pytest.mark.case("S3-04")
async def test_credentials_that_end_in_mid_run_end_the_run(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 12), collector_in_flight=1) as world:
        for number, (status, code, remedy) in enumerate(ENDED):
            refused = refusal(status, code) if code else http.status(status)
            world.store.on(of_images, refused, times=None, skip=2)
            audit = await world.run(f"run {number}")
            await assert_outage(world, audit, remedy)
            assert audit.images_uploaded == 2
            assert world.store.count(puts) == 3 * (number + 1), "asked once, for all"
            world.heal()
        await world.converge()


@pytest.mark.case("S3-04")
async def test_credentials_that_end_under_a_large_image_end_the_run(
    open_faults: OpenFaults, two_parts: Path
) -> None:
    async with open_faults(small(two_parts, 1)) as world:
        for match in (begins, part(2), completes):
            world.heal()
            before = world.store.count(match)
            world.store.on(match, refusal(400, "ExpiredToken"), times=None)
            audit = await world.run(f"{len(world.store.asked)}")
            await assert_outage(world, audit, "renew the credentials")
            assert world.store.count(match) == before + 1
            assert await uploads(world) == []
        await world.converge()


# --- S3-22 to S3-24: clock, connections, the way to the store ------------------------------------


@pytest.mark.case("S3-22")
async def test_a_clock_that_is_wrong_is_told_and_not_tried_again(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 4), collector_in_flight=1) as world:
        skewed = refusal(403, "RequestTimeTooSkewed")
        world.store.on(puts, skewed, times=None, skip=1)
        await assert_outage(world, await world.run("later"), "set the clock")
        assert world.store.count(puts) == 2

        world.store.on(everything, skewed, times=None)
        async with opened_anew(world) as again:
            await assert_outage(again, await again.run("start"), "set the clock")
        await world.converge()


@pytest.mark.case("S3-22")
async def test_a_clock_that_is_wrong_when_the_store_is_probed_is_told(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 2)) as world:
        world.store.on(everything, refusal(403, "RequestTimeTooSkewed"), times=None)
        await assert_outage(world, await world.run(), "set the clock")
        await world.converge()


@pytest.mark.case("S3-23")
async def test_no_more_is_asked_of_the_store_at_once_than_is_set(
    open_faults: OpenFaults, small_images: Path
) -> None:
    now, most = 0, 0

    async def count(exchange: Exchange) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await exchange.relay()
        now -= 1

    async with open_faults(small(small_images, 24), collector_in_flight=3) as world:
        world.store.on(everything, count, times=None)
        assert (await world.run()).images_uploaded == 24
        assert 1 < most <= 3
        await world.check()


@pytest.mark.case("S3-23")
async def test_a_full_pool_of_connections_is_waited_for_and_no_outage(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_store_options(monkeypatch, connections=1, read_seconds=SILENCE_SECONDS)
    async with open_faults(small(small_images, 12), collector_in_flight=6) as world:
        world.store.on(puts, http.hang)
        with anyio.fail_after(MAX_SECONDS):
            audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 12)
        await world.check()


@pytest.mark.case("S3-24")
async def test_connections_that_die_are_made_anew(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 8), collector_in_flight=2) as world:
        world.store.on(puts, http.reset, times=2, skip=2)
        world.store.on(heads, http.reset)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 8)
        assert downloads(world) == 10
        await world.check()


def resolving(monkeypatch: pytest.MonkeyPatch, name: str, ports: list[int]) -> None:
    """Let a name stand for the last one of these ports, as a name of DNS does for addresses."""
    resolve = aiohttp.TCPConnector._resolve_host

    async def resolved(self: Any, host: str, port: int, traces: Any = None) -> Any:
        if host != name:
            return await resolve(self, host, port, traces)
        place = {"hostname": host, "host": "127.0.0.1", "port": ports[-1]}
        return [place | {"family": socket.AF_INET, "proto": 0, "flags": socket.AI_NUMERICHOST}]

    monkeypatch.setattr(aiohttp.TCPConnector, "_resolve_host", resolved)


@pytest.mark.case("S3-24")
async def test_a_name_that_points_elsewhere_in_mid_run_is_followed(
    open_faults: OpenFaults,
    small_images: Path,
    s3_server: LocalS3,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports: list[int] = []
    resolving(monkeypatch, "store.test", ports)

    async with (
        open_faults(small(small_images, 8), collector_in_flight=2) as world,
        open_peer(address_of(s3_server.endpoint_url)) as other,
    ):

        async def move(exchange: Exchange) -> None:
            ports.append(other.port)
            exchange.reset()

        ports.append(world.store.port)
        world.store.on(puts, move, times=None, skip=3)
        async with opened_anew(world, s3_endpoint_url="http://store.test:9000") as named:
            audit = await named.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 8)
        assert len(other.commits) == 5
        await world.check(commits=world.store.commits + other.commits)


@pytest.mark.case("S3-24")
async def test_a_store_that_goes_away_in_mid_run_is_an_outage(
    open_faults: OpenFaults, small_images: Path
) -> None:
    reached = anyio.Event()

    async def seen(exchange: Exchange) -> None:
        reached.set()
        await http.hang(exchange)

    async with open_faults(small(small_images, 4)) as world, AsyncExitStack() as stack:
        way = await stack.enter_async_context(open_peer(address_of(world.store.url)))
        way.on(puts, seen, times=None)

        async def go_away() -> None:
            await reached.wait()
            await stack.aclose()

        async with (
            opened_anew(world, s3_endpoint_url=way.url) as moved,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(go_away)
            await assert_outage(moved, await moved.run(), "no connection (refused or no route)")
        await world.converge()


@pytest.mark.case("S3-24")
async def test_a_store_that_does_not_speak_tls_is_told_and_not_spoken_to(
    open_faults: OpenFaults, small_images: Path, s3_server: LocalS3
) -> None:
    async with open_faults(small(small_images, 2)) as world:
        secure = s3_server.endpoint_url.replace("http:", "https:")
        async with opened_anew(world, s3_endpoint_url=secure) as again:
            await assert_outage(again, await again.run(), "TLS was refused")
        trust = world.bucket._control.trust()
        assert (trust.verify_mode, trust.check_hostname) == (ssl.CERT_REQUIRED, True)
        await world.converge()
