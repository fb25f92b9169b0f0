"""Faults of the Wallhaven API: what does not answer, what answers nonsense, what lies."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Answer, Asked, Exchange
from peers.http import Fault, Match, open_peer
from world import EVERYTHING, FAST, small

from collector.cli.progress import SilentProgress
from collector.core.audit import AuditRow
from collector.core.errors import Code
from collector.core.pacing import DEFAULT_PAUSE_SECONDS, MAX_PAUSE_SECONDS, pause_seconds
from collector.core.retry import LEAST_TRIES, MOST_BLOCKED
from collector.core.runs import Run, RunStatus, StageName
from collector.http import MAX_REPLY_BYTES
from collector.runtime.opening import RunOptions, open_runtime
from collector.runtime.running import ENRICHMENT, run_all_stages
from collector.simulator import SimulatorOptions, Wallpaper
from collector.simulator.answers import listing_item
from collector.stages.api import API_TRIES, MOST_RATE_LIMITED
from collector.stages.enrich import WALLPAPERS_IN_FLIGHT
from collector.stages.extract import PAGES_IN_FLIGHT

Json = dict[str, Any]
Edit = Callable[[Json], object]

JSON = {"content_type": "application/json"}
HTML = {"content_type": "text/html; charset=UTF-8"}
# No wait between the tries of an answer that cannot be read.
AT_ONCE = {"collector_retry_base_seconds": 0}
# An outage is waited for 0.36 s.
BRIEFLY = {"collector_retry_base_seconds": 0.002}
# Of Retry-After and its like, so much is really waited.
SCALE = 2e-4


# --- The world, its questions and its answers ----------------------------------------------------


def three_pages(images: Path) -> SimulatorOptions:
    """Twelve wallpapers, four on a page."""
    return small(images, 12, page_size=4)


def search(asked: Asked) -> bool:
    """Say whether it is a question for a page."""
    return asked.path.endswith("/search")


def page(number: int) -> Match:
    """Return what knows the questions for one page."""
    return lambda asked: search(asked) and asked.query.startswith(f"page={number}&")


def edited(world: FaultyWorld, edit: Edit) -> Fault:
    """Answer with what `edit` makes of the true listing."""
    return sent(world, lambda listing: json.dumps(edit(listing)).encode())


def sent(world: FaultyWorld, write: Callable[[Json], bytes]) -> Fault:
    """Answer with the bytes that `write` makes of the true listing."""

    def change(answer: Answer) -> Answer:
        return replace(answer, body=write(json.loads(pointed(world, answer.body))))

    return http.rewritten(change)


def pointed(world: FaultyWorld, body: bytes) -> bytes:
    """Return a true body whose images are at the peer."""
    return body.replace(world.simulator.image_host.encode(), world.images.host.encode())


def meta(**values: object) -> Edit:
    """Return what changes fields of `meta`."""
    return lambda listing: listing | {"meta": listing["meta"] | values}


def first_item(**values: object) -> Edit:
    """Return what changes fields of a page's first item."""
    return lambda listing: listing | {"data": [listing["data"][0] | values, *listing["data"][1:]]}


def answered(body: bytes, **headers: str) -> Fault:
    """Answer with status 200 and this body."""
    return http.status(200, body, **(headers or JSON))


async def outage_at(world: FaultyWorld, number: int, fault: Fault, run_id: str) -> AuditRow:
    """Run while one page is answered so for ever; it has failed, and nobody's item is blamed."""
    world.heal()
    world.api.asked.clear()
    world.api.on(page(number), fault, times=None)
    audit = await world.run(run_id)
    assert audit.status is RunStatus.FAILED
    assert audit.notes is not None
    assert audit.notes.startswith("extract: ")
    assert await world.runtime.catalog.dead_letters.open_letters() == []
    return audit


async def unread_at(world: FaultyWorld, number: int, fault: Fault, run_id: str) -> AuditRow:
    """Run while one page is answered so for ever, and others are not: it is left out, and named."""
    world.heal()
    world.api.asked.clear()
    world.api.on(page(number), fault, times=None)
    audit = await world.run(run_id)
    assert audit.status is RunStatus.PARTIAL, run_id
    assert audit.notes == f"pages that could not be read: {number}", run_id
    assert not await staged_or_loaded(world) & ids_of_page(world, number), run_id
    others = {it.id for it in world.simulator.catalogue} - ids_of_page(world, number)
    assert await staged_or_loaded(world) == others, run_id
    assert await world.runtime.catalog.dead_letters.open_letters() == []
    return audit


async def problem_of(world: FaultyWorld, run_id: str) -> str:
    """Return why the run could not read a page."""
    problem = await world.value(
        "SELECT u.problem FROM draenei_content.unreadable_pages AS u"
        " JOIN draenei_content.run_audit AS a ON a.id = u.audit_id WHERE a.run_id = $1",
        run_id,
    )
    assert isinstance(problem, str)
    return problem


