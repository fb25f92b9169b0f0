"""The API does not answer, refuses, asks for patience, or answers without end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from api_faults import (
    HTML,
    JSON,
    converge_to_all,
    ids_of_page,
    outage_at,
    page,
    pointed,
    problem_of,
    search,
    staged_or_loaded,
    three_pages,
    unread_at,
)
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Answer, Asked, Exchange
from peers.http import Fault, open_peer
from world import EVERYTHING, FAST, small

from collector.cli.progress import SilentProgress
from collector.core.audit import AuditRow
from collector.core.pacing import DEFAULT_PAUSE_SECONDS, MAX_PAUSE_SECONDS, pause_seconds
from collector.core.retry import MAX_BLOCKED, MIN_API_ATTEMPTS
from collector.core.runs import Run, RunStatus, StageName
from collector.http import MAX_REPLY_BYTES
from collector.runtime.opening import RunOptions, open_runtime
from collector.runtime.running import ENRICHMENT, run_all_stages
from collector.stages.api_client import MAX_API_ATTEMPTS, MAX_RATE_LIMITED
from collector.stages.enrich import WALLPAPERS_IN_FLIGHT
from collector.stages.extract import PAGES_IN_FLIGHT

# An outage is waited for 0.36 s.
BRIEFLY = {"collector_retry_base_seconds": 0.002}
# Of Retry-After and its like, so much is really waited.
SCALE = 2e-4


def answered(body: bytes, **headers: str) -> Fault:
    """Answer with status 200 and this body."""
    return http.status(200, body, **(headers or JSON))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that 429s came to, in seconds; SCALE of them is waited."""
    found: list[float] = []

    def shortened(headers: Mapping[str, str], now_epoch_seconds: float) -> float:
        found.append(pause_seconds(headers, now_epoch_seconds))
        return found[-1] * SCALE

    monkeypatch.setattr("collector.stages.api_client.pause_seconds", shortened)
    return found


# --- No answer -----------------------------------------------------------------------------------


