"""Threats: what a hostile source, network or folder may try, and what comes of it.

The API and the image host are not trusted; database, bucket and operator are. Canaries are secrets
that must stand nowhere, and listeners that nobody may connect to.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
import signal
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import anyio
import asyncpg
import pytest
from databases import execute
from faulty_world import AT_ONCE, FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Asked, Exchange
from peers.http import HttpPeer, open_peer
from peers.postgres import Cut
from processes import Ended, collector, started
from pydantic import ValidationError
from world import EVERYTHING, FAST, small

from collector.catalog import open_database
from collector.catalog.migrations import migrate
from collector.cli.progress import SilentProgress
from collector.core.audit import AuditRow
from collector.core.errors import Code, SettingsError
from collector.core.images import ImageType
from collector.core.retry import WINDOW_ATTEMPTS
from collector.core.runs import Run, RunStatus, StageName
from collector.local import LocalPostgres
from collector.runtime.backfilling import BackfillOptions, run_backfill
from collector.runtime.opening import open_runtime
from collector.runtime.running import run_one_stage
from collector.runtime.wiring import run_janitor, run_verify
from collector.settings import load_settings
from collector.simulator import Hooks, SimulatorOptions
from collector.sources.wallhaven import USER_AGENT
from collector.stages.api import API_TRIES

ROOT = Path(__file__).resolve().parents[3]
Json = dict[str, Any]
KEY = re.compile(r"wallpapers/[A-Za-z0-9]{1,16}\.(jpg|png|webp)")
IMAGE_TYPES = {"image/jpeg", "image/png", "image/webp"}
API_KEY = "canary-of-the-api-key"
PERMISSIVE = {"collector_max_dead_percent": 100}


# --- A hostile source -----------------------------------------------------------------------------


class Edits:
    """Changes of listed items, by their place in the list; a test fills them in once it may."""

    def __init__(self) -> None:
        self.of: dict[int, Json] = {}
        self._seen: dict[str, int] = {}

    @property
    def hooks(self) -> Hooks:
        """What makes a simulator list the changed items."""
        return Hooks(listing=self._listing)

    def all(self, count: int, **fields: Any) -> None:
        """Change the first `count` items alike."""
        self.of.update(dict.fromkeys(range(count), fields))

    def _listing(self, items: list[Json]) -> list[object]:
        return [item | self.of.get(self._place(item), {}) for item in items]

    def _place(self, item: Json) -> int:
        return self._seen.setdefault(item["id"], len(self._seen))


async def letters(world: FaultyWorld) -> dict[str | None, asyncpg.Record]:
    """Return the open dead letters, by the wallpaper's id."""
    found = await world.rows("SELECT * FROM draenei_content.dead_letters WHERE resolved_at IS NULL")
    return {letter["wallhaven_id"]: letter for letter in found}


def of_image(number: int, world: FaultyWorld) -> http.Match:
    """Match requests for the image of the wallpaper at a place of the list."""
    wanted = world.simulator.catalogue[number].image_path
    return lambda asked: asked.path == wanted


def of_object(number: int, world: FaultyWorld) -> http.Match:
    """Match requests for the object of the wallpaper at a place of the list."""
    wanted = f"/wallpapers/{world.simulator.catalogue[number].id}."
    return lambda asked: wanted in asked.path


def everything(_: Asked) -> bool:
    return True


# --- SEC-01: where images may come from -----------------------------------------------------------