async def converge_to_all(world: FaultyWorld) -> None:
    """Converge, and find everything that the source has."""
    await world.converge()
    assert await world.objects() == world.truth()


async def staged_or_loaded(world: FaultyWorld) -> set[str]:
    """Return the ids that have come as far as staging."""
    rows = await world.rows(
        "SELECT wallhaven_id FROM draenei_content.wallpapers"
        " UNION SELECT wallhaven_id FROM draenei_content.staged_wallpapers"
    )
    return {row["wallhaven_id"] for row in rows}


def ids_of_page(world: FaultyWorld, number: int) -> set[str]:
    """Return the ids that truly stand on one of three pages."""
    return {wallpaper.id for wallpaper in list(world.simulator.catalogue)[4 * number - 4 :][:4]}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that 429s came to, in seconds; SCALE of them is waited."""
    found: list[float] = []

    def shortened(headers: Mapping[str, str], now_epoch_seconds: float) -> float:
        found.append(pause_seconds(headers, now_epoch_seconds))
        return found[-1] * SCALE

    monkeypatch.setattr("collector.stages.api.pause_seconds", shortened)
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
        pytest.param(_unknown_name, "the name is not known here", id="unknown name"),
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
        assert LEAST_TRIES <= audit.api_requests <= 12
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
        assert f"rate limited {MOST_RATE_LIMITED + 1} times in a row; stopped at" in audit.notes
        assert world.api.count(search) == audit.api_requests == MOST_RATE_LIMITED + 1
        assert pauses == [DEFAULT_PAUSE_SECONDS] * (MOST_RATE_LIMITED + 1)

        late = await outage_at(world, 3, http.status(429), "late")
        assert "search?page=3&" in (late.notes or ""), "where it stopped"
        assert world.api.count(page(3)) <= MOST_RATE_LIMITED + 2
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
        assert LEAST_TRIES <= audit.api_requests <= 200
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
    "403 and a page": (_disguised(403, **HTML), "the API blocks us", MOST_BLOCKED),
    "200 and a challenge": (
        _disguised(200, cf_mitigated="challenge"),
        "the API blocks us",
        MOST_BLOCKED,
    ),
    "503 and a challenge": (
        _disguised(503, **HTML, cf_mitigated="challenge"),
        "the API blocks us",
        MOST_BLOCKED,
    ),
    "200 and a page": (_disguised(200, **HTML), "a page came instead of JSON", 12),
}


@pytest.mark.case("API-09")
async def test_what_stands_before_the_api_is_never_read_as_a_listing(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        for run_id, (disguised, problem, most_requests) in BLOCKS.items():
            audit = await outage_at(world, 1, disguised(world), run_id)
            assert problem in (audit.notes or ""), run_id
            assert LEAST_TRIES <= world.api.count(search) <= most_requests, run_id
            assert await staged_or_loaded(world) == set(), run_id
        await converge_to_all(world)


# --- Answers that cannot be read -----------------------------------------------------------------


def _with_value(text: str) -> Callable[[Json], bytes]:
    """Return what puts a value into the first item that `json.dumps` would not write."""

    def write(listing: Json) -> bytes:
        marked = first_item(mood="VALUE")(listing)
        return json.dumps(marked).replace('"VALUE"', text).encode()

    return write


def _twice(name: str, times: int = 1) -> Callable[[Json], bytes]:
    """Return what repeats a key, with another value."""

    def write(listing: Json) -> bytes:
        return json.dumps(listing).replace(f'"{name}":', f'"{name}": 1, "{name}":', times).encode()

    return write


def _body(body: bytes) -> Callable[[Json], bytes]:
    return lambda _: body


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Json], bytes]:
    return lambda listing: change(json.dumps(listing).encode())


def _edit(edit: Edit) -> Callable[[Json], bytes]:
    return lambda listing: json.dumps(edit(listing)).encode()


def _without(*names: str) -> Callable[[Json], bytes]:
    return _edit(lambda listing: {key: it for key, it in listing.items() if key not in names})


UNREADABLE: dict[str, dict[str, Callable[[Json], bytes]]] = {
    "API-10": {
        "a page called JSON": _body(b"<html>busy</html>"),
        "nothing": _body(b""),
        "a byte order mark": _bytes(lambda body: b"\xef\xbb\xbf" + body),
        "UTF-16": _bytes(lambda body: body.decode().encode("utf-16")),
    },
    "API-11": {
        "a cut": _bytes(lambda body: body[:-1]),
        "a cut in the middle": _bytes(lambda body: body[: len(body) // 2]),
        "garbage behind it": _bytes(lambda body: body + b"}"),
        "bytes that are no UTF-8": _bytes(lambda body: body.replace(b'"sfw"', b'"\xff\xfe"', 1)),
    },
    "API-12": {
        "NaN": _with_value("NaN"),
        "an infinity": _with_value("-Infinity"),
        "a number that becomes one": _with_value("1e999"),
        "5,000 digits": _with_value("7" * 5000),
        "100,000 lists": _with_value("[" * 100_000 + "]" * 100_000),
        "a field twice": _twice("file_size"),
        "an id twice": _twice("id"),
        "meta twice": _twice("meta"),
        "a field of meta twice": _twice("last_page"),
        "an unknown key twice": _with_value('{"deep": 1, "deep": 2}'),
    },
    "API-13": {
        "data is an object": _edit(lambda listing: listing | {"data": {"0": listing["data"][0]}}),
        "data is null": _edit(lambda listing: listing | {"data": None}),
        "data is missing": _without("data"),
        "meta is missing": _without("meta"),
        "the answer is a list": _edit(lambda listing: listing["data"]),
        "the answer is an error": _body(b'{"error": "it broke"}'),
    },
}


@pytest.mark.parametrize(
    "kind", [pytest.param(case, marks=pytest.mark.case(case), id=case) for case in UNREADABLE]
)
async def test_a_page_that_cannot_be_read_is_never_loaded_and_all_others_are(
    open_faults: OpenFaults, small_images: Path, kind: str
) -> None:
    async with open_faults(three_pages(small_images), **AT_ONCE) as world:
        for run_id, write in UNREADABLE[kind].items():
            await unread_at(world, 2, sent(world, write), run_id)
            problem = await problem_of(world, run_id)
            assert f"no usable answer in {API_TRIES} tries" in problem, run_id
            assert world.api.count(page(2)) == API_TRIES, run_id
        await converge_to_all(world)


@pytest.mark.parametrize(
    "kind", [pytest.param(case, marks=pytest.mark.case(case), id=case) for case in UNREADABLE]
)
async def test_an_answer_that_cannot_be_read_once_costs_one_request(
    open_faults: OpenFaults, small_images: Path, kind: str
) -> None:
    unreadable = list(UNREADABLE[kind].values())[: API_TRIES - 1]
    async with open_faults(three_pages(small_images), **AT_ONCE) as world:
        for write in unreadable:
            world.api.on(page(2), sent(world, write))
        audit = await world.run()
        assert audit.status is RunStatus.SUCCEEDED
        assert world.api.count(page(2)) == len(unreadable) + 1
        assert audit.api_requests == len(unreadable) + 3
        await world.check()
        assert await world.objects() == world.truth()


@pytest.mark.case("API-10")
async def test_json_is_utf_8_whatever_its_label_says(
    open_faults: OpenFaults, small_images: Path
) -> None:
    labels = ("application/json; charset=iso-8859-1", "text/plain; charset=ascii", "image/png", "")
    source = "SELECT source FROM draenei_content.wallpapers WHERE wallhaven_id = $1"
    async with open_faults(small(small_images, 3)) as world:
        first = world.simulator.catalogue[0]
        for number, label in enumerate(labels):
            text = f"\u81ea\u7531 \u00e9 {number}"
            world.api.on(page(1), _labelled(world, label, text))
            audit = await world.run(label or "none", RunOptions(refresh=True))
            assert audit.status is RunStatus.SUCCEEDED, label
            assert await world.value(source, first.id) == text, label
        assert world.api.count(search) == len(labels)
        await world.check()
        assert await world.objects() == world.truth()


def _labelled(world: FaultyWorld, label: str, source: str) -> Fault:
    def change(answer: Answer) -> Answer:
        listing = first_item(source=source)(json.loads(pointed(world, answer.body)))
        return Answer(
            200, {"content-type": label}, json.dumps(listing, ensure_ascii=False).encode()
        )

    return http.rewritten(change)


@pytest.fixture
def no_collections() -> Iterator[None]:
    """No collection of garbage: at the deepest place the loop guard's callback has no room left."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.case("API-12")
