"""S3Store against a server with scripted answers: what each answer leads to."""

from __future__ import annotations

import asyncio
import hashlib
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import ClientTimeout

from collector.core.errors import Code, Edge, Fault, ItemError, Outage
from collector.core.images import ImageType
from collector.core.parts import Chunk
from collector.ports import ObjectExists, Upload, UploadedPart, WriteUnknown
from collector.store import S3Options, S3Store, open_s3
from collector.store.bodies import TLS_PIECE_BYTES, _pieces

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "wallpapers/abc.jpg"
BODY: list[Chunk] = [b"first ", memoryview(b"and last")]
WHOLE = b"first and last"
DIGEST = hashlib.sha256(WHOLE).digest()
UPLOAD = Upload(KEY, "upload/1")
PARTS = [UploadedPart(2, '"e2"', b"2" * 32), UploadedPart(1, '"e1"', b"1" * 32)]
SECRET = "canary-secret"
# Silence is judged after this; a loopback answer takes a hundredth of it.
READ_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class ScriptedStore:
    """Reads each request whole and gives the next answer; DROP closes, SILENCE never answers."""

    DROP = b"DROP"
    SILENCE = b"SILENCE"

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.requests: list[Request] = []
        self.received = asyncio.Event()
        self.port = 0
        self.connections: set[asyncio.Task[None]] = set()

    def begin(self, answers: Sequence[bytes]) -> None:
        self.answers = list(answers)
        self.requests = []
        self.received.clear()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await read_request(reader)
                self.requests.append(request)
                self.received.set()
                answer = self.answers.pop(0) if self.answers else reply(500, "OutOfScript")
                if answer == self.DROP:
                    break
                if answer == self.SILENCE:
                    await reader.read()
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()


async def read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    fields = (line.partition(": ") for line in head[1:] if line)
    headers = {name.lower(): value for name, _, value in fields}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target, headers, body)


def raw(status: int, body: bytes = b"", /, **headers: str) -> bytes:
    fields = {"content-length": str(len(body)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} -\r\n{lines}\r\n".encode() + body


def reply(status: int, code: str, **headers: str) -> bytes:
    detail = f"<Message>{SECRET}</Message><AWSAccessKeyId>{SECRET}</AWSAccessKeyId>"
    return raw(status, f"<Error><Code>{code}</Code>{detail}</Error>".encode(), **headers)


def xml(root: str, content: str) -> bytes:
    return raw(200, f"<{root}>{content}</{root}>".encode())


STORED = raw(200, etag='"e"')
COMPLETED = xml("CompleteMultipartUploadResult", "<ETag>e-2</ETag>")
SLOW_DOWN = reply(503, "SlowDown")
BROKEN = reply(500, "InternalError")
CONFLICT = reply(409, "ConditionalRequestConflict")
EXISTS = reply(412, "PreconditionFailed")
ABORTED = raw(204)
NO_UPLOAD = reply(404, "NoSuchUpload")
ONE_PART = xml("ListPartsResult", "<Part><PartNumber>1</PartNumber></Part>")


def options_for(port: int) -> S3Options:
    return S3Options(
        bucket="bucket",
        endpoint_url=f"http://127.0.0.1:{port}",
        region="us-east-1",
        access_key="access",
        secret_key=SECRET,
        connections=2,
        connect_seconds=READ_SECONDS,
        read_seconds=READ_SECONDS,
    )


def no_jitter() -> float:
    return 0.0


class Scripted:
    """One client for all tests of this module: to open one takes a tenth of a second."""

    def __init__(self, store: S3Store, server: ScriptedStore) -> None:
        self._store = store
        self._server = server

    @asynccontextmanager
    async def __call__(self, *answers: bytes) -> AsyncIterator[tuple[S3Store, ScriptedStore]]:
        self._server.begin(answers)
        yield self._store, self._server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scripted() -> AsyncIterator[Scripted]:
    server = ScriptedStore()
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0)
    try:
        server.port = listener.sockets[0].getsockname()[1]
        async with open_s3(options_for(server.port), jitter=no_jitter) as store:
            yield Scripted(store, server)
    finally:
        listener.close()
        await asyncio.gather(*server.connections)


@asynccontextmanager
async def closed_port() -> AsyncIterator[int]:
    """A port of ours that nobody listens on."""
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    yield port


async def put(store: S3Store) -> None:
    await store.put(
        KEY,
        BODY,
        size_bytes=len(WHOLE),
        sha256=DIGEST,
        content_type=ImageType.JPEG,
        token="ours",
    )


async def send_part(store: S3Store) -> UploadedPart:
    return await store.upload_part(UPLOAD, 3, BODY, size_bytes=len(WHOLE), sha256=DIGEST)