# {canary} is the port of a listener on loopback, {listed} the one `host:port` that is allowed.
SPELLINGS = [
    # A user before a host that is allowed, or the allowed one as the user.
    *("http://user@{listed}/x.jpg", "http://user:word@{listed}/x.jpg", "http://@{listed}/x.jpg"),
    *("http://{listed}@127.0.0.1:{canary}/x.jpg", "http://127.0.0.1:{canary}@{listed}/x.jpg"),
    *("http://{listed}\\@127.0.0.1:{canary}/x.jpg", "http://127.0.0.1:{canary}\\@{listed}/x.jpg"),
    *("http://127.0.0.1:{canary}#@{listed}/x.jpg", "http://127.0.0.1:{canary}?@{listed}/x.jpg"),
    # Another port of the same machine, by its plain name, in any case, with a dot too many.
    *("http://127.0.0.1:{canary}/x.jpg", "https://127.0.0.1:{canary}/x.jpg"),
    *("http://localhost:{canary}/x.jpg", "http://LOCALHOST:{canary}/x.jpg"),
    *("http://localhost.:{canary}/x.jpg", "http://127.0.0.1.:{canary}/x.jpg"),
    *("https://{listed}/x.jpg", "http://127.0.0.1/x.jpg"),
    # IPv4 as numbers, in hex, in octal, with parts left out, and in letters that look like it.
    *("http://127.1:{canary}/x.jpg", "http://127.0.1:{canary}/x.jpg"),
    *("http://2130706433:{canary}/x.jpg", "http://0x7f000001:{canary}/x.jpg"),
    *("http://017700000001:{canary}/x.jpg", "http://0177.0.0.1:{canary}/x.jpg"),
    *("http://0x7f.0.0.1:{canary}/x.jpg", "http://0:{canary}/x.jpg"),
    *("http://0.0.0.0:{canary}/x.jpg", "http://127.0.0.2:{canary}/x.jpg"),
    *("http://127\u30020\u30020\u30021:{canary}/x.jpg", "http://127%2e0%2e0%2e1:{canary}/x.jpg"),
    *(
        "http://\uff11\uff12\uff17.0.0.1:{canary}/x.jpg",
        "http://\u2460\u2461\u2466.0.0.1:{canary}/",
    ),
    # IPv6, and IPv4 within it.
    *("http://[::1]:{canary}/x.jpg", "http://[::]:{canary}/x.jpg"),
    *("http://[::ffff:127.0.0.1]:{canary}/x.jpg", "http://[::ffff:7f00:1]:{canary}/x.jpg"),
    *("http://[0:0:0:0:0:ffff:127.0.0.1]:{canary}/x.jpg", "http://[64:ff9b::7f00:1]:{canary}/x"),
    *("http://[2002:7f00:1::]:{canary}/x.jpg", "http://[::1%25lo]:{canary}/x.jpg"),
    # Neighbours, and the services of a cloud.
    *("http://169.254.169.254/latest/meta-data", "http://metadata.google.internal/x.jpg"),
    *("http://10.0.0.1/x.jpg", "https://[fd00::1]/x.jpg", "https://192.168.0.1/x.jpg"),
    # Other schemes, and other ways to write an address.
    *("ftp://127.0.0.1:{canary}/x.jpg", "gopher://127.0.0.1:{canary}/x", "file:///etc/passwd"),
    *("javascript:alert(1)", "data:image/png;base64,AAAA", "//127.0.0.1:{canary}/x.jpg"),
    "HTTP://127.0.0.1:{canary}/x.jpg",
]
# As a listing may have them; as a `Location` they would lead back to where they came from.
ONLY_LISTED = [
    *("http:///127.0.0.1:{canary}/x.jpg", "http:127.0.0.1:{canary}/x.jpg"),
    *("\\\\127.0.0.1:{canary}\\x.jpg", "/etc/passwd", ""),
    *("http:\\\\127.0.0.1:{canary}\\x.jpg", "http://127.0.0.1:{canary}/x\r\n.jpg"),
    *(" http://127.0.0.1:{canary}/x.jpg", "http://127.0.0.1:{canary}\x00@{listed}/x.jpg"),
]


@dataclass
class Canary:
    """A listener that counts its connections."""

    port: int = 0
    connections: int = 0


@asynccontextmanager
async def open_canary() -> AsyncIterator[Canary]:
    """Open a canary on loopback."""
    canary = Canary()

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        canary.connections += 1
        writer.close()

    async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
        canary.port = server.sockets[0].getsockname()[1]
        yield canary


def spelled(spellings: list[str], canary: Canary, world: FaultyWorld) -> list[str]:
    """Return the addresses of this test."""
    filled = {"canary": canary.port, "listed": world.images.host}
    return [spelling.format(**filled) for spelling in spellings]


