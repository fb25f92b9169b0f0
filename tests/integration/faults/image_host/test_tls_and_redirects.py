"""The image host's certificate is wrong, or it points elsewhere."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import connector
from faulty_world import FaultyWorld, OpenFaults
from image_faults import (
    GIVES_UP,
    OK,
    TRIES,
    Way,
    attempts,
    body_of,
    both_ways,
    codes,
    everything,
    in_turn,
    tries,
)
from peers import http
from peers.exchange import Exchange, said
from peers.http import Fault, HttpPeer, open_peer
from world import small

from collector.core import addresses
from collector.core.errors import Code, ItemError
from collector.core.errors import Fault as Blame
from collector.core.runs import RunStatus
from collector.http import open_http
from collector.simulator import Hooks

# --- TLS -----------------------------------------------------------------------------------------


AUTHORITY = """\
[ca]
default_ca = here
[here]
dir = .
database = ./index.txt
new_certs_dir = .
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = {name}
[req]
distinguished_name = nobody
[nobody]
"""
HERE = "IP:127.0.0.1"
# Name, and first and last second of its life, of each certificate; each signs itself.
CERTIFICATES = {
    "good": (HERE, "20200101000000Z", "20490101000000Z"),
    "expired": (HERE, "20200101000000Z", "20200102000000Z"),
    "not valid yet": (HERE, "20480101000000Z", "20490101000000Z"),
    "another's": ("DNS:w.example.org", "20200101000000Z", "20490101000000Z"),
}


def certificate(folder: Path, name: str, begins: str, ends: str) -> Path:
    """Make a key and a certificate in one folder."""
    folder.mkdir()
    (folder / "ca.cnf").write_text(AUTHORITY.format(name=name))
    (folder / "index.txt").touch()
    request = "req -config ca.cnf -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    sign = "ca -config ca.cnf -selfsign -batch -notext -keyfile key.pem -in request.pem"
    for words in (
        f"{request} -subj /CN=test -keyout key.pem -out request.pem",
        f"{sign} -out cert.pem -startdate {begins} -enddate {ends}",
    ):
        command = ["openssl", *words.split()]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tls")
    return {
        name: certificate(folder / f"{number}", *said)
        for number, (name, said) in enumerate(CERTIFICATES.items())
    }


def server_side(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def of_1999(folder: Path) -> ssl.SSLContext:
    """Return a server that speaks TLS 1.0 and nothing newer."""
    context = server_side(folder)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1
    return context


def believe(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this certificate be trusted here as an authority's is, on both ways."""
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "cert.pem"))
    monkeypatch.setattr(connector, "_SSL_CONTEXT_VERIFIED", ssl.create_default_context())