async def _plain_word(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a handshake for TLS with plain HTTP."""
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    await writer.drain()
    writer.close()


@asynccontextmanager
async def _nobody_there() -> AsyncIterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    yield f"http://127.0.0.1:{port}/api/v1"


@asynccontextmanager
async def _unknown_name() -> AsyncIterator[str]:
    resolve = socket.getaddrinfo

    def none(host: Any, *rest: Any, **named: Any) -> Any:
        if host == "nowhere":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return resolve(host, *rest, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", none)
        yield "http://nowhere/api/v1"


@asynccontextmanager
async def _no_tls() -> AsyncIterator[str]:
    async with await asyncio.start_server(_plain_word, "127.0.0.1", 0) as server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"


@pytest.mark.case("API-01")
@pytest.mark.parametrize(
    ("place", "problem"),
    [
        pytest.param(_nobody_there, "cannot connect to 127.0.0.1", id="refused"),
        pytest.param(_unknown_name, "the name does not resolve", id="unknown name"),
        pytest.param(_no_tls, "SSL", id="no TLS"),
    ],
)
async def test_an_api_that_cannot_be_reached_fails_the_run(
    open_faults: OpenFaults, small_images: Path, place: Any, problem: str
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        async with place() as url:
            elsewhere = world.settings.model_copy(update={"wallhaven_api_url": url})
            async with open_runtime(elsewhere, EVERYTHING, SilentProgress()) as runtime:
                run = Run("tests", "elsewhere")
                audit = await run_all_stages(runtime, run, FAST, lambda _: None)
        assert audit.status is RunStatus.FAILED
        assert audit.notes is not None
        assert "extract: api: no usable answer for" in audit.notes
        assert problem in audit.notes
        assert MIN_API_ATTEMPTS <= audit.api_requests <= 12
        assert await staged_or_loaded(world) == set()
        await converge_to_all(world)


@pytest.mark.case("API-01")
async def test_an_api_that_goes_away_for_good_ends_the_run_in_time(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images), **BRIEFLY) as world:
        world.api.on(search, http.reset, times=None, skip=1)
        with anyio.fail_after(5):
            audit = await world.run("gone")
        assert audit.status is RunStatus.FAILED
        assert "no usable answer for" in (audit.notes or "")
        assert audit.report["outage_minutes"] > 0
        assert audit.metadata_inserted == audit.images_uploaded > 0, "what had come is stored"
        assert await staged_or_loaded(world) & ids_of_page(world, 2) == set()
        await converge_to_all(world)


@pytest.mark.smoke
@pytest.mark.case("API-02")
@pytest.mark.parametrize("then", ["reset", "close"])
async def test_a_listing_that_breaks_off_is_asked_for_again_as_a_whole(
    open_faults: OpenFaults, small_images: Path, then: str
) -> None:
    cuts = [
        *(http.cut(length, then=then) for length in (0, 1, 700)),
        http.cut(1, then=then, from_end=True),
    ]
    async with open_faults(three_pages(small_images)) as world:
        for number, cut in enumerate(cuts):
            seen = await staged_or_loaded(world)
            assert not seen & ids_of_page(world, 2), "nothing of a part of a page is staged"
            if number < len(cuts) - 1:
                await unread_at(world, 2, cut, f"cut {number}")
        world.heal()
        world.api.asked.clear()
        for cut in cuts:
            world.api.on(page(2), cut)
        audit = await world.run("mended")
        assert audit.status is RunStatus.SUCCEEDED
        assert world.api.count(page(2)) == len(cuts) + 1
        await world.check()
        assert await world.objects() == world.truth()


# --- The rate limit ------------------------------------------------------------------------------


@pytest.mark.case("API-03")
async def test_a_pause_that_is_asked_for_holds_everybody_back(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30, page_size=1)) as world:
        world.api.on(page(9), http.status(429, Retry_After="1"))
        # Each with a client of its own, as two processes have: the database is what they share.
        async with anyio.create_task_group() as runs:
            runs.start_soon(world.stage, StageName.EXTRACT, "one")
            runs.start_soon(world.stage, StageName.EXTRACT, "two")
        times = [asked.at for asked in world.api.asked]
        assert len(times) == 61
        gap, last = max((after - before, number) for number, (before, after) in _pairs(times))
        assert gap > 0.9
        refused_at = next(n for n, asked in enumerate(world.api.asked) if page(9)(asked))
        assert last - refused_at <= 2 * PAGES_IN_FLIGHT, "only what was out may still arrive"
        assert last < len(times) - PAGES_IN_FLIGHT, "there was more to ask for"
        await converge_to_all(world)


def _pairs(times: list[float]) -> list[tuple[int, tuple[float, float]]]:
    return list(enumerate(pairwise(times)))


NOW = "Tue, 24 Nov 2026 10:00:00 GMT"


def _later(retry_after: str, **headers: str) -> Fault:
    return http.status(429, retry_after=retry_after, **headers)


DATES: list[tuple[Fault, float]] = [
    (_later("Tue, 24 Nov 2026 10:00:07 GMT", date=NOW), 7.0),
    (_later("Tuesday, 24-Nov-26 10:00:08 GMT", date=NOW), 8.0),
    (_later("Tue Nov 24 10:00:09 2026", date=NOW), 9.0),
    (_later(NOW, date=NOW), 1.0),
    (_later("Tue, 24 Nov 2026 09:59:59 GMT", date=NOW), DEFAULT_PAUSE_SECONDS),
    (_later("Tue, 24 Nov 2099 10:00:00 GMT", date=NOW), MAX_PAUSE_SECONDS),
    (_later("Tue, 24 Nov 2099 10:00:00 GMT"), MAX_PAUSE_SECONDS),
    (_later("Tue, 24 Nov 1998 10:00:00 GMT"), DEFAULT_PAUSE_SECONDS),
]
TWO = b"HTTP/1.1 429 Many\r\nRetry-After: 7\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n"
NUMBERS: list[tuple[Fault, float]] = [
    (http.status(429), DEFAULT_PAUSE_SECONDS),
    *((_later(text), DEFAULT_PAUSE_SECONDS) for text in ("-5", "nan", "1e9", "soon", "7, 9")),
    (_later("9" * 5000), DEFAULT_PAUSE_SECONDS),
    (_later("0"), 1.0),
    (_later("86400"), MAX_PAUSE_SECONDS),
    (http.raw(TWO, then="keep"), 7.0),
]


@pytest.mark.parametrize(
    "asked_for",
    [
        pytest.param(DATES, marks=pytest.mark.case("API-04"), id="dates"),
        pytest.param(NUMBERS, marks=pytest.mark.case("API-05"), id="numbers and nonsense"),
    ],
)
async def test_a_retry_after_is_taken_at_its_word_within_bounds(
    open_faults: OpenFaults,
    small_images: Path,
    pauses: list[float],
    asked_for: list[tuple[Fault, float]],
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        for refusal, _ in asked_for:
            world.api.on(page(1), refusal)
        audit = await world.run()
        assert pauses == [seconds for _, seconds in asked_for]
        assert audit.status is RunStatus.SUCCEEDED
        assert world.api.count(page(1)) == len(asked_for) + 1
        times = [asked.at for asked in world.api.asked]
        for waited, seconds in zip((b - a for a, b in pairwise(times)), pauses, strict=False):
            assert waited >= seconds * SCALE
        await world.check()


@pytest.mark.case("API-06")
async def test_a_rate_limit_for_ever_ends_the_run_and_it_goes_on_where_it_was(
    open_faults: OpenFaults, small_images: Path, pauses: list[float]
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        audit = await outage_at(world, 1, http.status(429), "never")
        assert f"rate limited {MAX_RATE_LIMITED + 1} times in a row; stopped at" in audit.notes
        assert world.api.count(search) == audit.api_requests == MAX_RATE_LIMITED + 1
        assert pauses == [DEFAULT_PAUSE_SECONDS] * (MAX_RATE_LIMITED + 1)

        late = await outage_at(world, 3, http.status(429), "late")
        assert "search?page=3&" in (late.notes or ""), "where it stopped"
        assert world.api.count(page(3)) <= MAX_RATE_LIMITED + 2
        world.heal()
        world.api.asked.clear()
        assert (await world.run("late")).status is RunStatus.SUCCEEDED
        assert [page(3)(asked) for asked in world.api.asked] == [True], "the others are staged"
        await converge_to_all(world)


# --- What is no answer of the API ----------------------------------------------------------------


@pytest.mark.case("API-07")
@pytest.mark.parametrize("burst", [1, 5])
async def test_a_burst_of_server_errors_costs_one_request_each(
    open_faults: OpenFaults, small_images: Path, burst: int
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        for number in range(burst):
            world.api.on(page(1), http.status((502, 500, 503)[number % 3], b"<html>", **HTML))
        audit = await world.run()
        assert audit.status is RunStatus.SUCCEEDED
        assert world.api.count(page(1)) == burst + 1
        assert audit.api_requests == burst + 3
        await world.check()
        assert await world.objects() == world.truth()


@pytest.mark.case("API-07")
async def test_server_errors_for_ever_are_an_outage(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images), **BRIEFLY) as world:
        audit = await outage_at(world, 1, http.status(500, b"{}", **JSON), "never")
        assert "no usable answer for 0 s (HTTP 500)" in (audit.notes or "")
        assert MIN_API_ATTEMPTS <= audit.api_requests <= 200
        await converge_to_all(world)


@pytest.mark.case("API-08")
@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_refused_ends_the_run_with_one_request(
    open_faults: OpenFaults,
    small_images: Path,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    caplog.set_level("DEBUG", "collector")
    key = "canary0key0of0ours"
    options = replace(three_pages(small_images), api_keys=frozenset({key}))
    async with open_faults(options, wallhaven_api_key=key) as world:
        refusal = http.status(status, b'{"error": "Unauthorized"}', **JSON)
        audit = await outage_at(world, 1, refusal, "refused")
        assert f"HTTP {status}" in (audit.notes or "")
        (asked,) = world.api.asked
        assert asked.headers["x-api-key"] == key
        assert audit.report["outage_minutes"] == 0, "nobody waits for it to pass"
        await world.converge(secrets=[key], texts=[caplog.text])
        assert await world.objects() == world.truth()
        assert all("x-api-key" not in asked.headers for asked in world.images.asked)


def _disguised(status: int = 200, **headers: str) -> Callable[[FaultyWorld], Fault]:
    """Return what sends the true listing under another status and other headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def fault(world: FaultyWorld) -> Fault:
        return http.rewritten(
            lambda answer: Answer(status, {**answer.headers, **named}, pointed(world, answer.body))
        )

    return fault


BLOCKS = {
    "403 and a page": (_disguised(403, **HTML), "the API blocks us", MAX_BLOCKED),
    "200 and a challenge": (
        _disguised(200, cf_mitigated="challenge"),
        "the API blocks us",
        MAX_BLOCKED,
    ),
    "503 and a challenge": (
        _disguised(503, **HTML, cf_mitigated="challenge"),
        "the API blocks us",
        MAX_BLOCKED,
    ),
    "200 and a page": (_disguised(200, **HTML), "a page came instead of JSON", 12),
}


@pytest.mark.case("API-09")
async def test_what_stands_before_the_api_is_never_read_as_a_listing(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        for run_id, (disguised, problem, max_requests) in BLOCKS.items():
            audit = await outage_at(world, 1, disguised(world), run_id)
            assert problem in (audit.notes or ""), run_id
            assert MIN_API_ATTEMPTS <= world.api.count(search) <= max_requests, run_id
            assert await staged_or_loaded(world) == set(), run_id
        await converge_to_all(world)


# --- Redirects, size and time --------------------------------------------------------------------


@pytest.mark.case("API-25")
async def test_no_redirect_of_the_api_is_followed(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_peer() as elsewhere, open_faults(three_pages(small_images)) as world:
        own = f"{world.api.url}/api/v1/search?page=1&q=draenei"
        places = (
            *(elsewhere.url, f"//{elsewhere.host}/", own, "/api/v1/search?page=1", "\u00e9"),
            *("http://169.254.169.254/", "javascript:alert(1)", "http://[", ""),
        )
        for number, place in enumerate(places):
            status = (301, 302, 303, 307, 308)[number % 5]
            redirect = http.status(status, b"{}", location=place, **JSON)
            audit = await outage_at(world, 1, redirect, f"redirect {number}")
            assert f"the API refused the request (HTTP {status})" in (audit.notes or ""), place
            assert len(world.api.asked) == 1, place
        nowhere = await outage_at(world, 1, http.status(302), "nowhere")
        assert nowhere.api_requests == 1
        assert elsewhere.asked == []
        await converge_to_all(world)


GIGABYTES = 2 * 1024**3
# What may lie in buffers between a client that has left and its server, on loopback.
ON_THE_WAY_BYTES = 16 * 1024**2


class Endless:
    """Sends blanks until the client leaves; `sent_bytes` is how many."""

    def __init__(
        self, head: bytes, pause_seconds: float = 0.0, chunk_bytes: int = 256 * 1024
    ) -> None:
        self.sent_bytes = 0
        self._head = head
        self._pause_seconds = pause_seconds
        self._chunk = b" " * chunk_bytes

    async def __call__(self, exchange: Exchange) -> None:
        """Answer as a Fault does."""
        await exchange.send(self._head)
        while exchange.is_open:
            await exchange.send(self._chunk)
            self.sent_bytes += len(self._chunk)
            await asyncio.sleep(self._pause_seconds)


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%s\r\n"


@pytest.mark.case("API-26")
@pytest.mark.parametrize("length", [b"", b"Content-Length: %d\r\n" % GIGABYTES])
async def test_an_answer_without_end_is_cut_off_and_asked_for_again(
    open_faults: OpenFaults, small_images: Path, length: bytes
) -> None:
    endless = Endless(HEAD % length)
    async with open_faults(three_pages(small_images)) as world:
        world.api.on(page(2), endless)
        audit = await world.run()
        assert audit.status is RunStatus.SUCCEEDED
        assert world.api.count(page(2)) == 2
        assert MAX_REPLY_BYTES < endless.sent_bytes < MAX_REPLY_BYTES + ON_THE_WAY_BYTES
        await world.check()
        assert await world.objects() == world.truth()


@pytest.mark.case("API-26")
async def test_a_page_that_is_always_too_large_is_left_out(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.http.client.MAX_REPLY_BYTES", 20_000)
    async with open_faults(three_pages(small_images)) as world:
        await unread_at(world, 2, answered(b" " * 20_001), "large")
        assert "the answer is larger than 20000 bytes" in await problem_of(world, "large")
        assert world.api.count(page(2)) == MAX_API_ATTEMPTS
        await converge_to_all(world)


@pytest.mark.case("API-26")
@pytest.mark.parametrize("kind", ["drip", "silence"])
async def test_an_answer_that_takes_for_ever_is_an_outage(
    open_faults: OpenFaults, small_images: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("collector.http.client.REPLY_TIMEOUT_SECONDS", 0.1)
    drip = Endless(HEAD % b"", pause_seconds=0.01, chunk_bytes=1)
    async with open_faults(three_pages(small_images)) as world:
        audit = await outage_at(world, 1, drip if kind == "drip" else http.hang, kind)
        assert "(no answer in time)" in (audit.notes or "")
        assert world.api.count(search) == audit.api_requests == MIN_API_ATTEMPTS
        monkeypatch.undo()
        await converge_to_all(world)


# --- A door that is closed to guests -------------------------------------------------------------


def details(asked: Asked) -> bool:
    """Say whether it is a question about one wallpaper."""
    return "/w/" in asked.path


async def enriched(world: FaultyWorld, run_id: str) -> AuditRow:
    """Run an enrichment, as a guest."""
    run = Run("tests", run_id)
    return await run_all_stages(world.runtime, run, FAST, lambda _: None, ENRICHMENT)


@pytest.mark.case("API-33")
@pytest.mark.parametrize("known", [False, True], ids=["from the first", "from now on"])
async def test_an_api_that_tells_guests_nothing_marks_no_wallpaper_as_missing(
    open_faults: OpenFaults, small_images: Path, known: bool
) -> None:
    missing = "SELECT count(missing_at) FROM draenei_content.wallpaper_details"
    async with open_faults(small(small_images, 30)) as world:
        await world.run()
        if known:
            limited = RunOptions(limit=6)
            run = Run("tests", "before")
            await run_all_stages(world.runtime, run, limited, lambda _: None, ENRICHMENT)
        world.api.asked.clear()
        world.api.on(details, http.status(401, b'{"error": "Unauthorized"}', **JSON), times=None)
        audit = await enriched(world, "refused")
        assert audit.status is RunStatus.FAILED
        assert "without a key (HTTP 401); set WALLHAVEN_API_KEY" in (audit.notes or "")
        assert world.api.count(details) == WALLPAPERS_IN_FLIGHT + known
        assert await world.value(missing) == 0
        # They come again, and those that were asked about in vain a little later.
        world.heal()
        await world.rows("UPDATE draenei_content.wallpaper_details SET next_attempt_at = now()")
        mended = await enriched(world, "mended")
        assert (mended.status, await world.value(missing)) == (RunStatus.SUCCEEDED, 0)


@pytest.mark.case("API-33")
async def test_wallpapers_that_are_refused_together_are_missing_where_others_are_shown(
    open_faults: OpenFaults, small_images: Path
) -> None:
    missing = "SELECT count(missing_at) FROM draenei_content.wallpaper_details"
    async with open_faults(small(small_images, 12)) as world:
        await world.run()
        await enriched(world, "before")
        await world.rows(
            "UPDATE draenei_content.wallpaper_details SET next_attempt_at = now()"
            " WHERE wallpaper_id <= 8"
        )
        rows = await world.rows("SELECT wallhaven_id FROM draenei_content.wallpapers WHERE id <= 8")
        hidden = tuple(f"/{row['wallhaven_id']}" for row in rows)
        refused = http.status(401, b'{"error": "Unauthorized"}', **JSON)
        world.api.on(lambda asked: asked.path.endswith(hidden), refused, times=None)
        world.api.asked.clear()
        audit = await enriched(world, "hidden")
        assert (audit.status, await world.value(missing)) == (RunStatus.SUCCEEDED, 8)
        # One more for each batch of which none was shown.
        assert world.api.count(details) == 8 + 2