@pytest.mark.usefixtures("no_collections")
async def test_nesting_is_either_read_or_refused_however_deep(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3), **AT_ONCE) as world:
        for depth in (10, 100, 200, 300, 400, 500, 700, 900, 950, 980, 1000, 2000):
            nested = _with_value("[" * depth + "]" * depth)
            world.heal()
            world.api.on(search, sent(world, nested), times=None)
            audit = await world.run(f"depth {depth}", RunOptions(refresh=True))
            if depth <= 100:
                assert audit.status is RunStatus.SUCCEEDED, depth
            elif depth >= 1000 or audit.status is not RunStatus.SUCCEEDED:
                assert audit.status is RunStatus.FAILED, depth
                assert "no usable answer" in (audit.notes or ""), depth
        await converge_to_all(world)


# --- Items that cannot become rows ---------------------------------------------------------------

BASE: Json = {"path": "https://w.wallhaven.cc/full/aa/wallhaven-aaaaaa.jpg"}
LOOK_ALIKE = "\u0430\u0430\u0430\u0430"  # Cyrillic
LARGEST_FILE = 2**40
TEXTS = ("url", "short_url", "source", "purity", "category", "resolution", "ratio", "file_type")


def _changed(number: int, **values: object) -> Json:
    return BASE | {"id": f"changed{number}"} | values


