"""Signed headers: a known digest signs as its body does."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from collector.store.bodies import Credentials, signed_headers

NOW = datetime(2013, 5, 24, tzinfo=UTC)
BODY = b"Welcome to Amazon S3."
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
URL = "https://examplebucket.s3.amazonaws.com/test%24file.text"


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: NOW)


def sign(url: str, headers: dict[str, str], *, token: str | None = None) -> dict[str, str]:
    signed = signed_headers(
        "PUT",
        url,
        headers,
        body_sha256=hashlib.sha256(BODY).digest(),
        credentials=Credentials("AKIAIOSFODNN7EXAMPLE", SECRET, token),
        region="us-east-1",
    )
    return {name.lower(): value for name, value in signed.items()}


def sign_by_sdk(url: str, headers: dict[str, str], token: str | None) -> str:
    request = AWSRequest("PUT", url, headers=headers, data=BODY)
    credentials = ReadOnlyCredentials("AKIAIOSFODNN7EXAMPLE", SECRET, token)
    S3SigV4Auth(credentials, "s3", "us-east-1").add_auth(request)
    return str(request.headers["Authorization"])


@pytest.mark.parametrize("token", [None, "a/session+token="])
@pytest.mark.parametrize("url", [URL, f"{URL}?partNumber=3&uploadId=a%2Fb~c", "http://a:9/b/k.jpg"])
def test_a_digest_signs_as_its_body_does(url: str, token: str | None) -> None:
    headers = {"If-None-Match": "*", "Content-Type": "image/png", "x-amz-meta-token": "t-1"}
    assert sign(url, headers, token=token)["authorization"] == sign_by_sdk(url, headers, token)


def test_all_given_headers_are_sent_with_the_token() -> None:
    headers = sign("http://127.0.0.1:9000/b/k", {"If-None-Match": "*"}, token="token")
    assert headers["if-none-match"] == "*"
    assert headers["x-amz-security-token"] == "token"
    assert headers["x-amz-content-sha256"] == hashlib.sha256(BODY).hexdigest()


def test_credentials_do_not_show() -> None:
    assert repr(Credentials("access", "secret", "token")) == "Credentials()"
