"""What is sent to whom, and what is written down."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import anyio
import pytest
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Exchange
from peers.http import HttpPeer, open_peer
from peers.postgres import Cut
from processes import Ended, collector, started
from pydantic import ValidationError
from threats import (
    API_KEY,
    PERMISSIVE,
    Edits,
    Json,
    everything,
    heard,
    hostile_item,
    letters,
    of_image,
)
from world import small

from collector.core.errors import SettingsError
from collector.core.runs import RunStatus
from collector.settings import load_settings
from collector.simulator import SimulatorOptions


def of_object(number: int, world: FaultyWorld) -> http.Match:
    """Match requests for the object of the wallpaper at a place of the list."""
    wanted = f"/wallpapers/{world.simulator.catalogue[number].id}."
    return lambda asked: wanted in asked.path


# --- SEC-04, SEC-18: what is sent to whom --------------------------------------------------------


def knowing(options: SimulatorOptions) -> SimulatorOptions:
    """Return options of a simulator that knows the canary as a key."""
    return replace(options, api_keys=frozenset({API_KEY}))


@pytest.mark.case("SEC-04")
async def test_the_key_is_told_to_the_api_alone_and_never_in_an_address(
    open_faults: OpenFaults, small_images: Path
) -> None:
    options = knowing(small(small_images, 6))
    async with open_peer() as other, open_faults(options, wallhaven_api_key=API_KEY) as world:
        moved = http.status(302, location=f"http://{world.images.host}/moved?to=other")
        world.images.on(of_image(0, world), moved)
        await world.run()
        assert {it.headers.get("x-api-key") for it in world.api.asked} == {API_KEY}
        assert not [asked for asked in world.api.asked if API_KEY in asked.target]
        assert API_KEY not in heard(world.images) + heard(world.store) + heard(other)
        await world.converge(secrets=[API_KEY])


@pytest.mark.case("SEC-04")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_the_key_follows_no_redirect(
    open_faults: OpenFaults, small_images: Path, status: int
) -> None:
    options = knowing(small(small_images, 3))
    async with open_peer() as other, open_faults(options, wallhaven_api_key=API_KEY) as world:
        world.api.on(everything, http.status(status, location=f"{other.url}/api/v1/search"))
        audit = await world.run()
        assert (audit.status, other.asked) == (RunStatus.FAILED, [])
        await world.converge(secrets=[API_KEY])


COOKIE = "session=tracked; Path=/"


@pytest.mark.case("SEC-18")
async def test_no_cookie_is_ever_sent_back(open_faults: OpenFaults, small_images: Path) -> None:
    async with open_faults(small(small_images, 30)) as world:
        for peer in (world.api, world.images, world.store):
            peer.on(everything, _baking(peer), times=None)
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 30)
        for peer in (world.api, world.images, world.store):
            assert len(peer.asked) > 1
            assert not [asked for asked in peer.asked if "cookie" in asked.headers]
        await world.check()


def _baking(peer: HttpPeer) -> http.Fault:
    """Let everything pass as the peer does, with a cookie beside it."""

    async def fault(exchange: Exchange) -> None:
        answer = await exchange.forward()
        answer = peer._rewrite(answer) if peer._rewrite else answer
        if exchange.asked.method == "HEAD":
            length = answer.headers.get("content-length")
            await exchange.send(answer.framed(set_cookie=COOKIE, content_length=length))
        else:
            await exchange.send(answer.framed(set_cookie=COOKIE))

    return fault


# --- SEC-05: secrets -----------------------------------------------------------------------------


WRONG = "canary-of-a-wrong-secret"


def _key_refused(world: FaultyWorld) -> None:
    world.api.on(everything, http.status(401, API_KEY.encode()), times=None)


def _page_of_nonsense(world: FaultyWorld) -> None:
    world.api.on(everything, http.status(200, f"{{{API_KEY}".encode()), times=None)


def _images_and_store_break(world: FaultyWorld) -> None:
    told = f"<Error><Code>InternalError</Code><AWSAccessKeyId>{WRONG}</AWSAccessKeyId></Error>"
    world.store.on(of_object(0, world), http.status(500, told.encode()), times=9)
    world.images.on(of_image(1, world), http.cut(10), times=2)


def _database_breaks(world: FaultyWorld) -> None:
    world.database.on("-- The object of a claim", Cut.AFTER)


def secrets_of(world: FaultyWorld) -> list[str]:
    """Return what must stand nowhere."""
    password, secret = urlsplit(world.dsn).password, world.settings.aws_secret_access_key
    assert password is not None
    assert secret is not None
    return [API_KEY, WRONG, password, secret.get_secret_value()]


def with_password(dsn: str, password: str) -> str:
    """Return an address with another password."""
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{password}@{host}"))


def wrong_settings(world: FaultyWorld) -> list[tuple[dict[str, str], int]]:
    """Return environments that have one secret wrong, and what a command ends with there."""
    return [
        ({"DATABASE_URL": with_password(world.database.dsn, WRONG)}, 1),
        ({"AWS_SECRET_ACCESS_KEY": WRONG}, 1),
        ({"DATABASE_URL": f"postgresql://u:{WRONG}@127.0.0.1:port/x"}, 2),
        ({"WALLHAVEN_API_KEY": f"{WRONG}\n"}, 2),
    ]


async def debugged(world: FaultyWorld, *words: str, **env: str) -> Ended:
    """Run a command that says all it can."""
    return await collector(world.settings, *words, env={"COLLECTOR_LOG_LEVEL": "DEBUG", **env})


@pytest.mark.case("SEC-05")
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (_key_refused, 1),
        (_page_of_nonsense, 1),
        (_images_and_store_break, 0),
        (_database_breaks, 1),
    ],
)
async def test_no_secret_is_written_down_whatever_breaks(
    open_faults: OpenFaults, small_images: Path, fault: Any, status: int
) -> None:
    options = knowing(small(small_images, 8))
    async with open_faults(options, wallhaven_api_key=API_KEY) as world:
        fault(world)
        ended = await debugged(world, "run", "--json")
        assert ended.status == status, ended.stderr
        await world.converge(secrets=secrets_of(world), texts=[ended.stdout, ended.stderr])


@pytest.mark.case("SEC-05")
async def test_a_wrong_secret_is_told_without_being_shown(
    open_faults: OpenFaults, small_images: Path
) -> None:
    options = knowing(small(small_images, 3))
    async with open_faults(options, wallhaven_api_key=API_KEY) as world:
        texts: list[str] = []

        async def tell(environment: dict[str, str], status: int) -> None:
            ended = await debugged(world, "run", "--limit", "1", **environment)
            assert ended.status == status, ended.stderr
            assert ended.stderr.strip()
            assert "Traceback" not in ended.stderr
            texts.extend((ended.stdout, ended.stderr))

        async with anyio.create_task_group() as tasks:
            for environment, status in wrong_settings(world):
                tasks.start_soon(tell, environment, status)
        await world.converge(secrets=secrets_of(world), texts=texts)


@pytest.mark.case("SEC-05")
async def test_no_secret_stands_in_the_list_of_processes(
    open_faults: OpenFaults, small_images: Path
) -> None:
    options, asked = knowing(small(small_images, 3)), anyio.Event()

    async def held(exchange: Exchange) -> None:
        asked.set()
        await http.hang(exchange)

    async with open_faults(options, wallhaven_api_key=API_KEY) as world:
        world.images.on(everything, held, times=None)
        async with started(world.settings, "run", "--run-id", "held") as running:
            await asked.wait()
            listed = await anyio.run_process(["ps", "-Aww", "-o", "args="])
            running.process.send_signal(signal.SIGTERM)
            ended = await running.ended()
        assert ended.status == 75
        lines = listed.stdout.decode().splitlines()
        mine = [line for line in lines if "collector run --run-id held" in line]
        assert len(mine) == 1
        await world.converge("held", secrets=secrets_of(world), texts=[*mine, ended.stderr])


@pytest.mark.case("SEC-05")
async def test_a_defect_shows_no_secret(
    open_faults: OpenFaults, small_images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_faults(small(small_images, 3), wallhaven_api_key=API_KEY) as world:
        secrets = secrets_of(world)
        shown = [repr(world.settings), repr(world.runtime), str(world.settings.model_dump())]
        with pytest.raises(SettingsError) as wrong:
            load_settings(None, wallhaven_api_key=f"{API_KEY} {WRONG}")
        with pytest.raises(ValidationError) as raw:
            type(world.settings)(wallhaven_api_key=f"{API_KEY} {WRONG}")
        shown += [str(wrong.value), repr(wrong.value), str(raw.value)]
        await world.check(secrets=secrets, texts=[*shown, caplog.text], converged=False)


# --- SEC-08, SEC-17: texts of others in logs and reasons -----------------------------------------


FORGED = "[draenei] audit: run_id=forged status=succeeded"
LINES = f"x\n{FORGED}\r\n\x1b[31m\x1b]0;title\x07 %s %(name)s {{0}}\u2028\x85 "


@pytest.mark.case("SEC-08")
@pytest.mark.parametrize("style", ["text", "json"])
async def test_no_text_of_the_source_forges_a_line_of_the_log(
    open_faults: OpenFaults, small_images: Path, style: str
) -> None:
    edits = Edits()
    edits.all(3, **hostile_item(LINES))
    edits.of[3] = {"file_type": LINES * 200}
    edits.of[4] = {"id": LINES}
    edits.of[5] = {"path": f"http://127.0.0.1:1/{LINES}"}
    edits.of[6] = {"path": "http://a.example/" + "x" * 1_900}
    hooks = replace(edits.hooks, page=_hostile_page)
    async with open_faults(small(small_images, 9), hooks, **PERMISSIVE) as world:
        ended = await debugged(world, "run", COLLECTOR_LOG_FORMAT=style)
        assert ended.status == 0, ended.stderr
        assert "forged" in ended.stderr, "it is told, and told as a text"
        for line in ended.stderr.rstrip("\n").split("\n"):
            said = json.loads(line)["message"] if style == "json" else line
            assert said.isprintable()
            assert not said.startswith(FORGED)
            assert len(said) < 3_000
        await world.check()


PHRASES = [b"\x1b[31mred\x1b[0m", b"a\x00b", b"x" * 12_000, b"<script>alert(1)</script>", b"\xff"]


def _hostile_page(_: int, answer: Json) -> Json:
    return answer | {LINES: LINES, "meta": answer["meta"] | {LINES: 1}}


@pytest.mark.case("SEC-17")
async def test_what_a_server_says_beside_a_status_is_no_reason(
    open_faults: OpenFaults, small_images: Path
) -> None:
    once = {**PERMISSIVE, "collector_max_attempts": 1}
    async with open_faults(small(small_images, 20), **once) as world:
        for number, phrase in enumerate(PHRASES):
            answer = b"HTTP/1.1 503 " + phrase + b"\r\ncontent-length: 0\r\n\r\n"
            world.images.on(of_image(number, world), http.raw(answer), times=None)
            error = b"<Error><Code>" + phrase + b"</Code><Message>" + phrase + b"</Message></Error>"
            refused = http.status(418, error)
            world.store.on(of_object(number + len(PHRASES), world), refused, times=None)
        audit = await world.run()
        assert audit.images_uploaded == 20 - 2 * len(PHRASES)
        found = await letters(world)
        assert len(found) == 2 * len(PHRASES)
        assert {letter["code"] for letter in found.values()} == {"source_error", "store_error"}
        for letter in found.values():
            assert letter["reason"].isprintable()
            assert len(letter["reason"]) < 100
            assert "script" not in letter["reason"]
        await world.check()
