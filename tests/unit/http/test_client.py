"""HTTP: what leaves, what is followed, and what each trouble on the wire becomes."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import pytest
from aiohttp import web
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.test_utils import TestServer
from aioresponses import aioresponses

from collector.core.errors import Code, Edge, Fault, ItemError, Outage, PayloadError
from collector.http import MAX_REPLY_BYTES, AiohttpClient, describe, open_http
from collector.http.addresses import PrivateAddress, PublicResolver, require_public
from collector.http.client import MAX_REDIRECTS
from collector.http.connection import MIN_CHUNK_BYTES

API_URL = "https://wallhaven.cc/api/v1/search?page=1"
IMAGE_URL = "https://w.wallhaven.cc/full/21/wallhaven-2169oy.png"
KEY = "SECRETkey"
AGENT = "draenei-collector/test"
# A local answer that takes longer than this will never come.
TIMEOUT_SECONDS = 10

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
NAME = "w.wallhaven.cc"


@pytest.fixture(autouse=True, params=[True, False], ids=["fast client", "aiohttp"])
def fast_client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images take the fast client, or aiohttp alone: what is promised holds on both."""
    monkeypatch.setitem(globals(), "FAST_LANE", request.param)


FAST_LANE = True


@asynccontextmanager
async def client(*hosts: str, connections: int = 4) -> AsyncIterator[AiohttpClient]:
    opened = open_http(
        image_hosts=frozenset(hosts),
        user_agent=AGENT,
        connections=connections,
        is_fast=FAST_LANE,
    )
    with anyio.fail_after(TIMEOUT_SECONDS):
        async with opened as http:
            yield http


@asynccontextmanager
async def serving(**handlers: Handler) -> AsyncIterator[str]:
    """Serve each handler under its name; yield the server's host and port."""
    app = web.Application()
    for name, handler in handlers.items():
        app.router.add_get(f"/{name}", handler)
    async with TestServer(app) as server:
        yield f"{server.host}:{server.port}"


