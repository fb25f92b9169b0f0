from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from unittest.mock import patch

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from collector.store.bodies import Credentials, signed_headers

NOW = datetime(2013, 5, 24, tzinfo=UTC)
BODY = b"Welcome to Amazon S3."
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
URL = "https://examplebucket.s3.amazonaws.com/test%24file.text"


def sign(url: str, headers: dict[str, str], *, token: str | None = None) -> dict[str, str]:
    return signed_headers(
        "PUT",
        url,
        headers,
        body_sha256=hashlib.sha256(BODY).digest(),
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", SECRET, token),
        region="us-east-1",
        now=NOW,
    )


def sign_by_sdk(url: str, headers: dict[str, str], token: str | None) -> str:
    request = AWSRequest("PUT", url, headers=headers, data=BODY)
    credentials = ReadOnlyCredentials("AKIAIOSFODNN7EXAMPLE", SECRET, token)
    with patch("botocore.auth.get_current_datetime", lambda: NOW):
        S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    return str(request.headers["Authorization"])


def test_aws_own_example() -> None:
    """From the page that `signature` names: PUT Object."""
    headers = sign(
        URL,
        {
            "Date": "Fri, 24 May 2013 00:00:00 GMT",
            "x-amz-storage-class": "REDUCED_REDUNDANCY",
        },
    )
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, "
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


@pytest.mark.parametrize("token", [None, "a/session+token="])
@pytest.mark.parametrize("url", [URL, f"{URL}?partNumber=3&uploadId=a%2Fb~c", "http://a:9/b/k.jpg"])
def test_sdk_signs_alike(url: str, token: str | None) -> None:
    headers = {"If-None-Match": "*", "Content-Type": "image/png", "x-amz-meta-token": "t-1"}
    assert sign(url, headers, token=token)["authorization"] == sign_by_sdk(url, headers, token)


@given(
    st.dictionaries(
        st.from_regex(r"x-amz-meta-[a-z0-9-]{1,9}", fullmatch=True),
        st.from_regex(r"[!-~]{1,9}", fullmatch=True),
    )
)
def test_sdk_signs_any_metadata_alike(metadata: dict[str, str]) -> None:
    assert sign(URL, metadata)["authorization"] == sign_by_sdk(URL, metadata, None)


def test_all_given_headers_are_sent_with_host_and_token() -> None:
    headers = sign("http://127.0.0.1:9000/b/k", {"If-None-Match": "*"}, token="token")
    assert headers["host"] == "127.0.0.1:9000"
    assert headers["if-none-match"] == "*"
    assert headers["x-amz-security-token"] == "token"
    assert headers["x-amz-content-sha256"] == hashlib.sha256(BODY).hexdigest()


def test_credentials_do_not_show() -> None:
    assert repr(Credentials("access", "secret", "token")) == "Credentials()"