REJECTED: dict[str, list[tuple[object, Code]]] = {
    "API-14": [
        (item, Code.INVALID_METADATA)
        for item in (None, "text", "", ["list"], [], 7, 1.5, True, {}, [[{}]])
    ],
    "API-15": [
        (BASE, Code.INVALID_METADATA),
        (BASE | {"id": None}, Code.INVALID_METADATA),
        ({"id": "changed1"}, Code.INVALID_METADATA),
        ({"id": "changed2", "path": None}, Code.INVALID_METADATA),
        ({"id": "changed3", "path": ""}, Code.INVALID_METADATA),
        ({"id": "changed4", "path": "x" * 100_000}, Code.INVALID_METADATA),
        ({"id": "changed5", "path": "<script>\u2028\u0007"}, Code.INVALID_METADATA),
    ],
    "API-16": [
        (BASE | {"id": ""}, Code.INVALID_METADATA),
        (BASE | {"id": 7}, Code.INVALID_METADATA),
        (BASE | {"id": True}, Code.INVALID_METADATA),
        *(
            (BASE | {"id": bad_id}, Code.BAD_ID)
            for bad_id in (
                *("a" * 17, "a" * 10_000, "../x", "a/b", "A%2e", LOOK_ALIKE, "abc123\n"),
                *(" abc123", "abc\x00", "\ud800", ".", "\u0661\u0662\u0663"),
            )
        ),
    ],
    "API-17": [
        (_changed(number, file_size=size), Code.INVALID_METADATA)
        for number, size in enumerate((-1, 0, "123", 1.5, 1.0, True, 2**63, LARGEST_FILE + 1, []))
    ],
    "API-18": [
        *(
            (_changed(number, **{name: "a\x00b"}), Code.INVALID_METADATA)
            for number, name in enumerate(TEXTS)
        ),
        *(
            (_changed(20 + number, **{name: "a\ud800b"}), Code.INVALID_METADATA)
            for number, name in enumerate(TEXTS)
        ),
        (_changed(40, path="https://w.wallhaven.cc/\x00.jpg"), Code.INVALID_METADATA),
        (_changed(41, path="https://w.wallhaven.cc/\udfff.jpg"), Code.INVALID_METADATA),
        (_changed(42, colors=["\x00"]), Code.INVALID_METADATA),
        (_changed(43, colors=["\ud800"]), Code.INVALID_METADATA),
        (_changed(44, thumbs={"large": "\x00"}), Code.INVALID_METADATA),
        (_changed(45, created_at="\ud800"), Code.INVALID_METADATA),
        (_changed(46, **{"\ud800": "a name"}), Code.INVALID_METADATA),
    ],
}


@pytest.mark.parametrize(
    "kind", [pytest.param(case, marks=pytest.mark.case(case), id=case) for case in REJECTED]
)
async def test_a_bad_item_is_kept_with_its_reason_and_the_others_are_stored(
    open_faults: OpenFaults, small_images: Path, kind: str
) -> None:
    rejected = REJECTED[kind]

    def with_them(listing: Json) -> object:
        return listing | {"data": [*(item for item, _ in rejected), *listing["data"]]}

    tolerant = {"collector_max_dead_percent": 100}
    async with open_faults(small(small_images, 20), **tolerant) as world:
        world.api.on(page(1), edited(world, with_them), times=None)
        audit = await world.run()
        assert audit.status is RunStatus.PARTIAL
        assert (audit.metadata_inserted, audit.metadata_invalid) == (20, len(rejected))
        assert world.api.count(search) == 1, "a bad item is no reason to ask again"
        letters = await world.runtime.catalog.dead_letters.open_letters()
        assert sorted(it.code for it in letters) == sorted(code for _, code in rejected)
        assert {it.stage for it in letters} == {StageName.LOAD}
        raws = await world.rows("SELECT raw FROM draenei_content.dead_letters")
        assert all(it["raw"].isascii() and len(it["raw"]) <= 4000 for it in raws)
        assert await world.objects() == world.truth()
        await world.check()


@pytest.mark.case("API-17")
async def test_a_size_that_is_not_told_is_no_obstacle(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        world.api.on(page(1), edited(world, first_item(file_size=None)))
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 3)
        assert await world.objects() == world.truth()
        await world.check()