@asynccontextmanager
async def answering(raw: bytes, *, abort: bool = False) -> AsyncIterator[str]:
    """Answer each connection's request with these very bytes and close it."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await writer.drain()
        if abort:
            writer.transport.abort()
        else:
            writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield "{}:{}".format(*server.sockets[0].getsockname())


async def body_of(http: AiohttpClient, url: str) -> bytes:
    async with http.open(url) as body:
        return b"".join([chunk async for chunk in body.chunks()])


async def item_error(http: AiohttpClient, url: str) -> ItemError:
    with pytest.raises(ItemError) as caught:
        await body_of(http, url)
    return caught.value


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


# --- Small cases, without a socket --------------------------------------------------------------


async def test_an_answer_comes_whole(mocked_http: aioresponses) -> None:
    mocked_http.get(API_URL, status=503, body=b"busy", headers={"Retry-After": "7"})
    async with client() as http:
        reply = await http.get(API_URL, {"X-API-Key": KEY})
    assert (reply.status, reply.body) == (503, b"busy")
    assert reply.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (aiohttp.ServerDisconnectedError(), "api: ServerDisconnectedError"),
        (aiohttp.ClientOSError(104, "reset"), "api: ClientOSError"),
        (aiohttp.ServerTimeoutError(f"{API_URL}&apikey={KEY}"), "api: no answer in time"),
        (TimeoutError(), "api: no answer in time"),
        (OSError("x"), "api: OSError"),
        (aiohttp.InvalidURL(f"http://[{KEY}"), "api: InvalidURL"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_no_answer_of_the_api_is_an_outage(
    mocked_http: aioresponses, trouble: Exception, told: str
) -> None:
    mocked_http.get(API_URL, exception=trouble)
    async with client() as http:
        with pytest.raises(Outage) as caught:
            await http.get(API_URL, {"X-API-Key": KEY})
    assert caught.value.edge is Edge.API
    assert str(caught.value) == told


async def test_an_answer_that_breaks_off_is_a_payload_error(mocked_http: aioresponses) -> None:
    mocked_http.get(API_URL, exception=aiohttp.ClientPayloadError("secret"))
    async with client() as http:
        with pytest.raises(PayloadError, match="the answer broke off"):
            await http.get(API_URL, {})


def connection_key() -> ConnectionKey:
    return ConnectionKey("w.wallhaven.cc", 443, True, True, None, None, None)


@pytest.mark.parametrize(
    ("trouble", "fault"),
    [
        (aiohttp.ClientConnectorError(connection_key(), OSError("x")), Fault.SYSTEMIC),
        (aiohttp.ClientConnectorDNSError(connection_key(), OSError("x")), Fault.SYSTEMIC),
        (aiohttp.ClientConnectorSSLError(connection_key(), OSError("x")), Fault.SYSTEMIC),
        (aiohttp.ConnectionTimeoutError(), Fault.SYSTEMIC),
        (aiohttp.ServerDisconnectedError(), Fault.TRANSIENT),
        (aiohttp.SocketTimeoutError(), Fault.TRANSIENT),
        (aiohttp.ClientOSError(104, "reset"), Fault.TRANSIENT),
        (aiohttp.InvalidURL("x"), Fault.TRANSIENT),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_whose_fault_it_is_that_no_image_comes(
    mocked_http: aioresponses,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Exception,
    fault: Fault,
) -> None:
    mocked_http.get(IMAGE_URL, exception=trouble)
    monkeypatch.setitem(globals(), "FAST_LANE", False)
    async with client("w.wallhaven.cc") as http:
        error = await item_error(http, IMAGE_URL)
    assert (error.code, error.fault, error.edge) == (Code.SOURCE_ERROR, fault, Edge.DOWNLOAD)


def test_a_connection_that_fails_is_told_with_its_host() -> None:
    error = aiohttp.ClientConnectorError(connection_key(), ConnectionRefusedError("x"))
    assert describe(error) == "cannot connect to w.wallhaven.cc:443 (connection refused)"


# --- What leaves --------------------------------------------------------------------------------


@pytest.mark.case("SEC-04")
async def test_the_key_goes_to_the_api_alone() -> None:
    seen: dict[str, dict[str, str]] = {}

    async def note(request: web.Request) -> web.Response:
        seen[request.path] = {name.lower(): value for name, value in request.headers.items()}
        return web.Response(text="{}")

    async with serving(search=note, image=note) as host, client(host) as http:
        await http.get(f"http://{host}/search", {"X-API-Key": KEY, "User-Agent": "api"})
        await body_of(http, f"http://{host}/image")
    assert seen["/search"]["x-api-key"] == KEY
    assert seen["/search"]["user-agent"] == "api"
    assert KEY not in str(seen["/image"])
    assert seen["/image"]["user-agent"] == AGENT
    for headers in seen.values():
        assert headers["accept-encoding"] == "identity"
        assert "authorization" not in headers
        assert "cookie" not in headers


@pytest.mark.case("SEC-18")
async def test_no_cookie_is_sent_back() -> None:
    cookies: list[str | None] = []

    async def bake(request: web.Request) -> web.Response:
        cookies.append(request.headers.get("Cookie"))
        response = web.Response(text="{}")
        response.set_cookie("session", "tracked")
        return response

    async with serving(search=bake, image=bake) as host, client(host) as http:
        for _ in range(2):
            await http.get(f"http://{host}/search", {})
            await body_of(http, f"http://{host}/image")
    assert cookies == [None] * 4


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_of_images_are_followed_and_of_the_api_not(status: int) -> None:
    followed: list[str] = []

    async def elsewhere(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "/target"})

    async def target(request: web.Request) -> web.Response:
        followed.append(request.path)
        return web.Response(text="image")

    async with serving(moved=elsewhere, target=target) as host, client(host) as http:
        assert (await http.get(f"http://{host}/moved", {})).status == status
        assert followed == []
        async with http.open(f"http://{host}/moved") as body:
            assert body.status == 200
        assert followed == ["/target"]


async def test_a_chain_of_redirects_has_an_end() -> None:
    asked: list[str] = []

    async def onward(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/onward"})

    async with serving(onward=onward) as host, client(host) as http:
        with pytest.raises(ItemError) as caught:
            await body_of(http, f"http://{host}/onward")
    assert (caught.value.code, caught.value.fault) == (Code.REDIRECT_REFUSED, Fault.PERMANENT)
    assert len(asked) == MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "location",
    [
        *("http://169.254.169.254/latest", "http://10.0.0.1/", "https://elsewhere.example/a.jpg"),
        *("//elsewhere.example/a.jpg", "http://user@{host}/a.jpg", "file:///etc/passwd"),
        *("javascript:alert(1)", "http://[", "http://127.0.0.1:1/a.jpg", "ftp://{host}/a.jpg"),
    ],
)
async def test_a_redirect_to_where_we_do_not_go_is_refused(location: str) -> None:
    async def onward(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": location.format(host=request.host)})

    async with serving(onward=onward) as host, client(host) as http:
        with pytest.raises(ItemError) as caught:
            await body_of(http, f"http://{host}/onward")
    assert (caught.value.code, caught.value.fault) == (Code.REDIRECT_REFUSED, Fault.PERMANENT)


@pytest.mark.parametrize("status", [300, 304, 302])
async def test_what_names_no_other_place_is_an_answer(status: int) -> None:
    async def odd(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with (
        serving(odd=odd) as host,
        client(host) as http,
        http.open(f"http://{host}/odd") as body,
    ):
        assert body.status == status


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hello(_: web.Request) -> web.Response:
        return web.Response(text="direct")

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with serving(hello=hello) as host, client(host) as http:
        assert (await http.get(f"http://{host}/hello", {})).body == b"direct"


async def test_a_host_that_is_not_listed_gets_no_connection() -> None:
    connections = 0

    async def count(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.close()

    async with await asyncio.start_server(count, "127.0.0.1", 0) as server:
        host = "{}:{}".format(*server.sockets[0].getsockname())
        async with client("w.wallhaven.cc", "127.0.0.1:1") as http:
            for url in (f"http://{host}/x.jpg", f"https://{host}/x.jpg", f"http://user@{host}/"):
                error = await item_error(http, url)
                assert (error.code, error.fault) == (Code.HOST_REFUSED, Fault.PERMANENT)
    assert connections == 0


# --- What comes ---------------------------------------------------------------------------------


async def test_an_encoded_body_stays_as_it_is() -> None:
    packed = gzip.compress(b"x" * 100_000)

    async def bomb(_: web.Request) -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async with serving(bomb=bomb) as host, client(host) as http:
        assert (await http.get(f"http://{host}/bomb", {})).body == packed
        async with http.open(f"http://{host}/bomb") as body:
            assert body.headers["content-encoding"] == "gzip"
            assert b"".join([chunk async for chunk in body.chunks()]) == packed


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("more", [0, 1])
async def test_an_answer_has_a_largest_size(announced: bool, more: int) -> None:
    size_bytes = MAX_REPLY_BYTES + more

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if announced:
            response.content_length = size_bytes
        await response.prepare(request)
        await response.write(bytes(MAX_REPLY_BYTES))
        await response.write(bytes(more))
        return response

    async with serving(large=large) as host, client(host) as http:
        if more:
            with pytest.raises(PayloadError, match=f"larger than {MAX_REPLY_BYTES} bytes"):
                await http.get(f"http://{host}/large", {})
        else:
            assert len((await http.get(f"http://{host}/large", {})).body) == size_bytes


OK = b"HTTP/1.1 200 OK\r\n"
BROKEN: dict[str, bytes] = {
    "shorter than announced": OK + b"Content-Length: 100\r\n\r\n0123456789",
    "without its last chunk": OK + b"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n",
    "within a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\n0123456789",
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_body_that_breaks_off(name: str) -> None:
    async with answering(BROKEN[name]) as host, client(host) as http:
        with pytest.raises(PayloadError, match="broke off"):
            await http.get(f"http://{host}/", {})
        error = await item_error(http, f"http://{host}/")
    assert (error.code, error.fault) == (Code.SOURCE_ERROR, Fault.TRANSIENT)


NO_ANSWER: dict[str, bytes] = {
    "nothing": b"",
    "half a head": OK + b"Content-",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "absurd length": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "endless header": OK + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", NO_ANSWER)
async def test_an_answer_that_is_none(name: str) -> None:
    async with answering(NO_ANSWER[name]) as host, client(host) as http:
        with pytest.raises(Outage):
            await http.get(f"http://{host}/", {})
        error = await item_error(http, f"http://{host}/")
    assert (error.code, error.fault) == (Code.SOURCE_ERROR, Fault.TRANSIENT)


@asynccontextmanager
async def crumbling(body: bytes, size_bytes: int) -> AsyncIterator[str]:
    """Answer with a body of which so many bytes are sent at a time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + f"Content-Length: {len(body)}\r\n\r\n".encode())
        for start in range(0, len(body), size_bytes):
            writer.write(body[start : start + size_bytes])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield "{}:{}".format(*server.sockets[0].getsockname())