@pytest.mark.case("SEC-01")
@pytest.mark.usefixtures("no_outages")
async def test_no_spelling_of_an_address_leads_where_we_do_not_go(
    open_faults: OpenFaults, small_images: Path
) -> None:
    edits, spellings = Edits(), SPELLINGS + ONLY_LISTED
    options = small(small_images, len(spellings) + 5)
    async with (
        open_canary() as canary,
        open_faults(options, edits.hooks, **PERMISSIVE) as world,
    ):
        for number, address in enumerate(spelled(spellings, canary, world)):
            edits.of[number] = {"path": address}
        audit = await world.run()
        assert canary.connections == 0
        good = list(world.simulator.catalogue)[len(spellings) :]
        assert sorted(it.path for it in world.images.asked) == sorted(it.image_path for it in good)
        assert (audit.status, audit.images_uploaded) == (RunStatus.PARTIAL, 5)
        found = await letters(world)
        refused = {Code.HOST_REFUSED, Code.INVALID_METADATA}
        bad = list(world.simulator.catalogue)[: len(spellings)]
        assert found.keys() == {wallpaper.id for wallpaper in bad}
        assert {letter["code"] for letter in found.values()} == refused
        assert {letter["attempts"] for letter in found.values()} == {1}
        await world.check()


@pytest.mark.case("SEC-01")
@pytest.mark.usefixtures("no_outages")
async def test_no_redirect_leads_where_we_do_not_go(
    open_faults: OpenFaults, small_images: Path
) -> None:
    options = small(small_images, len(SPELLINGS) + 5)
    async with open_canary() as canary, open_faults(options, **PERMISSIVE) as world:
        for number, address in enumerate(spelled(SPELLINGS, canary, world)):
            location = address.encode().decode("latin-1")
            redirect = http.status(302, location=location)
            world.images.on(of_image(number, world), redirect, times=None)
        audit = await world.run()
        assert canary.connections == 0
        assert len(world.images.asked) == len(SPELLINGS) + 5
        assert audit.images_uploaded == 5
        codes = [letter["code"] for letter in (await letters(world)).values()]
        assert codes == [Code.REDIRECT_REFUSED] * len(SPELLINGS)
        await world.check()


# --- SEC-02, SEC-03, SEC-06: texts of the source --------------------------------------------------


@pytest.mark.case("SEC-02")
async def test_no_text_of_the_source_shapes_a_key(
    open_faults: OpenFaults, small_images: Path
) -> None:
    ids = ["../../x", "a/b", "a%2e", "abc\n", "\u212aelvin", "a" * 17, "", "a\x00b", "wallpapers/x"]
    types = ["image/png/../x", "../jpg", "image/svg+xml", "text/html", "image/png\n", "jpg/../../x"]
    ends = ["/../../x.jpg", "/x.jpg%00.png", "/x.php", "/x.jpg/../../y", "/x.", "/x.jpg;.png"]
    odd = [
        *({"id": text} for text in ids),
        *({"file_type": text} for text in types),
        *({"file_type": None, "path": "http://127.0.0.1:1" + end} for end in ends),
    ]
    edits = Edits()
    edits.of.update(enumerate(odd))
    options = small(small_images, len(odd) + 4)
    async with open_faults(options, edits.hooks, **PERMISSIVE) as world:
        await world.run()
        keys = [key async for key, _ in world.bucket.keys("")]
        stored = [key for key in keys if not key.startswith(".probe/")]
        good = {wallpaper.id for wallpaper in list(world.simulator.catalogue)[len(odd) :]}
        # Its type is an image's, with a line end behind it that means nothing.
        trimmed = world.simulator.catalogue[odd.index({"file_type": "image/png\n"})].id
        assert {key.partition("/")[2].partition(".")[0] for key in stored} - {trimmed} == good
        assert all(KEY.fullmatch(key) for key in stored)
        written = [it for it in world.store.asked if it.method in ("PUT", "POST")]
        paths = {it.path.removeprefix(f"/{world.settings.bucket_name}/") for it in written}
        assert all(KEY.fullmatch(path) or path.startswith(".probe/") for path in paths)
        await world.check()


@pytest.mark.case("SEC-02")
async def test_the_database_takes_no_other_key(open_faults: OpenFaults, small_images: Path) -> None:
    async with open_faults(small(small_images, 2)) as world:
        await world.run()
        for key in ("x.jpg", "wallpapers/../x.jpg", "wallpapers/a.exe", "wallpapers/a.jpg\n"):
            with pytest.raises(asyncpg.CheckViolationError):
                await world.rows("UPDATE draenei_content.wallpapers SET s3_key = $1", key)
        await world.check()


TEXTS = [
    *("url", "short_url", "source", "purity", "category", "resolution", "ratio"),
]


def hostile_item(text: str) -> Json:
    """Return the fields of an item that may hold any text, holding this one."""
    thumbs = dict.fromkeys(("large", "original", "small"), text)
    return {**dict.fromkeys(TEXTS, text), "colors": [text], "thumbs": thumbs, text: {text: [text]}}


