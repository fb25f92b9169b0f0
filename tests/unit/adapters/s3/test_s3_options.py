from __future__ import annotations

from dataclasses import replace

from collector.adapters.s3 import S3Options

SECRET = "canary-secret"
OPTIONS = S3Options("bucket", "https://user:pass@store:9000", "here", SECRET, SECRET, SECRET)


def test_no_secret_shows() -> None:
    assert SECRET not in repr(OPTIONS)


def test_host_has_no_credentials() -> None:
    assert OPTIONS.host == "store:9000"


def test_no_endpoint_is_aws() -> None:
    assert replace(OPTIONS, endpoint_url=None).host == "AWS S3"