@asynccontextmanager
async def secure_host(
    context: ssl.SSLContext | None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Serve a small body on a port that counts as 443; yield its address and what was asked."""
    asked: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(ConnectionError):
            heard = await reader.read(1000)
            if heard.startswith(b"GET "):
                asked.append(heard)
            writer.write(OK + b"Content-Length: 5\r\n\r\nwhole")
            await writer.drain()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setattr(addresses, "_HTTPS_PORT", port)
        yield f"https://127.0.0.1:{port}", asked
        for writer in writers:
            writer.transport.abort()


async def fetched(url: str, way: Way) -> bytes:
    """Fetch an image as a run does."""
    opened = open_http(
        image_hosts=frozenset({"127.0.0.1"}),
        user_agent="test",
        connections=1,
        is_fast=way == "fast client",
    )
    async with opened as client, client.open(url) as body:
        return b"".join([bytes(chunk) async for chunk in body.chunks()])


@pytest.mark.case("CDN-24")
@pytest.mark.parametrize("name", CERTIFICATES)
async def test_a_certificate_must_be_this_hosts_and_of_today(
    certificates: dict[str, Path], name: str, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = certificates[name]
    believe(folder, monkeypatch)
    async with secure_host(server_side(folder), monkeypatch) as (url, asked):
        if name == "good":
            assert await fetched(f"{url}/x.jpg", way) == b"whole"
            return
        with pytest.raises(ItemError) as caught:
            await fetched(f"{url}/x.jpg", way)
        assert (caught.value.code, caught.value.fault) == (Code.SOURCE_ERROR, Blame.SYSTEMIC)
        assert asked == [], "not a word is said to who cannot be trusted"


@pytest.mark.case("CDN-24")
@pytest.mark.parametrize("how", ["TLS 1.0", "no TLS"])
async def test_who_does_not_speak_tls_of_today_is_not_talked_to(
    certificates: dict[str, Path], how: str, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = certificates["good"]
    believe(folder, monkeypatch)
    context = of_1999(folder) if how == "TLS 1.0" else None
    async with secure_host(context, monkeypatch) as (url, asked):
        with pytest.raises(ItemError) as caught:
            await fetched(f"{url}/x.jpg", way)
        assert (caught.value.code, caught.value.fault) == (Code.SOURCE_ERROR, Blame.SYSTEMIC)
        assert asked == []


@pytest.mark.case("CDN-24")
async def test_a_host_that_signs_its_own_certificate_is_an_outage_and_costs_no_attempt(
    open_faults: OpenFaults,
    small_images: Path,
    certificates: dict[str, Path],
    way: Way,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context = server_side(certificates["good"])
    async with secure_host(context, monkeypatch) as (url, asked):
        hooks = Hooks(listing=lambda items: [it | {"path": f"{url}/x.jpg"} for it in items])
        changes = {**GIVES_UP, "wallhaven_image_hosts": "127.0.0.1"}
        async with open_faults(small(small_images, 2), hooks, **changes) as world:
            audit = await world.run()
            assert (audit.status, asked) == (RunStatus.FAILED, [])
            assert (await codes(world), await attempts(world)) == ({}, {0})
            await world.check(converged=False)


# --- Redirects -----------------------------------------------------------------------------------


class Hosts:
    """Two hosts that are listed, and one that is not; what is asked for there says how it goes on.

    At `/to/N/…` a host sends on to the other one N times more; at `/image/ID` it has the image.
    """

    def __init__(self, one: HttpPeer, two: HttpPeer, stranger: HttpPeer) -> None:
        self.one, self.two, self.stranger = one, two, stranger

    @property
    def listed(self) -> str:
        return f"{self.one.host},{self.two.host}"

    def serve(self, world: FaultyWorld) -> None:
        """Let the listed hosts answer, and have the images of this world."""

        async def image(exchange: Exchange) -> None:
            wallpaper = world.simulator.catalogue.find(exchange.asked.path.rpartition("/")[2])
            assert wallpaper is not None
            await exchange.answer(said(200, body_of(world, wallpaper)))

        async def onward(exchange: Exchange) -> None:
            _, _, number, rest = exchange.asked.path.split("/", 3)
            path = f"/to/{int(number) - 1}/{rest}" if int(number) else f"/image/{rest}"
            await exchange.answer(said(301, location=f"{self._other(exchange)}{path}"))

        for peer in (self.one, self.two, self.stranger):
            peer.on(lambda asked: asked.path.startswith("/to/"), onward, times=None)
            peer.on(lambda asked: asked.path.startswith("/image/"), image, times=None)

    def _other(self, exchange: Exchange) -> str:
        return (self.two if exchange.asked.headers["host"] == self.one.host else self.one).url


@pytest.fixture
async def three_hosts() -> AsyncIterator[Hosts]:
    async with open_peer() as one, open_peer() as two, open_peer() as stranger:
        yield Hosts(one, two, stranger)


def sent_to(three: Hosts, status: int, location: str | None) -> Fault:
    """Send on to an address in which ONE, TWO and STRANGER are hosts, and ID is the image."""

    async def fault(exchange: Exchange) -> None:
        target = (location or "").replace("ID", exchange.asked.path.rpartition("/")[2])
        for name in ("one", "two", "stranger"):
            target = target.replace(name.upper(), getattr(three, name).host)
        headers = {} if location is None else {"location": target}
        await exchange.answer(said(status, **headers))

    return fault


@asynccontextmanager
async def redirecting(
    open_faults: OpenFaults, images: Path, three: Hosts, sent: Mapping[str, tuple[int, str | None]]
) -> AsyncIterator[tuple[FaultyWorld, dict[str, str]]]:
    """Open a world whose images are each sent somewhere; yield it, and the id of each."""

    def listing(items: list[dict[str, Any]]) -> list[object]:
        return [item | {"path": f"{three.one.url}/first/{item['id']}"} for item in items]

    changes = {
        **GIVES_UP,
        "wallhaven_image_hosts": three.listed,
        "wallhaven_api_key": "canary",
    }
    options = small(images, len(sent), api_keys=frozenset({"canary"}))
    async with open_faults(options, Hooks(listing=listing), **changes) as world:
        three.serve(world)
        ids = {name: wallpaper.id for name, wallpaper in zip(sent, in_turn(world), strict=True)}
        for name, (status, location) in sent.items():
            path = f"/first/{ids[name]}"
            fault = sent_to(three, status, location)
            three.one.on(lambda asked, path=path: asked.path == path, fault, times=None)
        yield world, ids


FOLLOWED: dict[str, tuple[int, str | None]] = {
    **{str(status): (status, "http://TWO/image/ID") for status in (301, 302, 303, 307, 308)},
    "same host": (302, "http://ONE/image/ID"),
    "path": (302, "/image/ID"),
    "relative": (302, "../image/ID"),
    "no scheme": (302, "//TWO/image/ID"),
    "fragment": (302, "http://TWO/image/ID#there"),
    "three hops": (302, "http://TWO/to/1/ID"),
}


@both_ways
@pytest.mark.case("CDN-19")
async def test_an_image_that_has_moved_to_a_listed_host_is_fetched_there(
    open_faults: OpenFaults, small_images: Path, three_hosts: Hosts
) -> None:
    async with redirecting(open_faults, small_images, three_hosts, FOLLOWED) as (world, _):
        audit = await world.run()
        assert (audit.status, audit.images_uploaded) == (RunStatus.SUCCEEDED, len(FOLLOWED))
        assert {await tries(world, wallpaper) for wallpaper in in_turn(world)} == {1}
        for asked in (*three_hosts.one.asked, *three_hosts.two.asked):
            assert "canary" not in str(asked.headers), "the API's key is for the API"
            assert not {"referer", "authorization", "cookie"} & asked.headers.keys()
        await world.check(secrets=["canary"])


REFUSED: dict[str, tuple[int, str | None]] = {
    "a stranger": (302, "http://STRANGER/image/ID"),
    "a stranger without scheme": (302, "//STRANGER/image/ID"),
    "a stranger behind a user": (302, "http://ONE@STRANGER/image/ID"),
    "a listed host with a user": (302, "http://me:secret@TWO/image/ID"),
    "another scheme": (302, "https://TWO/image/ID"),
    "metadata of a cloud": (302, "http://169.254.169.254/latest/meta-data/"),
    "a private network": (302, "http://10.0.0.1/image/ID"),
    "loopback": (302, "http://127.0.0.1/image/ID"),
    "loopback as a number": (302, "http://2130706433/image/ID"),
    "loopback of IPv6": (302, "http://[::1]/image/ID"),
    "loopback mapped": (302, "http://[::ffff:127.0.0.1]/image/ID"),
    "a script": (302, "javascript:alert(1)"),
    "a file": (302, "file:///etc/passwd"),
    "data": (302, "data:image/png;base64,iVBORw0KGgo="),
    "an address without end": (302, "http://[::1/image/ID"),
    "no address": (302, None),
    "itself": (302, "/first/ID"),
    "nothing": (302, ""),
    "four hops": (302, "http://TWO/to/2/ID"),
    "eleven hops": (302, "http://TWO/to/9/ID"),
    "a choice": (300, "http://TWO/image/ID"),
    "a proxy": (305, "http://TWO/image/ID"),
}


@pytest.mark.case("CDN-19")
async def test_a_host_that_sends_all_images_elsewhere_is_an_outage_and_blames_none(
    open_faults: OpenFaults, small_images: Path, three_hosts: Hosts
) -> None:
    portal = {str(number): (302, "http://STRANGER/image/ID") for number in range(25)}
    async with redirecting(open_faults, small_images, three_hosts, portal) as (world, _):
        audit = await world.run()
        assert audit.status is RunStatus.FAILED
        assert await codes(world) == {}
        await world.check(converged=False, secrets=["canary"])


@both_ways
@pytest.mark.case("CDN-19")
@pytest.mark.usefixtures("no_outages")
async def test_a_redirect_to_anywhere_else_is_refused_at_once(
    open_faults: OpenFaults, small_images: Path, three_hosts: Hosts
) -> None:
    async with redirecting(open_faults, small_images, three_hosts, REFUSED) as (world, ids):
        audit = await world.run()
        assert (audit.images_uploaded, audit.download_failures) == (0, len(REFUSED))
        refused = (Code.REDIRECT_REFUSED, 1)
        assert await codes(world) == dict.fromkeys(ids.values(), refused)
        assert three_hosts.stranger.asked == []
        eleven = [it for it in three_hosts.two.asked if it.path.endswith(ids["eleven hops"])]
        assert len(eleven) == 2, "four requests in all, at one host and the other in turn"
        itself = [it for it in three_hosts.one.asked if it.path.endswith(ids["itself"])]
        assert len(itself) == 4
        await world.check(secrets=["canary"])


@pytest.mark.case("CDN-19")
@pytest.mark.usefixtures("no_outages")
async def test_slashes_that_browsers_take_for_a_host_stay_at_the_host_that_sent_them(
    open_faults: OpenFaults, small_images: Path, three_hosts: Hosts
) -> None:
    slashes = ("/\\STRANGER/image/ID", "\\\\STRANGER/image/ID", "/%5CSTRANGER/image/ID")
    sent: dict[str, tuple[int, str | None]] = {it: (302, it) for it in slashes}
    async with redirecting(open_faults, small_images, three_hosts, sent) as (world, ids):
        for listed in (three_hosts.one, three_hosts.two):
            listed.on(everything, http.status(404), times=None)
        await world.run()
        assert await codes(world) == dict.fromkeys(ids.values(), (Code.NOT_FOUND, TRIES))
        assert three_hosts.stranger.asked == []
        await world.check()