@pytest.mark.case("SEC-03")
async def test_no_text_of_the_source_becomes_a_header(
    open_faults: OpenFaults, small_images: Path
) -> None:
    injected = "image/png\r\nX-Injected: yes\r\n\r\nGET /injected HTTP/1.1\r\n"
    edits = Edits()
    edits.all(4, **hostile_item(injected))
    edits.of[4] = {"file_type": injected}
    edits.of[5] = {"path": f"http://127.0.0.1:1/x.jpg{injected}"}
    settings = {**PERMISSIVE, "collector_max_attempts": 1}
    async with open_faults(small(small_images, 7), edits.hooks, **settings) as world:
        quoted = f"/{quote(injected)}.jpg"
        edits.of[6] = {"path": f"http://{world.images.host}{quoted}"}
        own = {"x_amz_meta_token": "a", "etag": '"b"', "content_type": "image/png; x=\ty"}
        world.images.on(everything, _adding(**own), times=None)
        audit = await world.run()
        assert audit.images_uploaded == 4
        for asked in (*world.api.asked, *world.images.asked, *world.store.asked):
            assert "x-injected" not in asked.headers
            assert asked.path != "/injected"
        assert quoted in [asked.target for asked in world.images.asked], "it stays quoted"
        codes = {letter["code"] for letter in (await letters(world)).values()}
        assert codes == {Code.TYPE_MISMATCH, Code.INVALID_METADATA, Code.NOT_FOUND}
        await world.check()


def _adding(**headers: str) -> http.Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http.rewritten(lambda answer: replace(answer, headers={**answer.headers, **named}))


INJECTED = "'); DROP TABLE draenei_content.wallpapers; --\"$1 %s {0} \\ \u2028"


@pytest.mark.case("SEC-06")
async def test_a_text_is_a_text_for_the_database(
    open_faults: OpenFaults, small_images: Path
) -> None:
    edits = Edits()
    edits.all(3, **hostile_item(INJECTED))
    hooks = replace(edits.hooks, details=_hostile_details)
    async with open_faults(small(small_images, 3), hooks) as world:
        audit = await world.run(f"run{INJECTED}")
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, 3)
        assert audit.run_id == f"run{INJECTED}"
        await world.stage(StageName.ENRICH, "enrichment")
        await world.stage(StageName.AUDIT, "enrichment")
        for row in await world.rows("SELECT *, raw::text AS said FROM draenei_content.wallpapers"):
            found = {row["page_url"], *(row[name] for name in TEXTS if name != "url")}
            assert {*found, *row["colors"], row["thumb_small"]} == {INJECTED}
            assert json.loads(row["said"])[INJECTED] == {INJECTED: [INJECTED]}
        names = await world.rows("SELECT DISTINCT name FROM draenei_content.tags")
        assert [row["name"] for row in names] == [INJECTED]
        await world.check()


@pytest.mark.case("SEC-06")
async def test_a_query_is_a_text_for_the_database(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 3), wallhaven_query=INJECTED) as world:
        assert (await world.run()).status is RunStatus.SUCCEEDED
        searches = await world.rows("SELECT search_key FROM draenei_content.staged_pages")
        assert ["DROP" in row["search_key"] for row in searches] == [True]
        assert await world.value("SELECT count(*) FROM draenei_content.wallpapers") == 0
        await world.check()


def _hostile_details(item: Json) -> Json:
    tags = [tag | {"name": INJECTED, "alias": INJECTED} for tag in item["tags"]]
    return item | {"tags": tags, "source": INJECTED}


# --- SEC-04, SEC-18: what is sent to whom ---------------------------------------------------------


def knowing(options: SimulatorOptions) -> SimulatorOptions:
    """Return options of a simulator that knows the canary as a key."""
    return replace(options, api_keys=frozenset({API_KEY}))


def heard(peer: HttpPeer) -> str:
    """Return all that a peer was told."""
    return "".join(f"{it.target}{dict(it.headers)}{it.body!r}" for it in peer.asked)


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


# --- SEC-05: secrets ------------------------------------------------------------------------------

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


# --- SEC-08, SEC-17: texts of others in logs and reasons ------------------------------------------

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
    async with open_faults(small(small_images, 20), collector_max_attempts=1) as world:
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


# --- SEC-09, SEC-10: bodies -----------------------------------------------------------------------

