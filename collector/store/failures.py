"""What can go wrong between us and a store, read once and judged once.

Two ways lead to a store: the SDK for control calls, aiohttp for bodies. Both ends meet here as
one of three failures, and only these carry on: what the store wrote in its answer, addresses
and keys stay behind, so that no log line can hold a secret.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
import anyio
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

from collector.core.errors import Code, Edge, Fault, ItemError, MissingRight, Outage, Refusal
from collector.core.retry import backoff_seconds
from collector.ports import ObjectExists, WriteUnknown

# Four attempts wait 1.75 s on average, 3.5 s at most: a store that restarts is back by then, and a
# longer outage is the run's affair and not one call's.
CALL_ATTEMPTS = 4
RETRY_BASE_SECONDS = 0.5
_T = TypeVar("_T")


class StoreFailure(Exception):
    """A call to the store failed; `unclear` says that it may have been carried out."""

    def __init__(self, problem: str, *, unclear: bool) -> None:
        super().__init__(problem)
        self.problem = problem
        self.unclear = unclear

    def is_refused_as(self, code: str) -> bool:
        """Say whether the store answered with this code."""
        return isinstance(self, Refused) and self.code == code


class Refused(StoreFailure):
    """The store answered with an error; `code` is S3's word, or the status where it gave none."""

    def __init__(self, status: int, code: str | None, region: str | None = None) -> None:
        self.status = status
        self.code = code if code and _CODE.match(code) else str(status)
        self.region = region if region and _CODE.match(region) else None
        clear = status in _LASTING_STATUSES or self.code in _BUSY_CODES
        unclear = status >= 500 and not clear
        answer = str(status) if self.code == str(status) else f"{status} {self.code}"
        super().__init__(f"the store answered {answer}", unclear=unclear)

    @property
    def is_busy(self) -> bool:
        """Say whether the same call is worth another try in a moment."""
        broken = self.status >= 500 and self.status not in _LASTING_STATUSES
        return broken or self.status == 429 or self.code in _BUSY_CODES


class Unreachable(StoreFailure):
    """No connection came about, so nothing was sent."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, unclear=False)


class NoReply(StoreFailure):
    """No usable answer came."""


class PartsLeft(StoreFailure):
    """An abort left parts: those that were on their way when it came."""

    def __init__(self) -> None:
        super().__init__("parts keep arriving after the abort", unclear=True)


class Unauthorized(StoreFailure):
    """There are no credentials to send a request with."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, unclear=False)