def crumbs_within(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    for module in ("connection", "fast_client"):
        monkeypatch.setattr(f"collector.http.{module}.COALESCE_SECONDS", seconds)


async def test_a_body_in_crumbs_is_few_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view or an object for each byte would weigh a hundred times what the budget counts."""
    crumbs_within(monkeypatch, 1e9)
    body = bytes(range(250)) * 200
    async with (
        crumbling(body, 50) as host,
        client(host) as http,
        http.open(f"http://{host}/") as got,
    ):
        chunks = [bytes(chunk) async for chunk in got.chunks()]
    assert b"".join(chunks) == body
    assert all(len(chunk) >= MIN_CHUNK_BYTES for chunk in chunks[:-1])


async def test_who_watches_hears_of_crumbs_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    crumbs_within(monkeypatch, 0.0)
    async with (
        crumbling(bytes(10_000), 50) as host,
        client(host) as http,
        http.open(f"http://{host}/") as got,
    ):
        first = await anext(got.chunks())
    assert 0 < len(first) < MIN_CHUNK_BYTES


async def test_a_reset_is_transient() -> None:
    async with (
        answering(OK + b"Content-Length: 9\r\n\r\nx", abort=True) as host,
        client(host) as http,
    ):
        with pytest.raises((PayloadError, Outage)):
            await http.get(f"http://{host}/", {})
        assert (await item_error(http, f"http://{host}/")).fault is Fault.TRANSIENT


async def test_nobody_listens(closed_port: int) -> None:
    host = f"127.0.0.1:{closed_port}"
    async with client(host) as http:
        with pytest.raises(Outage, match=f"api: cannot connect to {host} "):
            await http.get(f"http://{host}/?apikey={KEY}", {})
        error = await item_error(http, f"http://{host}/x.jpg")
    assert (error.code, error.fault) == (Code.SOURCE_ERROR, Fault.SYSTEMIC)
    assert error.reason.startswith(f"cannot connect to {host}")


# --- Leaving early ------------------------------------------------------------------------------


async def test_an_image_left_early_is_dropped_and_blocks_nobody() -> None:
    dropped = anyio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(64 * 1024))
        finally:
            dropped.set()

    async def small(_: web.Request) -> web.Response:
        return web.Response(body=b"whole")

    async with serving(endless=endless, small=small) as host, client(host, connections=1) as http:
        async with http.open(f"http://{host}/endless") as body:
            assert await anext(aiter(body.chunks()))
        assert await body_of(http, f"http://{host}/small") == b"whole"
        await dropped.wait()


@pytest.mark.parametrize("status", [200, 404, 503])
async def test_the_body_of_any_answer_can_be_read(status: int) -> None:
    async def say(_: web.Request) -> web.Response:
        return web.Response(status=status, body=b"what it says")

    async with serving(say=say) as host, client(host) as http:
        for _ in range(2):
            assert await body_of(http, f"http://{host}/say") == b"what it says"


async def test_an_image_that_is_refused_by_its_head_blocks_nobody() -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=404, body=bytes(1_000_000))

    async with serving(missing=handler) as host, client(host, connections=1) as http:
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                async with http.open(f"http://{host}/missing") as body:
                    _ = 1 / (body.status - 404)


async def test_a_host_is_not_asked_to_close_and_a_connection_of_aiohttps_is_used_once() -> None:
    """A host that closes may take with it what waits to be read; one that is behind, worse."""
    said: list[str] = []
    peers: list[Any] = []

    async def image(request: web.Request) -> web.Response:
        said.append(request.headers["Connection"].lower())
        peers.append(request.transport and request.transport.get_extra_info("peername"))
        return web.Response(body=b"image")

    async with serving(image=image) as host, client(host) as http:
        for _ in range(2):
            assert await body_of(http, f"http://{host}/image") == b"image"
    assert said == ["keep-alive"] * 2
    assert (len(set(peers)) == 1) is FAST_LANE


@pytest.mark.parametrize("call", [AiohttpClient.get, body_of], ids=["answer", "image"])
async def test_a_cancelled_request_gives_its_connection_back(call: Any) -> None:
    arrived = anyio.Event()

    async def silent(_: web.Request) -> web.Response:
        arrived.set()
        await anyio.sleep_forever()
        raise AssertionError

    async def small(_: web.Request) -> web.Response:
        return web.Response(body=b"whole")

    async with serving(silent=silent, small=small) as host, client(host, connections=1) as http:
        arguments = [http, f"http://{host}/silent", {}][: 3 if call is AiohttpClient.get else 2]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, *arguments)
            await arrived.wait()
            tasks.cancel_scope.cancel()
        assert await body_of(http, f"http://{host}/small") == b"whole"


def test_all_addresses_of_an_answer_count() -> None:
    require_public(NAME, ["104.18.0.1", "2606:4700::1"])
    with pytest.raises(PrivateAddress):
        require_public(NAME, ["104.18.0.1", "10.0.0.1"])


@pytest.mark.parametrize("host", ["localhost", "minio", "127.0.0.1", "[::1]"])
def test_names_of_this_network_may_lead_into_it(host: str) -> None:
    require_public(host, ["127.0.0.1"])


class _Canary(asyncio.Protocol):
    connections = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _Canary.connections += 1


@pytest.mark.case("SEC-01")
@pytest.mark.parametrize("is_fast", [True, False])
async def test_a_name_that_answers_with_a_private_address_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, is_fast: bool
) -> None:
    loop = asyncio.get_running_loop()
    canary = await loop.create_server(_Canary, "127.0.0.1", 0)
    port = canary.sockets[0].getsockname()[1]

    async def rebound(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    async def resolved(*_: Any) -> Any:
        return [
            {
                "hostname": NAME,
                "host": "127.0.0.1",
                "port": port,
                "family": socket.AF_INET,
                "proto": 6,
                "flags": 0,
            }
        ]

    monkeypatch.setattr(loop, "getaddrinfo", rebound, raising=False)
    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", lambda *_: resolved())
    opening = open_http(
        image_hosts=frozenset({NAME}),
        user_agent="test",
        connections=1,
        is_fast=is_fast,
    )
    async with opening as http:
        with pytest.raises(ItemError) as caught:
            async with http.open(f"https://{NAME}/full/ab/wallhaven-abc123.jpg"):
                pass
        # Not the image's fault: whoever answers for the name has gone mad, or bad.
        assert caught.value.fault is Fault.SYSTEMIC
        with pytest.raises(Outage):
            await http.get(f"https://{NAME}/api/v1/search", {})
    canary.close()
    assert _Canary.connections == 0


async def test_the_resolver_answers_for_this_machine() -> None:
    resolver = PublicResolver()
    found = await resolver.resolve("localhost", 80)
    assert {result["host"] for result in found} <= {"127.0.0.1", "::1"}
    await resolver.close()
