"""What the tests of image faults share: requests, misbehaviour, results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import pytest
from faulty_world import FaultyWorld
from peers import http
from peers.exchange import Answer, Asked, Exchange
from peers.http import Fault, Match

from collector.simulator import Hooks, Wallpaper

OK = b"HTTP/1.1 200 OK\r\n"
# An item is tried so often in a run; with as many in all, it is given up in the first one.
TRIES = 2
GIVES_UP = {"collector_max_attempts": TRIES, "collector_max_dead_percent": 100}
ONE_BY_ONE = {"collector_in_flight": 1}
# The API says of no image how large it is: bodies are then bounded by the settings alone.
SIZE_UNKNOWN = Hooks(listing=lambda items: [item | {"file_size": None} for item in items])
Way = str
both_ways = pytest.mark.usefixtures("way")


def of(wallpaper: Wallpaper) -> Match:
    return lambda asked: f"-{wallpaper.id}." in asked.path


def of_part(number: int) -> Match:
    return lambda asked: "/wallpapers/" in asked.path and f"partNumber={number}&" in asked.query


def everything(_: Asked) -> bool:
    return True


def in_turn(world: FaultyWorld) -> list[Wallpaper]:
    """Return all wallpapers in the order in which they are claimed."""
    return sorted(world.simulator.catalogue, key=lambda wallpaper: wallpaper.id)


def of_kind(world: FaultyWorld, extension: str) -> list[Wallpaper]:
    return [wallpaper for wallpaper in in_turn(world) if wallpaper.extension == extension]


def key_of(wallpaper: Wallpaper) -> str:
    return f"wallpapers/{wallpaper.id}.{wallpaper.extension}"


def body_of(world: FaultyWorld, wallpaper: Wallpaper) -> bytes:
    return b"".join(world.simulator.catalogue.body(wallpaper))


async def codes(world: FaultyWorld) -> dict[str, tuple[str, int]]:
    """Return code and attempts of each open dead letter, by wallpaper."""
    letters = await world.runtime.catalog.dead_letters.open_letters()
    return {str(letter.wallhaven_id): (letter.code, letter.attempts) for letter in letters}


async def reasons(world: FaultyWorld) -> list[str]:
    return [letter.reason for letter in await world.runtime.catalog.dead_letters.open_letters()]


async def tries(world: FaultyWorld, wallpaper: Wallpaper) -> int:
    """Return how often the last run has tried this one."""
    return await world.value(
        "SELECT attempts FROM draenei_content.run_items INNER JOIN draenei_content.wallpapers AS w"
        " ON w.id = wallpaper_id WHERE wallhaven_id = $1 ORDER BY audit_id DESC LIMIT 1",
        wallpaper.id,
    )


async def attempts(world: FaultyWorld) -> set[int]:
    """Return what the backlog says that its items were tried."""
    rows = await world.rows("SELECT DISTINCT attempts FROM draenei_content.transfers")
    return {row["attempts"] for row in rows}


async def given_up(
    world: FaultyWorld, faults: Mapping[str, Fault], wallpapers: Iterable[Wallpaper] = ()
) -> dict[str, tuple[str, int]]:
    """Let one image after the other meet a fault for ever; return what was written of each.

    None of them is stored, and all others are.
    """
    met = dict(zip(faults, wallpapers or in_turn(world), strict=False))
    for name, wallpaper in met.items():
        world.images.on(of(wallpaper), faults[name], times=None)
    audit = await world.run()
    assert audit.images_uploaded == len(world.truth()) - len(faults)
    assert audit.download_failures == len(faults)
    assert not (await world.objects()).keys() & {key_of(wallpaper) for wallpaper in met.values()}
    found = await codes(world)
    return {name: found.get(wallpaper.id, ("", 0)) for name, wallpaper in met.items()}


def wire(change: Callable[[Answer], bytes], *, then: str = "close") -> Fault:
    """Fetch the image, and send what `change` makes of the answer, byte for byte."""

    async def fault(exchange: Exchange) -> None:
        await http.raw(change(await exchange.forward()), then=then)(exchange)

    return fault


def with_body(change: Callable[[bytes], bytes], **headers: str | None) -> Fault:
    """Send another body, with its true length, and other headers."""
    return wire(
        lambda answer: replace(answer, body=change(answer.body)).framed(**headers), then="keep"
    )


def without_length(body: bytes) -> bytes:
    return OK + b"Content-Type: image/jpeg\r\n\r\n" + body


def half(body: bytes) -> bytes:
    return body[: len(body) // 2]


KINDS = ("jpg", "png", "webp")
PAGE = b"<!DOCTYPE html><html><head><title>Just a moment</title></head></html>"


def page(status: int = 200, **headers: str) -> Fault:
    return http.status(status, PAGE, **{"content_type": "text/html; charset=UTF-8", **headers})


def dripping(change: Callable[[Answer], tuple[bytes, bytes]], step: int = 1) -> Fault:
    """Send the first of two texts at once, and the second one slowly, `step` bytes at a time."""

    async def fault(exchange: Exchange) -> None:
        at_once, slowly = change(await exchange.forward())
        await exchange.send(at_once)
        for start in range(0, len(slowly), step):
            await exchange.send(slowly[start : start + step])
            await asyncio.sleep(0.02)

    return fault