BOMB_BYTES = 50 * 1024 * 1024
MOST_BODY_BYTES = 1024 * 1024


def bomb() -> bytes:
    """Return some fifty kilobytes that become fifty megabytes."""
    packed = gzip.compress(bytes(BOMB_BYTES), 9)
    assert len(packed) < 60_000
    return packed


ENCODINGS = ["gzip", "x-gzip", "deflate", "br", "zstd", "gzip, gzip", "GZIP"]


@pytest.mark.case("SEC-09")
async def test_what_is_packed_is_never_unpacked(
    open_faults: OpenFaults, small_images: Path
) -> None:
    body, count = bomb(), len(ENCODINGS)
    async with open_faults(small(small_images, 3 * count), collector_max_attempts=1) as world:
        for number, encoding in enumerate(ENCODINGS):
            packed = http.status(200, body, content_encoding=encoding, content_type="image/jpeg")
            world.images.on(of_image(number, world), packed, times=None)
        audit = await world.run()
        assert {it.headers["accept-encoding"] for it in world.images.asked} == {"identity"}
        assert audit.images_uploaded == 2 * count
        codes = [letter["code"] for letter in (await letters(world)).values()]
        assert codes == [Code.SOURCE_ERROR] * count
        assert peak_body_bytes(audit) < MOST_BODY_BYTES
        await world.check()


def peak_body_bytes(audit: AuditRow) -> int:
    """Return the most that bodies have held at once."""
    stages: Any = audit.report["stages"]
    return int(stages["transfer"]["peak_body_bytes"])


@pytest.mark.case("SEC-09")
async def test_a_packed_page_is_never_unpacked(open_faults: OpenFaults, small_images: Path) -> None:
    packed = http.status(200, bomb(), content_encoding="gzip", content_type="application/json")
    async with open_faults(small(small_images, 3)) as world:
        world.api.on(everything, packed, times=None)
        audit = await world.run()
        assert {it.headers["accept-encoding"] for it in world.api.asked} == {"identity"}
        assert (audit.status, len(world.api.asked)) == (RunStatus.FAILED, API_TRIES)
        await world.converge()