_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_BUSY_CODES = frozenset(
    {"SlowDown", "TooManyRequests", "RequestTimeout", "OperationAborted", "ThrottlingException"}
)
# Not Implemented and Insufficient Storage are as true in a second as now.
_LASTING_STATUSES = frozenset({501, 507})
# What AWS, MinIO, Ceph and SeaweedFS answer when bytes and digest differ.
_CHECKSUM_CODES = frozenset(
    {
        "BadDigest",
        "InvalidDigest",
        "InvalidChecksum",
        "XAmzContentSHA256Mismatch",
        "XAmzContentChecksumMismatch",
    }
)
_REDIRECT = "bucket {bucket} is in another region{region}: set AWS_DEFAULT_REGION to it"
_DENIED = (
    "access to bucket {bucket} is denied: grant s3:ListBucket, s3:ListBucketMultipartUploads, "
    "s3:GetObject, s3:PutObject, s3:ListMultipartUploadParts and s3:AbortMultipartUpload"
)
_TOKEN = "the session token is expired or not valid: renew the credentials"  # noqa: S105
_FULL = "the store is full or over its quota"
_UNSUPPORTED = "the store does not support a call that is needed: `collector doctor` says which"
# What no second try mends, and what does. Codes:
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (2026-11-23).
_MENDED_BY: Mapping[str, str] = {
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "401": _DENIED,
    "403": _DENIED,
    "InvalidAccessKeyId": "the store does not know the access key: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key is not the access key's: check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": _TOKEN,
    "InvalidToken": _TOKEN,
    "TokenRefreshRequired": _TOKEN,
    "NoSuchBucket": "bucket {bucket} does not exist: create it or set BUCKET_NAME",
    "InvalidBucketName": "{bucket} is no bucket name: set BUCKET_NAME",
    "RequestTimeTooSkewed": "this machine's clock differs from the store's: set the clock",
    "PermanentRedirect": _REDIRECT,
    "TemporaryRedirect": _REDIRECT,
    "AuthorizationHeaderMalformed": _REDIRECT,
    "IllegalLocationConstraintException": _REDIRECT,
    "301": _REDIRECT,
    "307": _REDIRECT,
    "400": "the store refuses a plain request: check credentials and AWS_DEFAULT_REGION",
    "NotImplemented": _UNSUPPORTED,
    "MethodNotAllowed": _UNSUPPORTED,
    "501": _UNSUPPORTED,
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "507": _FULL,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the store is, as errors name it: `host:port`, never an address with credentials."""

    bucket: str
    host: str

    def judge(self, failure: StoreFailure) -> Outage | ItemError:
        """Return what a failure that outlived its tries means to the callers of the port."""
        if isinstance(failure, Unreachable):
            return Outage(
                Edge.UPLOAD, f"store {self.host}: {failure.problem}; check S3_ENDPOINT_URL"
            )
        if isinstance(failure, Unauthorized):
            return Outage(Edge.UPLOAD, f"store {self.host}: {failure.problem}")
        if isinstance(failure, Refused):
            return self._judge_refusal(failure)
        return _item_error(Code.STORE_ERROR, failure)

    def judge_write(self, key: str, failure: StoreFailure) -> Exception:
        """Return what a failed create-only write to `key` means to the callers of the port."""
        found = isinstance(failure, Refused) and failure.status == 412
        if failure.unclear and (found or isinstance(failure, NoReply)):
            return WriteUnknown(key, failure.problem)
        return ObjectExists(key) if found else self.judge(failure)

    def _judge_refusal(self, refusal: Refused) -> Outage | ItemError:
        if refusal.code in _CHECKSUM_CODES:
            return _item_error(Code.CHECKSUM_MISMATCH, refusal)
        remedy = _MENDED_BY.get(refusal.code) or _MENDED_BY.get(str(refusal.status), "")
        # A bare 400 is the answer to a HEAD; one that comes with a word of its own is the item's.
        if not remedy or (refusal.status == 400 and refusal.code not in _MENDED_BY):
            return _item_error(Code.STORE_ERROR, refusal)
        region = f" ({refusal.region})" if refusal.region else ""
        line = remedy.format(bucket=self.bucket, region=region)
        kind = MissingRight if remedy in (_DENIED, _UNSUPPORTED) else Refusal
        return kind(Edge.UPLOAD, f"store {self.host}: {line} [{refusal.code}]")


def _item_error(code: Code, failure: StoreFailure) -> ItemError:
    return ItemError(code, failure.problem, fault=Fault.TRANSIENT, edge=Edge.UPLOAD)


def read_refusal(status: int, body: bytes, region: str | None) -> Refused:
    """Return what an error answer to a body says; only its `<Code>` is looked at."""
    found = re.search(rb"<Code>\s*([A-Za-z0-9._-]{1,64})\s*</Code>", body)
    return Refused(status, found[1].decode() if found else None, region)


def read_sdk_refusal(response: Mapping[str, Any]) -> Refused:
    """Return what the SDK's `ClientError.response` says."""
    metadata = response.get("ResponseMetadata", {})
    region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    code = response.get("Error", {}).get("Code")
    return Refused(int(metadata.get("HTTPStatusCode", 0)), code, region)


def read_transport_error(error: BaseException | None, *, sent: bool) -> StoreFailure:
    """Return what aiohttp's exception means; `sent` says that the request had begun to flow."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unreachable("the host name does not resolve")
    if isinstance(error, aiohttp.ClientSSLError):
        return Unreachable("TLS was refused (a private authority belongs in AWS_CA_BUNDLE)")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Unreachable("no connection in time")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        return Unreachable("no connection (refused or no route)")
    if isinstance(error, asyncio.TimeoutError):
        return NoReply("no answer in time", unclear=sent)
    return NoReply("the connection broke off", unclear=sent)


class Retries:
    """Repeats store calls, with full jitter between attempts; `jitter` is uniform in [0, 1)."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter

    async def call(
        self,
        once: Callable[[], Awaitable[_T]],
        may_pass: Callable[[StoreFailure], bool],
        max_attempts: int = CALL_ATTEMPTS,
    ) -> _T:
        """Return what `once` gives; raises its last StoreFailure, `unclear` if any attempt was.

        What an earlier attempt may have done, a later clear refusal does not undo.
        """
        unclear = False
        async for attempt in self._attempts(may_pass, max_attempts):
            with attempt:
                try:
                    return await once()
                except StoreFailure as failure:
                    failure.unclear = unclear = unclear or failure.unclear
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _attempts(
        self, may_pass: Callable[[StoreFailure], bool], max_attempts: int
    ) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(lambda e: isinstance(e, StoreFailure) and may_pass(e)),
            stop=stop_after_attempt(max_attempts),
            wait=lambda state: backoff_seconds(
                state.attempt_number, RETRY_BASE_SECONDS, self._jitter()
            ),
            sleep=anyio.sleep,
            reraise=True,
        )


def may_pass(failure: StoreFailure) -> bool:
    """Say whether a repeatable call is worth another try."""
    return isinstance(failure, NoReply) or write_may_pass(failure)


def write_may_pass(failure: StoreFailure) -> bool:
    """Say the same of a create-only write, which is never repeated after a lost reply."""
    return isinstance(failure, Unreachable) or (isinstance(failure, Refused) and failure.is_busy)


def put_may_pass(failure: StoreFailure) -> bool:
    """Say the same of a whole put, of which a conflict left nothing behind."""
    return write_may_pass(failure) or failure.is_refused_as("ConditionalRequestConflict")
