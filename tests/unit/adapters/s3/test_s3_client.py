from __future__ import annotations

import pytest
from aiohttp import ClientPayloadError
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError

from collector.adapters.s3.client import sdk_errors
from collector.adapters.s3.errors import NoReply, Refused, StoreFailure, Unauthorized, Unreachable

REFUSAL = {"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}


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
