from __future__ import annotations

import pytest
from aiohttp import (
    ClientConnectorDNSError,
    ClientOSError,
    ConnectionTimeoutError,
    ServerDisconnectedError,
    ServerTimeoutError,
)
from aiohttp.client_reqrep import ConnectionKey

from collector.core.errors import Code, ItemError, Outage
from collector.ports import ObjectExists, WriteUnknown
from collector.store.failures import (
    Location,
    NoReply,
    Refused,
    Unauthorized,
    Unreachable,
    read_refusal,
    read_transport_error,
)

LOCATION = Location("bucket", "store:9000")
HOST = ConnectionKey("store", 9000, True, True, None, None, None)


def test_name_that_does_not_resolve_is_an_outage() -> None:
    failure = read_transport_error(ClientConnectorDNSError(HOST, OSError("no")), sent=True)
    error = LOCATION.error_of(failure)
    assert isinstance(error, Outage)
    assert error.problem == (
        "store store:9000: the host name does not resolve; check S3_ENDPOINT_URL"
    )


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize(
    "error",
    [ServerDisconnectedError(), ClientOSError(), ServerTimeoutError(), TimeoutError(), None],
)
def test_lost_reply_is_unclear_if_something_was_sent(error: Exception | None, sent: bool) -> None:
    failure = read_transport_error(error, sent=sent)
    assert isinstance(failure, NoReply)
    assert failure.unclear is sent
    expected = WriteUnknown if sent else ItemError
    assert type(LOCATION.write_error_of("key", failure)) is expected


def test_no_connection_in_time_was_never_sent() -> None:
    assert isinstance(read_transport_error(ConnectionTimeoutError(), sent=True), Unreachable)


@pytest.mark.parametrize(
    ("status", "code", "busy", "unclear"),
    [
        (500, "InternalError", True, True),
        (502, None, True, True),
        (503, "SlowDown", True, False),
        (429, None, True, False),
        (400, "RequestTimeout", True, False),
        (501, "NotImplemented", False, False),
        (507, None, False, False),
        (403, "AccessDenied", False, False),
        (409, "ConditionalRequestConflict", False, False),
    ],
)
def test_refusals(status: int, code: str | None, busy: bool, unclear: bool) -> None:
    refusal = Refused(status, code)
    assert (refusal.is_busy, refusal.unclear) == (busy, unclear)
    assert refusal.code == (code or str(status))


@pytest.mark.parametrize("body", [b"", b"<html>", b"<Code>a b</Code>", b"<Code>" + b"x" * 65])
def test_without_a_valid_code_the_status_is_the_code(body: bytes) -> None:
    assert read_refusal(404, body, None).code == "404"


def test_text_of_a_store_cannot_break_a_log_line() -> None:
    refusal = Refused(404, "No\nSuch", region="a\nb")
    assert (refusal.code, refusal.region) == ("404", None)


def test_a_refused_write_is_unknown_only_after_an_unclear_attempt() -> None:
    refusal = Refused(412, "PreconditionFailed")
    assert isinstance(LOCATION.write_error_of("key", refusal), ObjectExists)
    refusal.unclear = True
    assert isinstance(LOCATION.write_error_of("key", refusal), WriteUnknown)


def test_missing_credentials_are_an_outage() -> None:
    assert str(LOCATION.error_of(Unauthorized("set them"))) == "upload: store store:9000: set them"


def test_a_400_with_an_unknown_code_concerns_the_item() -> None:
    error = LOCATION.error_of(Refused(400, "InvalidArgument"))
    assert isinstance(error, ItemError)
    assert error.code is Code.STORE_ERROR