async def complete(store: S3Store) -> None:
    await store.complete(UPLOAD, PARTS)


async def begin(store: S3Store) -> Upload:
    return await store.begin(KEY, content_type=ImageType.PNG, token="ours")


async def abort(store: S3Store) -> None:
    await store.abort(UPLOAD)


async def head(store: S3Store) -> object:
    return await store.head(KEY)


Call = Callable[[S3Store], Awaitable[object]]


async def failure(scripted: Scripted, call: Call, *answers: bytes) -> tuple[Exception, int]:
    """Return what `call` raised and how many requests it took."""
    async with scripted(*answers) as (store, server):
        with pytest.raises((ItemError, Outage, ObjectExists, WriteUnknown)) as caught:
            await call(store)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    return caught.value, len(server.requests)


async def item_error(
    scripted: Scripted, call: Call, *answers: bytes
) -> tuple[Code, Fault, Edge, int]:
    error, requests = await failure(scripted, call, *answers)
    assert isinstance(error, ItemError)
    return error.code, error.fault, error.edge, requests


# put


async def test_put_is_one_conditional_signed_request(scripted: Scripted) -> None:
    async with scripted(STORED) as (store, server):
        await put(store)
    (request,) = server.requests
    assert (request.method, request.target) == ("PUT", f"/bucket/{KEY}")
    assert request.body == WHOLE
    sent = request.headers
    assert sent["if-none-match"] == "*"
    assert sent["content-type"] == "image/jpeg"
    assert sent["content-length"] == str(len(WHOLE))
    assert sent["x-amz-content-sha256"] == DIGEST.hex()
    assert sent["x-amz-checksum-sha256"] == "kknYOyhp176RIHi5A9w0NTchBimSTgUQGEh+k/XaSdo="
    assert sent["x-amz-meta-sha256"] == DIGEST.hex()
    assert sent["x-amz-meta-token"] == "ours"
    covered = sent["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert set(sent) - set(covered) <= {"authorization", "content-length"}


async def test_put_onto_an_object(scripted: Scripted) -> None:
    error, requests = await failure(scripted, put, EXISTS)
    assert isinstance(error, ObjectExists)
    assert (error.key, requests) == (KEY, 1)


@pytest.mark.parametrize("passing", [CONFLICT, SLOW_DOWN, BROKEN, raw(502), raw(429)])
async def test_put_outlives_what_passes(scripted: Scripted, passing: bytes) -> None:
    async with scripted(passing, passing, STORED) as (store, server):
        await put(store)
    assert [request.body for request in server.requests] == [WHOLE] * 3


@pytest.mark.parametrize("passing", [CONFLICT, SLOW_DOWN, BROKEN, raw(502), raw(429)])
async def test_put_is_tried_four_times(scripted: Scripted, passing: bytes) -> None:
    expected = (Code.STORE_ERROR, Fault.TRANSIENT, Edge.UPLOAD, 4)
    assert await item_error(scripted, put, *[passing] * 9) == expected


async def test_object_found_after_a_broken_try_may_be_ours(scripted: Scripted) -> None:
    error, requests = await failure(scripted, put, BROKEN, EXISTS)
    assert isinstance(error, WriteUnknown)
    assert requests == 2


async def test_object_found_after_a_conflict_is_not_ours(scripted: Scripted) -> None:
    error, _ = await failure(scripted, put, CONFLICT, SLOW_DOWN, EXISTS)
    assert isinstance(error, ObjectExists)


@pytest.mark.parametrize("lost", [ScriptedStore.DROP, ScriptedStore.SILENCE, raw(200)])
async def test_lost_reply_of_a_put_is_unknown(scripted: Scripted, lost: bytes) -> None:
    error, requests = await failure(scripted, put, lost)
    assert isinstance(error, WriteUnknown)
    assert (error.key, requests) == (KEY, 1)


async def test_lost_reply_on_a_kept_connection_is_not_repeated_unseen(scripted: Scripted) -> None:
    async with scripted(STORED, ScriptedStore.DROP, STORED) as (store, server):
        await put(store)
        with pytest.raises(WriteUnknown):
            await put(store)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "code",
    ["BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"],
)
async def test_other_bytes_than_sent(scripted: Scripted, code: str) -> None:
    expected = (Code.CHECKSUM_MISMATCH, Fault.TRANSIENT, Edge.UPLOAD, 1)
    assert await item_error(scripted, put, reply(400, code)) == expected


