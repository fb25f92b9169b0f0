"""A source whose addresses, texts and bodies are hostile."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import re
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest
from faulty_world import FaultyWorld, OpenFaults
from peers import http
from peers.exchange import Exchange
from threats import PERMISSIVE, TEXTS, Edits, Json, everything, hostile_item, letters, of_image
from world import small

from collector.core.audit import AuditRow
from collector.core.errors import Code
from collector.core.runs import RunStatus, StageName
from collector.stages.api_client import MAX_API_ATTEMPTS

KEY = re.compile(r"wallpapers/[A-Za-z0-9]{1,16}\.(jpg|png|webp)")
IMAGE_TYPES = {"image/jpeg", "image/png", "image/webp"}


# --- SEC-01: where images may come from ----------------------------------------------------------


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


# --- SEC-02, SEC-03, SEC-06: texts of the source -------------------------------------------------


@pytest.mark.smoke
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


# --- SEC-09, SEC-10: bodies ----------------------------------------------------------------------


BOMB_BYTES = 50 * 1024 * 1024
MAX_BODY_BYTES = 1024 * 1024


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
        assert peak_body_bytes(audit) < MAX_BODY_BYTES
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
        assert (audit.status, len(world.api.asked)) == (RunStatus.FAILED, MAX_API_ATTEMPTS)
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
        assert (audit.images_uploaded, peak_body_bytes(audit) < MAX_BODY_BYTES) == (4, True)
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
