"""What the tests of API faults share: answers to change, and what became of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from faulty_world import FaultyWorld
from peers import http
from peers.exchange import Answer, Asked, Exchange
from peers.http import Fault, Match
from world import small

from collector.core.audit import AuditRow
from collector.core.runs import RunStatus
from collector.simulator import SimulatorOptions, Wallpaper
from collector.simulator.answers import listing_item

Json = dict[str, Any]
Edit = Callable[[Json], object]
JSON = {"content_type": "application/json"}
HTML = {"content_type": "text/html; charset=UTF-8"}
# No wait between the tries of an answer that cannot be read.
AT_ONCE = {"collector_retry_base_seconds": 0}


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