def png_of(width: int, height: int) -> bytes:
    """Return a PNG of hardly any bytes that says it has so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1024))
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.case("SEC-09")
async def test_a_picture_of_too_many_pixels_is_bytes_like_any_other(
    open_faults: OpenFaults, small_images: Path
) -> None:
    body, edits = png_of(100_000, 100_000), Edits()
    said = {"file_size": len(body), "file_type": "image/png", "dimension_x": 100_000}
    edits.of[0] = {**said, "dimension_y": 100_000}
    edits.of[1] = {**said, "dimension_y": 100}
    options = small(small_images, 5)
    async with open_faults(options, edits.hooks, collector_max_attempts=1) as world:
        for number in (0, 1):
            world.images.on(of_image(number, world), http.status(200, body), times=None)
        audit = await world.run()
        assert (audit.images_uploaded, peak_body_bytes(audit) < MOST_BODY_BYTES) == (4, True)
        (letter,) = (await letters(world)).values()
        assert letter["code"] == Code.DIMENSION_MISMATCH
        await world.check(truth=_with_body(world, 0, body))


def _with_body(world: FaultyWorld, number: int, body: bytes) -> dict[str, str]:
    """Return the truth where one wallpaper has another body, a PNG."""
    key = f"wallpapers/{world.simulator.catalogue[number].id}.png"
    return {**world.truth(), key: hashlib.sha256(body).hexdigest()}


@pytest.mark.case("SEC-09")
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_without_end_is_left_at_the_cap(
    open_faults: OpenFaults, small_images: Path, announced: bool
) -> None:
    cap, sent = 64 * 1024, 0

    async def endless(exchange: Exchange) -> None:
        nonlocal sent
        length = b"content-length: 99999999999\r\n" if announced else b""
        await exchange.send(b"HTTP/1.1 200 OK\r\n" + length + b"\r\n")
        while exchange.is_open:
            await exchange.send(b"\xff\xd8" * 8192)
            sent += 16_384

    edits = Edits()
    edits.of[0] = {"file_size": None}
    options = small(small_images, 4)
    async with open_faults(options, edits.hooks, collector_max_image_bytes=cap) as world:
        world.images.on(of_image(0, world), endless, times=None)
        audit = await world.run()
        assert audit.images_uploaded == 3
        (letter,) = (await letters(world)).values()
        assert (letter["code"], letter["attempts"]) == (Code.TOO_LARGE, 1)
        # What the sockets between take is no more than some megabytes.
        assert sent < 16 * 1024 * 1024
        await world.check()


SCRIPT = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"


@pytest.mark.case("SEC-10")
@pytest.mark.parametrize(("images", "count"), [("small_images", 10), ("large_images", 1)])
async def test_what_is_stored_is_served_as_an_image(
    open_faults: OpenFaults, request: pytest.FixtureRequest, images: str, count: int
) -> None:
    types = ["image/svg+xml", "application/x-msdownload", "text/javascript", "", "multipart/mixed"]
    async with open_faults(small(request.getfixturevalue(images), count)) as world:
        for number in range(count):
            said = _adding(content_type=types[number % len(types)])
            world.images.on(of_image(number, world), said, times=None)
        audit = await world.run()
        assert audit.images_uploaded == count
        assert set(await served_types(world)) <= IMAGE_TYPES
        await world.check()


async def served_types(world: FaultyWorld) -> list[str]:
    """Return the types that the bucket serves its images as."""
    call, keys = world.bucket._control.call, world.bucket.keys("wallpapers/")
    return [(await call("head_object", Key=key))["ContentType"] async for key, _ in keys]


@pytest.mark.case("SEC-10")
async def test_a_picture_that_is_a_page_too_is_served_as_a_picture(
    open_faults: OpenFaults, small_images: Path
) -> None:
    """The bytes behind the end of a picture are its own business; what it is served as, ours."""
    edits, body = Edits(), png_of(8, 8) + SCRIPT
    said = {"file_size": len(body), "file_type": "image/png", "dimension_x": 8, "dimension_y": 8}
    edits.of[0] = said
    edits.of[1] = {**said, "file_size": len(SCRIPT)}
    async with open_faults(small(small_images, 4), edits.hooks, collector_max_attempts=1) as world:
        for number, content in enumerate((body, SCRIPT)):
            served = http.status(200, content, content_type="image/svg+xml")
            world.images.on(of_image(number, world), served, times=None)
        audit = await world.run()
        assert audit.images_uploaded == 3
        (letter,) = (await letters(world)).values()
        assert letter["code"] in (Code.HTML_RESPONSE, Code.MAGIC_MISMATCH)
        assert set(await served_types(world)) <= IMAGE_TYPES
        await world.check(truth=_with_body(world, 0, body))


# --- SEC-11 to SEC-14: what is installed, and how the stack stands --------------------------------

REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
FLOORS = {"aiohttp": (3, 14, 3), "pillow": (12, 2)}


_PINNED = re.compile(
    r"([a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9,-]+\])?==(\S+)(?: ;[^#]*?)?"
    r"(?: +--hash=sha256:[0-9a-f]{64})+"
)


def pinned(file: Path) -> dict[str, str]:
    """Return the versions of a requirements file; any line of another kind fails the test."""
    text = re.sub(r"\\\n\s*", " ", file.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = [_PINNED.fullmatch(line.rstrip()) for line in lines if line.strip()]
    assert all(found), [line for line, match in zip(lines, found, strict=True) if not match]
    return {match[1]: match[2] for match in found if match}


@pytest.mark.case("SEC-11")
@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda path: path.stem)
def test_all_that_is_installed_is_named_with_its_hashes_and_no_index(file: Path) -> None:
    versions = pinned(file)
    assert versions
    for name, floor in FLOORS.items():
        if name in versions:
            assert tuple(map(int, versions[name].split("."))) >= floor


@pytest.mark.case("SEC-11")
def test_nothing_is_installed_without_its_hash() -> None:
    for name in ("Makefile", "Dockerfile"):
        text = re.sub(r"\\\n\s*", " ", (ROOT / name).read_text(encoding="utf-8"))
        for line in text.splitlines():
            if re.search(r"\bpip install\b", line) and "--no-deps" not in line:
                assert "--require-hashes" in line, line


@pytest.mark.case("SEC-11")
def test_no_package_of_the_engine_runs_code_when_an_interpreter_starts() -> None:
    for name in pinned(ROOT / "requirements/engine.txt"):
        try:
            files = metadata.files(name) or []
        except metadata.PackageNotFoundError:
            continue  # of another platform
        assert not [file for file in files if file.suffix == ".pth"], name


@pytest.mark.case("SEC-12")
@pytest.mark.case("SEC-13")
def test_the_stack_stands_on_this_machine_alone_and_on_named_releases() -> None:
    images = re.findall(r"^    image: (\S+)$", COMPOSE, re.MULTILINE)
    assert any(image.startswith("minio/minio:RELEASE.") for image in images)
    assert not [image for image in images if image.endswith(":latest")]
    listed = re.findall(r"^    ports:\n((?:      - .*\n)+)", COMPOSE, re.MULTILINE)
    ports = [port for ports in listed for port in re.findall(r'- "(.*)"', ports)]
    assert len(ports) == sum(ports.count("\n") for ports in listed) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


KNOWN_KEYS = {"aws_access_key_id": "minioadmin", "aws_secret_access_key": "minioadmin"}


@pytest.mark.case("SEC-13")
@pytest.mark.parametrize(
    "endpoint", ["https://s3.example.org", "http://203.0.113.7:9000", "http://minio.example:9000"]
)
def test_a_password_that_everybody_knows_is_refused_by_a_store_elsewhere(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="AWS_SECRET_ACCESS_KEY"):
        load_settings(None, s3_endpoint_url=endpoint, **KNOWN_KEYS)


@pytest.mark.case("SEC-13")
@pytest.mark.parametrize(
    "place",
    [
        *("airflow:airflow@db.example.org", "collector:collector@db.example.org"),
        *("postgres:postgres@db.example.org:5432", "airflow:airflow@203.0.113.7:5432"),
        *("airflow:airflow@[2001:db8::1]:5432", "airflow:airflow@localhost,db.example.org"),
    ],
)
def test_a_password_that_everybody_knows_is_refused_by_a_database_elsewhere(place: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        load_settings(None, database_url=f"postgresql://{place}/airflow")


@pytest.mark.case("SEC-13")
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "minio"])
def test_a_password_that_everybody_knows_will_do_on_this_machine(host: str) -> None:
    settings = load_settings(
        None,
        s3_endpoint_url=f"http://{host}:9000",
        database_url=f"postgresql://airflow:airflow@{host}:5432/airflow",
        **KNOWN_KEYS,
    )
    assert settings.aws_access_key_id == "minioadmin"


OF_THE_STACK = {"collector": "stack_collector", "airflow": "stack_airflow"}


@asynccontextmanager
async def stack_role(server: LocalPostgres, dsn: str) -> AsyncIterator[str]:
    """Make the roles of the stack, under other names, and yield the address of the collector's."""
    text = (ROOT / "sql/roles.sql").read_text(encoding="utf-8")
    text = re.sub(r"\b(collector|airflow)\b", lambda found: OF_THE_STACK[found[1]], text)
    database, name = urlsplit(dsn).path.strip("/"), OF_THE_STACK["collector"]
    await execute(dsn, f"CREATE ROLE {OF_THE_STACK['airflow']} LOGIN")
    await execute(dsn, "CREATE TABLE public.connection AS SELECT 'a secret of Airflow' AS password")
    assert server.psql is not None
    await anyio.run_process(
        f"{server.psql.rpartition(' ')[0]} {database}", input=text.encode(), check=True
    )
    parts = urlsplit(dsn)
    netloc = f"{name}:{name}@{parts.netloc.rpartition('@')[2]}"
    try:
        yield urlunsplit(parts._replace(netloc=netloc))
    finally:
        for role in OF_THE_STACK.values():
            await execute(dsn, f"DROP OWNED BY {role} CASCADE")
            await execute(dsn, f"DROP ROLE {role}")