@pytest.mark.case("API-18")
async def test_what_no_database_holds_is_replaced_where_no_column_needs_it(
    open_faults: OpenFaults, small_images: Path
) -> None:
    odd = {"mood\x00": "a\x00b", "half": ["\udc00\ud800"], "deep": {"\ud800": {"\x00": 1}}}

    def with_them(listing: Json) -> object:
        return meta(**odd)(first_item(**odd)(listing))

    async with open_faults(small(small_images, 3)) as world:
        world.api.on(page(1), edited(world, with_them))
        audit = await world.run()
        assert (audit.status, audit.metadata_inserted) == (RunStatus.SUCCEEDED, 3)
        raw = "SELECT raw ->> $1 FROM draenei_content.wallpapers WHERE wallhaven_id = $2"
        first = world.simulator.catalogue[0].id
        assert await world.value(raw, "mood\ufffd", first) == "a\ufffdb"
        assert await world.objects() == world.truth()
        await world.check()


# --- Lists that move, and lists that lie ---------------------------------------------------------


@pytest.mark.case("API-19")
async def test_an_item_that_stands_twice_on_a_page_is_one_row_and_the_last_one_wins(
    open_faults: OpenFaults, small_images: Path
) -> None:
    def twice(listing: Json) -> object:
        first, second, *others = listing["data"]
        older, newer = first | {"source": "older"}, first | {"source": "newer"}
        return listing | {"data": [older, second, second, *others, newer]}

    async with open_faults(small(small_images, 5)) as world:
        world.api.on(page(1), edited(world, twice))
        audit = await world.run()
        assert audit.status is RunStatus.SUCCEEDED
        assert (audit.metadata_inserted, audit.report["duplicates"]) == (5, 2)
        first = world.simulator.catalogue[0].id
        source = "SELECT source FROM draenei_content.wallpapers WHERE wallhaven_id = $1"
        assert await world.value(source, first) == "newer"
        assert world.images.count(lambda asked: first in asked.path) == 1
        await world.check()
        assert await world.objects() == world.truth()


def moving(world: FaultyWorld, before: Sequence[Wallpaper], after: Sequence[Wallpaper]) -> Fault:
    """Answer from a list that changes once its first page has been read."""
    lists = [before]

    async def fault(exchange: Exchange) -> None:
        number = int(exchange.asked.query.split("&")[0].removeprefix("page="))
        listing = listed(world, lists[-1], number)
        lists.append(after)
        await exchange.answer(http.said(200, json.dumps(listing).encode(), **JSON))

    return fault


