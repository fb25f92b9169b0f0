"""Answers of the API that cannot be read, always or once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from api_faults import (
    AT_ONCE,
    HTML,
    JSON,
    Edit,
    Json,
    converge_to_all,
    first_item,
    listed,
    moving,
    outage_at,
    page,
    pointed,
    problem_of,
    search,
    sent,
    staged_or_loaded,
    three_pages,
    unread_at,
)
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Answer, Exchange
from peers.http import Fault
from world import small

from collector.core.retry import MIN_API_ATTEMPTS
from collector.core.runs import RunStatus
from collector.runtime.opening import RunOptions
from collector.simulator import Wallpaper
from collector.sources.wallhaven.payload import MAX_NESTING
from collector.stages.api_client import MAX_API_ATTEMPTS

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
            assert f"no usable answer in {MAX_API_ATTEMPTS} attempts" in problem, run_id
            assert world.api.count(page(2)) == MAX_API_ATTEMPTS, run_id
        await converge_to_all(world)


@pytest.mark.parametrize(
    "kind", [pytest.param(case, marks=pytest.mark.case(case), id=case) for case in UNREADABLE]
)
async def test_an_answer_that_cannot_be_read_once_costs_one_request(
    open_faults: OpenFaults, small_images: Path, kind: str
) -> None:
    unreadable = list(UNREADABLE[kind].values())[: MAX_API_ATTEMPTS - 1]
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


# The list, its `data` and the item are around the value.
OUTER_LEVELS = 3


@pytest.mark.case("API-12")
async def test_nesting_is_either_read_or_refused_however_deep(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3), **AT_ONCE) as world:
        for depth in (10, 90, 100, 300, 950, 1000, 2000):
            nested = _with_value("[" * depth + "]" * depth)
            world.heal()
            world.api.on(search, sent(world, nested), times=None)
            audit = await world.run(f"depth {depth}", RunOptions(refresh=True))
            if depth < MAX_NESTING - OUTER_LEVELS:
                assert audit.status is RunStatus.SUCCEEDED, depth
            else:
                assert audit.status is RunStatus.FAILED, depth
                assert "no usable answer" in (audit.notes or ""), depth
        await converge_to_all(world)


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
            assert world.api.count(page(2)) <= 2 * (MIN_API_ATTEMPTS + 1), problem
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
