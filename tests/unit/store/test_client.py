from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientPayloadError
from botocore import exceptions as sdk
from botocore.loaders import JSONFileLoader
from botocore.parsers import ResponseParserError

from collector.store.client import S3Options, open_control_calls, sdk_errors
from collector.store.failures import NoReply, Refused, StoreFailure, Unauthorized, Unreachable

REFUSAL = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}
SECRET = "canary-secret"
OPTIONS = S3Options("bucket", "https://user:pass@store:9000", "here", SECRET, SECRET, SECRET)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (sdk.ClientError(REFUSAL, "GetObject"), Refused),
        (sdk.ClientError({}, "GetObject"), Refused),
        (sdk.ReadTimeoutError(endpoint_url="x", error=TimeoutError()), NoReply),
        (sdk.ConnectionClosedError(endpoint_url="x"), NoReply),
        (ClientPayloadError(), NoReply),
        (TimeoutError(), NoReply),
        (ResponseParserError("cut"), NoReply),
        (sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2), NoReply),
        (sdk.NoCredentialsError(), Unauthorized),
        (sdk.PartialCredentialsError(provider="p", cred_var="v"), Unauthorized),
        (sdk.CredentialRetrievalError(provider="p", error_msg="m"), Unauthorized),
        (sdk.ProfileNotFound(profile="p"), Unauthorized),
    ],
)
def test_what_the_sdk_raises_is_a_failure_of_the_store(
    error: Exception, expected: type[StoreFailure]
) -> None:
    with pytest.raises(expected), sdk_errors():
        raise error


def test_no_connection_stays_apart_from_a_lost_reply() -> None:
    error = sdk.EndpointConnectionError(endpoint_url="x", error=ConnectionResetError())
    with pytest.raises(NoReply), sdk_errors():
        raise error
    assert not issubclass(NoReply, Unreachable)


def test_a_defect_of_ours_stays_what_it_is() -> None:
    with pytest.raises(sdk.ParamValidationError), sdk_errors():
        raise sdk.ParamValidationError(report="Key must be text")


async def test_the_data_of_the_sdk_is_read_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    read, load_file = [], JSONFileLoader.load_file

    def noted(self: JSONFileLoader, path: str) -> Any:
        found = load_file(self, path)
        if found is not None:
            read.append((path, threading.current_thread() is threading.main_thread()))
        return found

    monkeypatch.setattr(JSONFileLoader, "load_file", noted)
    options = S3Options("bucket", "http://127.0.0.1:1", "us-east-1", "key", "secret")
    async with open_control_calls(options) as calls:
        await calls.address()
    assert read
    assert [path for path, on_the_loop in read if on_the_loop] == []


def test_no_secret_shows() -> None:
    assert SECRET not in repr(OPTIONS)


def test_host_has_no_credentials() -> None:
    assert OPTIONS.host == "store:9000"


def test_no_endpoint_is_aws() -> None:
    assert replace(OPTIONS, endpoint_url=None).host == "AWS S3"