def listed(world: FaultyWorld, wallpapers: Sequence[Wallpaper], number: int) -> Json:
    """Return a page of four of these wallpapers."""
    of_page = wallpapers[4 * number - 4 : 4 * number]
    return {
        "data": [listing_item(it, world.images.url) for it in of_page],
        "meta": {
            "current_page": number,
            "last_page": -(-len(wallpapers) // 4),
            "per_page": 4,
            "total": len(wallpapers),
            "query": "draenei",
            "seed": None,
        },
    }


@pytest.mark.case("API-20")
async def test_an_item_that_moves_onto_the_next_page_counts_once(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        everything = list(world.simulator.catalogue)
        world.api.on(search, moving(world, everything[1:], everything), times=None)
        audit = await world.run()
        assert audit.status is RunStatus.SUCCEEDED
        assert (audit.metadata_inserted, audit.report["duplicates"]) == (11, 1)
        assert world.images.count(lambda asked: True) == 11
        await converge_to_all(world)
        assert world.images.count(lambda asked: True) == 12


@pytest.mark.case("API-21")
async def test_an_item_that_moved_up_unseen_is_found_by_the_next_run(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        everything = list(world.simulator.catalogue)
        world.api.on(search, moving(world, everything, everything[1:]), times=None)
        audit = await world.run()
        assert audit.metadata_inserted == 11
        assert everything[4].id not in await staged_or_loaded(world)
        await converge_to_all(world)


@pytest.mark.case("API-21")
async def test_a_daily_run_goes_back_up_where_the_list_has_shrunk(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        everything = list(world.simulator.catalogue)
        old = everything[8:]
        world.api.on(search, moving(world, old, old), times=1)
        assert (await world.run("yesterday")).metadata_inserted == 4
        world.api.on(search, moving(world, everything, everything[1:]), times=None)
        today = await world.run("today")
        assert today.status is RunStatus.SUCCEEDED
        assert today.metadata_inserted == 8, "nothing is missed"
        await converge_to_all(world)


MAX_PAGES = 100


@pytest.mark.case("API-22")
@pytest.mark.parametrize(
    ("edit", "requests"),
    [
        # Of the last one nothing may well be all there is: it is not asked for again.
        pytest.param(meta(last_page=4), 3 + 1, id="one more"),
        pytest.param(meta(last_page=6), 3 + 2 * 2, id="large"),
        pytest.param(meta(last_page=2**31 - 1), 3 + 2 * 2, id="largest"),
        pytest.param(
            lambda it: meta(last_page=it["meta"]["current_page"] + 3)(it), 3 + 2 * 2, id="growing"
        ),
    ],
)
async def test_a_last_page_that_never_comes_ends_with_two_empty_pages_and_is_told(
    open_faults: OpenFaults, small_images: Path, edit: Edit, requests: int
) -> None:
    async with open_faults(three_pages(small_images), wallhaven_max_pages=MAX_PAGES) as world:
        world.api.on(search, edited(world, edit), times=None)
        audit = await world.run()
        is_told = "pages that came short: [" in (audit.notes or "")
        assert is_told == (requests > 4)
        assert audit.status is (RunStatus.PARTIAL if is_told else RunStatus.SUCCEEDED)
        assert world.api.count(search) == audit.api_requests == requests
        assert await world.objects() == world.truth()
        await converge_to_all(world)


@pytest.mark.case("API-22")
async def test_a_last_page_that_is_no_number_is_no_answer(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images), **AT_ONCE) as world:
        for wrong in ("three", -1, None, 2**31, 3.0, True, "\u0663"):
            fault = edited(world, meta(last_page=wrong))
            audit = await outage_at(world, 1, fault, f"last page {wrong!r:.9}")
            assert "meta: last_page: " in (audit.notes or ""), wrong
            assert world.api.count(search) == API_TRIES, wrong
        world.heal()
        world.api.on(search, edited(world, meta(last_page="3", total="12")), times=None)
        assert (await world.run("digits")).status is RunStatus.SUCCEEDED
        await world.check()
        assert await world.objects() == world.truth()


@pytest.mark.case("API-22")
@pytest.mark.parametrize("last_page", [0, 2])
async def test_a_last_page_before_the_end_hides_nothing_for_good(
    open_faults: OpenFaults, small_images: Path, last_page: int
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        world.api.on(search, edited(world, meta(last_page=last_page)), times=None)
        audit = await world.run()
        is_whole = await world.objects() == world.truth()
        await converge_to_all(world)
        assert is_whole or audit.status is not RunStatus.SUCCEEDED, "it said 12 and showed fewer"


REPEATS: dict[str, Callable[[Json, Json], Json]] = {
    "verbatim": lambda first, _: first,
    "with the right number": lambda first, true: first | {"meta": true["meta"]},
    "without a number": lambda first, true: (
        first | {"meta": {key: it for key, it in true["meta"].items() if key != "current_page"}}
    ),
}


@pytest.mark.case("API-23")
@pytest.mark.parametrize("how", REPEATS)
async def test_a_page_that_comes_for_every_page_is_noticed(
    open_faults: OpenFaults, small_images: Path, how: str
) -> None:
    pages: list[Json] = []

    def repeat(listing: Json) -> object:
        pages.append(listing)
        return REPEATS[how](pages[0], listing)

    async with open_faults(three_pages(small_images)) as world:
        world.api.on(search, edited(world, repeat), times=None)
        audit = await world.run()
        assert world.api.count(search) <= 5
        assert await staged_or_loaded(world) == ids_of_page(world, 1)
        await converge_to_all(world)
        assert audit.status is not RunStatus.SUCCEEDED, "it said 12 and showed 4"


@pytest.mark.case("API-24")
async def test_what_meta_says_beside_the_numbers_never_matters(
    open_faults: OpenFaults, small_images: Path
) -> None:
    queries = ({"id": 1, "tag": "draenei"}, {}, {"id": None}, [], 7, True, "", "x" * 5000, "\ud800")
    seeds = (None, 7, {}, [], "abc123", "\x00", "x" * 5000)
    values = [*({"query": it} for it in queries), *({"seed": it} for it in seeds)]
    async with open_faults(small(small_images, 3)) as world:
        for number, changed in enumerate(values):
            world.heal()
            world.api.on(search, edited(world, meta(**changed)), times=None)
            audit = await world.run(f"run {number}", RunOptions(refresh=True))
            assert (audit.status, audit.api_requests) == (RunStatus.SUCCEEDED, 1), changed
            assert audit.metadata_updated == 0, changed
        await world.check()
        assert await world.objects() == world.truth()


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
        assert world.api.count(page(2)) == API_TRIES
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
        assert world.api.count(search) == audit.api_requests == LEAST_TRIES
        monkeypatch.undo()
        await converge_to_all(world)


# --- What was asked for, and what had come before ------------------------------------------------


@pytest.mark.case("API-27")
@pytest.mark.parametrize("extension", ["jpg", "png"])
async def test_a_stored_image_keeps_key_and_address_when_its_listing_moves(
    open_faults: OpenFaults, small_images: Path, extension: str
) -> None:
    columns = "SELECT wallhaven_id, url, file_type, s3_key FROM draenei_content.wallpapers"
    pending = "SELECT pending_url FROM draenei_content.wallpapers WHERE wallhaven_id = $1"
    async with open_faults(small(small_images, 4)) as world:
        await world.run("first")
        before = await world.rows(f"{columns} ORDER BY id")
        moved = f"{world.images.url}/full/zz/moved.{extension}"
        world.api.on(search, edited(world, first_item(path=moved)), times=None)
        second, third = await world.run("second"), await world.run("third")
        assert await world.rows(f"{columns} ORDER BY id") == before
        assert await world.value(pending, world.simulator.catalogue[0].id) == moved
        assert (second.metadata_updated, third.metadata_updated) == (1, 0)
        assert world.images.count(lambda asked: True) == 4, "nothing is fetched again"
        await converge_to_all(world)


@pytest.mark.case("API-27")
async def test_an_image_that_is_not_stored_yet_is_fetched_from_where_it_moved(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async def moved(exchange: Exchange) -> None:
        old = exchange.asked.target.removeprefix("/moved")
        await exchange.answer(await exchange.forward(replace(exchange.asked, target=old)))

    def move(listing: Json) -> object:
        paths = [it["path"].removeprefix(world.images.url) for it in listing["data"]]
        items = zip(listing["data"], paths, strict=True)
        moved_items = [it | {"path": f"{world.images.url}/moved{path}"} for it, path in items]
        return listing | {"data": moved_items}

    async with open_faults(small(small_images, 4)) as world:
        await world.run("first", RunOptions(limit=1))
        world.images.on(lambda asked: asked.path.startswith("/moved"), moved, times=None)
        world.api.on(search, edited(world, move), times=None)
        assert (await world.run("second")).images_uploaded == 3
        assert world.images.count(lambda asked: asked.path.startswith("/moved")) == 3
        both = "SELECT count(*) FILTER (WHERE url LIKE '%/moved/%'), count(pending_url)"
        (counts,) = await world.rows(f"{both} FROM draenei_content.wallpapers")
        assert tuple(counts) == (3, 1), "each row has the address that its bytes came from"
        await world.check()
        assert await world.objects() == world.truth()


OUTSIDE = {"purity": {"purity": "nsfw"}, "categories": {"category": "people"}}


@pytest.mark.case("API-28")
@pytest.mark.parametrize("parameter", OUTSIDE)
async def test_a_page_with_something_that_was_not_asked_for_is_never_loaded(
    open_faults: OpenFaults, small_images: Path, parameter: str
) -> None:
    edit = first_item(**OUTSIDE[parameter])
    async with open_faults(three_pages(small_images), wallhaven_categories="110") as world:
        audit = await outage_at(world, 1, edited(world, edit), "always")
        wrong = f"the API did not heed what was asked for: {parameter}: 1 of 4 items"
        assert wrong in (audit.notes or "")
        assert world.api.count(search) == 2, "asked once more, and believed then"
        assert (audit.metadata_inserted, await staged_or_loaded(world)) == (0, set())
        world.heal()
        world.api.on(page(1), edited(world, edit))
        once = await world.run("once")
        assert once.status is RunStatus.SUCCEEDED
        await world.check()
        stored = await world.rows("SELECT purity, category FROM draenei_content.wallpapers")
        assert {(it["purity"], it["category"] == "people") for it in stored} == {("sfw", False)}


@pytest.mark.case("API-28")
async def test_a_word_that_is_not_known_contradicts_nothing(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3)) as world:
        world.api.on(search, edited(world, first_item(purity=None, category="new")), times=None)
        assert (await world.run()).status is RunStatus.SUCCEEDED
        assert await world.objects() == world.truth()
        await world.check()


# --- Pages that cannot be read while others can --------------------------------------------------

REFUSALS: dict[str, Fault] = {
    **{
        f"HTTP {status}": http.status(status, b"{}", **JSON) for status in (400, 403, 404, 410, 422)
    },
    "a redirect": http.status(302, b"{}", location="/", **JSON),
    "HTTP 500": http.status(500, b"{}", **JSON),
    "a page": http.status(200, b"<html>", **HTML),
    "a reset": http.reset,
}


@pytest.mark.case("API-29")
async def test_a_page_that_alone_is_refused_or_not_answered_is_left_out_and_read_later(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        for problem, fault in REFUSALS.items():
            audit = await unread_at(world, 2, fault, problem)
            assert audit.missing_s3_after_run == 0, problem
            # A connection that was reset is opened once more by the client itself.
            assert world.api.count(page(2)) <= 2 * (LEAST_TRIES + 1), problem
        await converge_to_all(world)


@pytest.mark.case("API-29")
async def test_a_page_that_a_daily_run_cannot_read_is_a_gap_that_the_next_one_closes(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        old = list(world.simulator.catalogue)[8:]
        world.api.on(search, moving(world, old, old), times=1)
        assert (await world.run("yesterday")).metadata_inserted == 4
        await unread_at(world, 2, http.status(400, b"{}", **JSON), "today")
        # It goes on where it was, and does not take the page for read.
        again = await world.run("today")
        assert (again.status, again.notes) == (RunStatus.PARTIAL, "pages that could not be read: 2")
        await converge_to_all(world)


@pytest.mark.case("API-29")
async def test_a_key_that_is_refused_on_the_way_is_no_page_that_cannot_be_read(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        audit = await outage_at(world, 2, http.status(401, b"{}", **JSON), "refused")
        assert "HTTP 401" in (audit.notes or "")
        assert await world.value("SELECT count(*) FROM draenei_content.unreadable_pages") == 0
        await converge_to_all(world)


@pytest.mark.case("API-29")
async def test_a_source_of_which_only_the_first_page_can_be_read_fails_the_run(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 60, page_size=2)) as world:
        refused = http.status(400, b"{}", **JSON)
        world.api.on(lambda it: search(it) and not page(1)(it), refused, times=None)
        audit = await world.run()
        assert audit.status is RunStatus.FAILED
        assert "pages given up" in (audit.notes or "")
        assert audit.images_uploaded == 2, "what could be read is stored"
        assert world.api.count(search) < 60
        await converge_to_all(world)


@pytest.mark.case("API-30")
@pytest.mark.parametrize("known", [False, True], ids=["first reading", "daily run"])
async def test_a_page_that_has_fallen_off_the_end_holds_nobody_up(
    open_faults: OpenFaults, small_images: Path, known: bool
) -> None:
    """The last page goes while the run reads, and the API refuses it from then on."""
    async with open_faults(three_pages(small_images)) as world:
        everything = list(world.simulator.catalogue)
        if known:
            # A watermark that is gone by the time of the run: it reads to the end.
            gone = everything[:1]
            world.api.on(search, moving(world, gone, gone), times=1)
            await world.run("yesterday")
            everything = everything[1:]
        world.heal()
        lost = 5 if known else 4
        world.api.on(search, falling_off(world, everything, lost), times=None)
        audit = await world.run("today")
        assert (audit.status, audit.notes) == (RunStatus.SUCCEEDED, None)
        assert await world.value("SELECT count(*) FROM draenei_content.unreadable_pages") == 0
        if known:
            assert {it.id for it in everything[lost:]} <= await staged_or_loaded(world)
        await converge_to_all(world)


@pytest.mark.case("API-30")
async def test_a_run_that_goes_on_where_the_list_ends_earlier_now_comes_to_its_end(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(three_pages(small_images)) as world:
        everything = list(world.simulator.catalogue)
        await outage_at(world, 3, http.status(401, b"{}", **JSON), "today")
        world.heal()
        world.api.asked.clear()
        world.api.on(page(3), falling_off(world, everything, 4), times=None)
        world.api.on(search, falling_off(world, everything[4:], 0), times=None)
        audit = await world.run("today")
        assert (audit.status, audit.notes) == (RunStatus.SUCCEEDED, None)
        # Not at all if page 2, read first, said where the list ends.
        assert world.api.count(page(3)) <= 1
        await converge_to_all(world)


@pytest.mark.case("API-29")
async def test_a_question_without_filters_that_is_refused_blames_no_page(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(
        small(small_images, 60, page_size=4), wallhaven_colors="660000"
    ) as world:
        world.api.on(
            lambda asked: search(asked) and "colors=" not in asked.query,
            http.status(400, b"{}", **JSON),
            times=None,
        )
        audit = await world.run()
        assert audit.status is RunStatus.FAILED
        assert "the API refused the request (HTTP 400)" in (audit.notes or "")
        assert world.api.count(lambda asked: "colors=" not in asked.query) == 1
        assert await world.value("SELECT count(*) FROM draenei_content.unreadable_pages") == 0


def falling_off(world: FaultyWorld, wallpapers: Sequence[Wallpaper], lost: int) -> Fault:
    """Answer from a list that loses its first items before its last page is asked for."""
    last_page = -(-len(wallpapers) // 4)
    lists = [wallpapers]

    async def fault(exchange: Exchange) -> None:
        number = int(exchange.asked.query.split("&")[0].removeprefix("page="))
        if number == last_page:
            lists.append(wallpapers[lost:])
        if number > -(-len(lists[-1]) // 4):
            await exchange.answer(http.said(400, b'{"error": "Bad Request"}', **JSON))
        else:
            listing = listed(world, lists[-1], number)
            await exchange.answer(http.said(200, json.dumps(listing).encode(), **JSON))

    return fault


# --- A search that matches nothing ---------------------------------------------------------------


@pytest.mark.case("API-31")
async def test_a_search_that_matches_nothing_says_so(
    open_faults: OpenFaults, small_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_faults(three_pages(small_images), wallhaven_query="+nothing") as world:
        audit = await world.run()
        assert (audit.status, audit.metadata_inserted) == (RunStatus.SUCCEEDED, 0)
        assert "the search matches nothing: wallhaven?" in (audit.notes or "")
        assert "nothing" in (audit.notes or "")
        assert any("the search matches nothing" in text for text in caplog.messages)


# --- A door that is closed to guests --------------------------------------------------------------


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