@pytest.mark.case("SEC-14")
@pytest.mark.case("SEC-06")
async def test_the_role_of_the_stack_has_a_schema_of_its_own_and_no_way_out_of_it(
    postgres_server: LocalPostgres, dsn: str
) -> None:
    async with stack_role(postgres_server, dsn) as address:
        async with open_database(address) as database, database.session() as session:
            assert await migrate(session) == []
        connection = await asyncpg.connect(address)
        for statement in (
            "SELECT * FROM public.connection",
            "DROP TABLE public.connection",
            "CREATE TABLE public.mine (x integer)",
            "CREATE ROLE another",
            "SELECT rolpassword FROM pg_authid",
            "COPY draenei_content.tags TO PROGRAM 'true'",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        assert await connection.fetchval("SELECT count(*) FROM draenei_content.wallpapers") == 0
        await connection.close()


# --- SEC-15, SEC-16, SEC-19 -----------------------------------------------------------------------


def deletes(asked: Asked) -> bool:
    """Say whether a request would delete an object."""
    names = {name.partition("=")[0] for name in asked.query.split("&")}
    return (asked.method == "DELETE" and "uploadId" not in names) or "delete" in names


DENIED = http.status(403, b"<Error><Code>AccessDenied</Code></Error>")


@pytest.mark.case("SEC-15")
async def test_the_right_to_delete_is_never_needed(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 30)) as world:
        world.store.on(deletes, DENIED, times=None)
        assert (await world.run()).status is RunStatus.SUCCEEDED
        backfill = Run("tests", "backfill")
        row = await run_backfill(world.runtime, backfill, BackfillOptions(), lambda _: None)
        assert row.status is RunStatus.SUCCEEDED
        written, (lost, kept, *_) = list(world.store.commits), sorted(world.truth())
        await world.bucket._control.call("delete_object", Key=lost)
        await world.bucket._control.call("put_object", Key="wallpapers/nobody1.jpg", Body=b"mine")
        await world.bucket.begin(kept, content_type=ImageType.PNG, token="left by a dead process")
        findings = await run_verify(world.runtime, deep=True, repair=True)
        assert findings.left == 0
        tidied = await run_janitor(world.runtime, AT_ONCE)
        assert (tidied.uploads_aborted, tidied.uploads_left) == (1, 0)
        assert (await world.run()).missing_s3_after_run == 0
        assert world.store.count(deletes) == 0
        await world.check(commits=written)