async def test_wait_for_a_connection_is_bounded_and_no_outage(scripted: Scripted) -> None:
    async with (
        scripted(ScriptedStore.SILENCE) as (_, server),
        open_s3(replace(options_for(server.port), connections=1)) as store,
    ):
        session = store._bodies._session
        url = f"http://127.0.0.1:{server.port}/"
        holder = asyncio.create_task(session.get(url, timeout=ClientTimeout()).__aenter__())
        await asyncio.wait_for(server.received.wait(), timeout=5.0)
        with pytest.raises(ItemError, match="no answer in time"):
            await asyncio.wait_for(put(store), timeout=5.0)
        holder.cancel()
        with suppress(asyncio.CancelledError):
            await holder
    assert len(server.requests) == 1


async def test_body_that_nobody_reads_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sockets' buffers take less, so the write stalls; then the whole call's time counts."""
    monkeypatch.setattr("collector.store.bodies.SLOWEST_BYTES_PER_SECOND", 1e9)
    body = bytes(64 * 1024 * 1024)
    asleep = asyncio.Event()

    async def read_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asleep.wait()
        writer.close()

    listener = await asyncio.start_server(read_nothing, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, open_s3(options_for(port), jitter=no_jitter) as store:
        with pytest.raises(WriteUnknown, match="no answer in time"):
            await store.put(
                KEY,
                [body],
                size_bytes=len(body),
                sha256=DIGEST,
                content_type=ImageType.JPEG,
                token="ours",
            )
        asleep.set()


# Outages: what no retry of one item mends


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (403, "AccessDenied", "grant s3:ListBucket"),
        (403, "SomethingNew", "grant s3:ListBucket"),
        (403, "InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "check AWS_SECRET_ACCESS_KEY"),
        (400, "ExpiredToken", "renew the credentials"),
        (404, "NoSuchBucket", "bucket bucket does not exist"),
        (403, "RequestTimeTooSkewed", "set the clock"),
        (301, "PermanentRedirect", r"in another region \(eu-west-1\): set AWS_DEFAULT_REGION"),
        (400, "AuthorizationHeaderMalformed", "set AWS_DEFAULT_REGION"),
        (501, "NotImplemented", "does not support"),
        (507, "XMinioStorageFull", "the store is full"),
    ],
)
@pytest.mark.parametrize("call", [put, send_part, complete])
async def test_systemic_refusals_are_outages(
    scripted: Scripted, call: Call, status: int, code: str, remedy: str
) -> None:
    refusal = reply(status, code, x_amz_bucket_region="eu-west-1")
    error, requests = await failure(scripted, call, *[refusal] * 9)
    assert isinstance(error, Outage)
    assert error.edge is Edge.UPLOAD
    # The SDK follows a redirect to the region it names, once for each client.
    assert requests == 1 or (call is complete and requests == 2 and "REGION" in remedy)
    with pytest.raises(Outage, match=remedy):
        raise error


@pytest.mark.parametrize(
    ("status", "remedy"), [(403, "grant s3:ListBucket"), (400, "check credentials")]
)
async def test_refused_head_is_an_outage(scripted: Scripted, status: int, remedy: str) -> None:
    error, _ = await failure(scripted, head, *[raw(status)] * 4)
    with pytest.raises(Outage, match=remedy):
        raise error


@pytest.mark.parametrize("call", [put, send_part, complete, head, begin, abort])
async def test_no_server_is_an_outage(call: Call) -> None:
    async with closed_port() as port, open_s3(options_for(port), jitter=no_jitter) as store:
        with pytest.raises(Outage, match=f"127.0.0.1:{port}: no connection.*S3_ENDPOINT_URL"):
            await call(store)


@pytest.mark.parametrize("call", [put, head])
async def test_no_tls_is_an_outage(call: Call) -> None:
    async def answer_in_plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(raw(400))
        writer.close()

    listener = await asyncio.start_server(answer_in_plain, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    options = replace(options_for(port), endpoint_url=f"https://127.0.0.1:{port}")
    async with listener, open_s3(options, jitter=no_jitter) as store:
        with pytest.raises(Outage, match="TLS was refused"):
            await call(store)


async def test_a_body_over_tls_arrives_as_it_was(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate / "cert.pem"))
    chunks: list[Chunk] = [random.Random(7).randbytes(2 * TLS_PIECE_BYTES + 1), b"last"]
    whole, server = b"".join(chunks), ScriptedStore()
    server.begin([STORED])
    listener = await asyncio.start_server(server.accept, "127.0.0.1", 0, ssl=trust)
    port = listener.sockets[0].getsockname()[1]
    options = replace(options_for(port), endpoint_url=f"https://127.0.0.1:{port}")
    async with listener, open_s3(options, jitter=no_jitter) as store:
        await store.put(
            KEY,
            chunks,
            size_bytes=len(whole),
            sha256=hashlib.sha256(whole).digest(),
            content_type=ImageType.JPEG,
            token="ours",
        )

    assert [request.body for request in server.requests] == [whole]


async def test_a_body_over_tls_goes_out_in_pieces_of_its_own_memory() -> None:
    chunk = memoryview(bytearray(2 * TLS_PIECE_BYTES + 1))
    pieces = [memoryview(piece) for piece in _pieces([chunk, b"last"])]
    assert [len(piece) for piece in pieces] == [TLS_PIECE_BYTES, TLS_PIECE_BYTES, 1, 4]
    assert all(piece.obj is chunk.obj for piece in pieces[:3])


async def test_no_credentials_is_an_outage(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", f"{tmp_path}/credentials")
    monkeypatch.setenv("AWS_CONFIG_FILE", f"{tmp_path}/config")
    with pytest.raises(Outage, match="no credentials were found: set AWS_ACCESS_KEY_ID"):
        async with open_s3(replace(options_for(1), access_key=None)):
            pytest.fail("opened without credentials")


# parts


async def test_part_is_signed_with_its_query(scripted: Scripted) -> None:
    async with scripted(STORED) as (store, server):
        assert await send_part(store) == UploadedPart(3, '"e"', DIGEST)
    (request,) = server.requests
    assert request.target == f"/bucket/{KEY}?partNumber=3&uploadId=upload%2F1"
    assert request.body == WHOLE
    assert "if-none-match" not in request.headers


@pytest.mark.parametrize("passing", [ScriptedStore.DROP, SLOW_DOWN, BROKEN, raw(200)])
async def test_part_outlives_what_passes(scripted: Scripted, passing: bytes) -> None:
    async with scripted(passing, STORED) as (store, server):
        assert (await send_part(store)).etag == '"e"'
    assert len(server.requests) == 2


async def test_part_of_a_lost_upload_is_the_items_failure(scripted: Scripted) -> None:
    expected = (Code.STORE_ERROR, Fault.TRANSIENT, Edge.UPLOAD, 1)
    assert await item_error(scripted, send_part, NO_UPLOAD) == expected


# begin


async def test_begin_carries_the_token_and_asks_for_checksums(scripted: Scripted) -> None:
    started = xml("InitiateMultipartUploadResult", "<UploadId>upload/1</UploadId>")
    async with scripted(SLOW_DOWN, started) as (store, server):
        assert await begin(store) == UPLOAD
    sent = server.requests[1].headers
    assert sent["x-amz-meta-token"] == "ours"
    assert sent["x-amz-checksum-algorithm"] == "SHA256"
    assert sent["content-type"] == "image/png"
    assert "x-amz-meta-sha256" not in sent


async def test_begin_without_an_id_is_the_items_failure(scripted: Scripted) -> None:
    assert (await item_error(scripted, begin, raw(200)))[0] is Code.STORE_ERROR


# complete


async def test_complete_is_conditional_and_names_parts_in_order(scripted: Scripted) -> None:
    async with scripted(SLOW_DOWN, COMPLETED) as (store, server):
        await complete(store)
    request = server.requests[1]
    assert request.headers["if-none-match"] == "*"
    first, second = request.body.index(b"<PartNumber>1<"), request.body.index(b"<PartNumber>2<")
    assert first < second
    assert request.body.count(b"<ChecksumSHA256>MTEx") == 1


@pytest.mark.parametrize(
    "answer",
    [
        raw(200),
        raw(200, b"<html>busy</html>"),
        NO_UPLOAD,
        ScriptedStore.DROP,
        ScriptedStore.SILENCE,
    ],
)
async def test_complete_without_a_clear_answer_is_unknown(
    scripted: Scripted, answer: bytes
) -> None:
    error, requests = await failure(scripted, complete, answer)
    assert isinstance(error, WriteUnknown)
    assert requests == 1


async def test_complete_cut_off_is_repeated_and_stays_unknown(scripted: Scripted) -> None:
    cut = raw(200, b"<CompleteMultipartUploadResult><ETag>e")
    error, requests = await failure(scripted, complete, cut, EXISTS)
    assert isinstance(error, WriteUnknown)
    assert requests == 2


@pytest.mark.parametrize("space", [b"", b"  \n"])
async def test_error_inside_a_200_is_no_success(scripted: Scripted, space: bytes) -> None:
    hidden = raw(200, space + b"<Error><Code>InternalError</Code></Error>")
    async with scripted(hidden, COMPLETED) as (store, server):
        await complete(store)
    assert len(server.requests) == 2
    error, requests = await failure(scripted, complete, *[hidden] * 9)
    assert isinstance(error, WriteUnknown)
    assert requests == 4


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([EXISTS], ObjectExists),
        ([SLOW_DOWN, EXISTS], ObjectExists),
        ([BROKEN, EXISTS], WriteUnknown),
        ([SLOW_DOWN, NO_UPLOAD], WriteUnknown),
    ],
)
async def test_complete_onto_an_object(
    scripted: Scripted, answers: list[bytes], expected: type[Exception]
) -> None:
    error, requests = await failure(scripted, complete, *answers)
    assert type(error) is expected
    assert requests == len(answers)


@pytest.mark.parametrize("answer", [CONFLICT, reply(400, "InvalidPart")])
async def test_complete_that_must_start_again_is_the_items_failure(
    scripted: Scripted, answer: bytes
) -> None:
    expected = (Code.STORE_ERROR, Fault.TRANSIENT, Edge.UPLOAD, 1)
    assert await item_error(scripted, complete, answer) == expected


# abort, head, read, listings


async def test_abort_is_repeated_until_no_part_is_left(scripted: Scripted) -> None:
    async with scripted(ABORTED, ONE_PART, ABORTED, NO_UPLOAD) as (store, server):
        await abort(store)
    assert [request.method for request in server.requests] == ["DELETE", "GET"] * 2


@pytest.mark.parametrize("answers", [[NO_UPLOAD], [ABORTED, xml("ListPartsResult", "")]])
async def test_abort_of_what_is_gone(scripted: Scripted, answers: list[bytes]) -> None:
    async with scripted(*answers) as (store, server):
        await abort(store)
    assert len(server.requests) == len(answers)


async def test_abort_gives_up_when_parts_keep_arriving(scripted: Scripted) -> None:
    assert (await item_error(scripted, abort, *[ABORTED, ONE_PART] * 9))[3] == 10


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x_amz_checksum_sha256": "c2hh"}, "sha256:c2hh"),
        ({"x_amz_checksum_sha256": "c2hh-3", "x_amz_checksum_crc32": "Y3Jj"}, "sha256:c2hh-3"),
        ({"x_amz_checksum_crc64nvme": "Y3Jj"}, "crc64nvme:Y3Jj"),
    ],
)
async def test_head_tells_the_store_s_checksum(
    scripted: Scripted, headers: dict[str, str], expected: str | None
) -> None:
    answer = raw(200, etag='"e"', x_amz_meta_token="ours", **headers)
    async with scripted(answer.replace(b"length: 0", b"length: 7"), ABORTED) as (store, server):
        info = await store.head(KEY)
    assert info is not None
    assert (info.size_bytes, info.token, info.sha256) == (7, "ours", None)
    assert info.checksum == expected
    assert server.requests[0].headers["x-amz-checksum-mode"] == "ENABLED"


async def test_head_without_a_length_is_the_items_failure(scripted: Scripted) -> None:
    answer = raw(200, etag='"e"').replace(b"content-length: 0", b"x-other: 0")
    assert (await item_error(scripted, head, answer))[0] is Code.STORE_ERROR


async def test_read_that_breaks_off_is_transient(scripted: Scripted) -> None:
    cut = raw(200, b"x" * 10, etag='"e"').replace(b"length: 10", b"length: 11")

    async def read(store: S3Store) -> None:
        async with store.read(KEY) as chunks:
            async for chunk in chunks:
                assert chunk == b"x" * 10

    expected = (Code.STORE_ERROR, Fault.TRANSIENT, Edge.UPLOAD, 1)
    assert await item_error(scripted, read, cut) == expected


async def test_uploads_reads_on_after_a_page(scripted: Scripted) -> None:
    def page(key: str, truncated: str) -> bytes:
        upload = f"<Upload><Key>{key}</Key><UploadId>{key}-id</UploadId></Upload>"
        return xml("ListMultipartUploadsResult", f"<IsTruncated>{truncated}</IsTruncated>{upload}")

    async with scripted(page("a", "true"), page("b", "false")) as (store, server):
        found = [upload async for upload in store.uploads("w/")]
    assert found == [Upload("a", "a-id"), Upload("b", "b-id")]
    assert "key-marker=a&upload-id-marker=a-id" in server.requests[1].target


async def test_chunks_must_be_as_long_as_said(scripted: Scripted) -> None:
    async with scripted(STORED) as (store, server):
        with pytest.raises(ValueError, match="chunks hold 14 bytes, not 15"):
            await store.upload_part(UPLOAD, 1, BODY, size_bytes=15, sha256=DIGEST)
    assert server.requests == []