@pytest.mark.case("SEC-15")
async def test_an_upload_that_is_given_up_is_aborted_and_nothing_else(
    open_faults: OpenFaults, large_images: Path
) -> None:
    async with open_faults(small(large_images, 1)) as world:
        world.store.on(deletes, DENIED, times=None)
        world.images.on(everything, http.cut(1, from_end=True))
        assert (await world.run()).images_uploaded == 1
        aborted = [asked for asked in world.store.asked if asked.method == "DELETE"]
        assert aborted
        assert not [asked for asked in aborted if deletes(asked)]
        await world.check()


@pytest.mark.case("SEC-16")
async def test_a_host_that_refuses_everything_is_soon_left_in_peace(
    open_faults: OpenFaults, small_images: Path
) -> None:
    async with open_faults(small(small_images, 120), collector_in_flight=4) as world:
        world.images.on(everything, http.status(403), times=None)
        audit = await world.run()
        assert audit.status is RunStatus.FAILED
        assert len(world.images.asked) < 2 * WINDOW_ATTEMPTS
        assert await letters(world) == {}
        for asked in (*world.api.asked, *world.images.asked):
            assert asked.headers["user-agent"] == USER_AGENT
        await world.converge()


@pytest.mark.case("SEC-16")
async def test_a_scheduled_run_and_a_command_ask_within_one_limit(
    open_faults: OpenFaults, small_images: Path
) -> None:
    """Together they may ask six times a minute: the second one finds the limit used up."""
    async with open_faults(small(small_images, 24 * 5), wallhaven_requests_per_minute=6) as world:
        assert (await world.run("scheduled")).api_requests == 5
        async with open_runtime(world.settings, EVERYTHING, SilentProgress()) as another:
            with anyio.move_on_after(1):
                await run_one_stage(another, StageName.EXTRACT, Run("tests", "command"), FAST)
        assert len(world.api.asked) == 6
        await world.rows("DELETE FROM draenei_content.api_slots")
        await world.converge("command")


@pytest.mark.case("SEC-19")
async def test_a_file_of_settings_that_lies_in_the_way_is_not_read(
    open_faults: OpenFaults, small_images: Path, tmp_path: Path
) -> None:
    lines = f"WALLHAVEN_API_KEY={API_KEY}\nCOLLECTOR_IN_FLIGHT=none\nUPLOAD_BATCH_LIMIT=1\n"
    for name in (".env", "my.env", ".env.local"):
        (tmp_path / name).write_text(lines)
    async with open_faults(small(small_images, 4)) as world:
        async with started(world.settings, "run", cwd=tmp_path) as running:
            ended = await running.ended()
        assert ended.status == 0, ended.stderr
        assert API_KEY not in heard(world.api)
        assert len(await world.objects()) == 4
        await world.check()
