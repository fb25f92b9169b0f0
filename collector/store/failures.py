"""What can go wrong between the collector and a store, and what that means.

Control calls go through the SDK, bodies through aiohttp. The errors of both become a StoreFailure
here, and only that is passed on. Apart from a plain error code and region, it holds nothing that
the store wrote, no address and no key, so that no log line can contain a secret.
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

# Four attempts wait 1.75 s on average, 3.5 s at most. A store that restarts is back by then; a
# longer outage concerns the whole run, not one call.
CALL_ATTEMPTS = 4
RETRY_BASE_SECONDS = 0.5
_T = TypeVar("_T")


class StoreFailure(Exception):
    """A call to the store failed; if `unclear`, the store may have carried it out."""

    def __init__(self, problem: str, *, unclear: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.unclear = unclear

    def is_refused_as(self, code: str) -> bool:
        return isinstance(self, Refused) and self.code == code


class Refused(StoreFailure):
    """The store answered with an error; `code` is S3's code, or the status if it gave none."""

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
        """Whether the same call may succeed in a moment."""
        broken = self.status >= 500 and self.status not in _LASTING_STATUSES
        return broken or self.status == 429 or self.code in _BUSY_CODES


class Unreachable(StoreFailure):
    """No connection could be made, so nothing was sent."""


class NoReply(StoreFailure):
    """No usable answer arrived."""


class PartsLeft(StoreFailure):
    """An abort left parts that were in flight when the store carried it out."""

    def __init__(self) -> None:
        super().__init__("parts still arrive after the abort", unclear=True)


class Unauthorized(StoreFailure):
    """There are no credentials to send a request with."""


_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_BUSY_CODES = frozenset(
    {"SlowDown", "TooManyRequests", "RequestTimeout", "OperationAborted", "ThrottlingException"}
)
# Not Implemented and Insufficient Storage do not pass within seconds.
_LASTING_STATUSES = frozenset({501, 507})
# What AWS, MinIO, Ceph and SeaweedFS answer if bytes and digest differ.
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
_TOKEN = "the session token is expired or invalid: renew the credentials"  # noqa: S105
_FULL = "the store is full or over its quota"
_UNSUPPORTED = "the store does not support a needed call: `collector doctor` says which"
# The remedy for each error that no retry mends. Codes:
# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (2026-11-23).
_REMEDIES: Mapping[str, str] = {
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "401": _DENIED,
    "403": _DENIED,
    "InvalidAccessKeyId": "the store does not know the access key: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key does not match: check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": _TOKEN,
    "InvalidToken": _TOKEN,
    "TokenRefreshRequired": _TOKEN,
    "NoSuchBucket": "bucket {bucket} does not exist: create it or set BUCKET_NAME",
    "InvalidBucketName": "{bucket} is not a valid bucket name: set BUCKET_NAME",
    "RequestTimeTooSkewed": "this machine's clock differs from the store's: set the clock",
    "PermanentRedirect": _REDIRECT,
    "TemporaryRedirect": _REDIRECT,
    "AuthorizationHeaderMalformed": _REDIRECT,
    "IllegalLocationConstraintException": _REDIRECT,
    "301": _REDIRECT,
    "307": _REDIRECT,
    "400": "the store refuses a simple request: check credentials and AWS_DEFAULT_REGION",
    "NotImplemented": _UNSUPPORTED,
    "MethodNotAllowed": _UNSUPPORTED,
    "501": _UNSUPPORTED,
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "507": _FULL,
}


@dataclass(frozen=True, slots=True)
class Location:
    """The store as errors name it: `host` is `host:port`, never an address with credentials."""

    bucket: str
    host: str

    def error_of(self, failure: StoreFailure) -> Outage | ItemError:
        """Return what callers of the port get for a failure that retries did not mend."""
        if isinstance(failure, Unreachable):
            return Outage(
                Edge.UPLOAD, f"store {self.host}: {failure.problem}; check S3_ENDPOINT_URL"
            )
        if isinstance(failure, Unauthorized):
            return Outage(Edge.UPLOAD, f"store {self.host}: {failure.problem}")
        if isinstance(failure, Refused):
            return self._error_of_refusal(failure)
        return upload_error(Code.STORE_ERROR, failure.problem)

    def write_error_of(self, key: str, failure: StoreFailure) -> Exception:
        """Return what callers of the port get for a failed create-only write to `key`."""
        found = isinstance(failure, Refused) and failure.status == 412
        if failure.unclear and (found or isinstance(failure, NoReply)):
            return WriteUnknown(key, failure.problem)
        return ObjectExists(key) if found else self.error_of(failure)

    def _error_of_refusal(self, refusal: Refused) -> Outage | ItemError:
        if refusal.code in _CHECKSUM_CODES:
            return upload_error(Code.CHECKSUM_MISMATCH, refusal.problem)
        remedy = _REMEDIES.get(refusal.code) or _REMEDIES.get(str(refusal.status), "")
        # A HEAD gets a bare 400. A 400 with an unknown code concerns the item alone.
        if not remedy or (refusal.status == 400 and refusal.code not in _REMEDIES):
            return upload_error(Code.STORE_ERROR, refusal.problem)
        region = f" ({refusal.region})" if refusal.region else ""
        line = remedy.format(bucket=self.bucket, region=region)
        kind = MissingRight if remedy in (_DENIED, _UNSUPPORTED) else Refusal
        return kind(Edge.UPLOAD, f"store {self.host}: {line} [{refusal.code}]")


def upload_error(code: Code, problem: str, fault: Fault = Fault.TRANSIENT) -> ItemError:
    return ItemError(code, problem, fault=fault, edge=Edge.UPLOAD)


def not_found(key: str) -> ItemError:
    return upload_error(Code.NOT_FOUND, f"no object under {key}", Fault.PERMANENT)


def read_refusal(status: int, body: bytes, region: str | None) -> Refused:
    """Parse an error answer to a body; only its `<Code>` counts."""
    found = re.search(rb"<Code>\s*([A-Za-z0-9._-]{1,64})\s*</Code>", body)
    return Refused(status, found[1].decode() if found else None, region)


def read_sdk_refusal(response: Mapping[str, Any]) -> Refused:
    """Parse the SDK's `ClientError.response`."""
    metadata = response.get("ResponseMetadata", {})
    region = metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    code = response.get("Error", {}).get("Code")
    return Refused(int(metadata.get("HTTPStatusCode", 0)), code, region)


def read_transport_error(error: BaseException | None, *, sent: bool) -> StoreFailure:
    """Return what aiohttp's exception means; `sent`: part of the request may have been sent."""
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
        is_retryable: Callable[[StoreFailure], bool],
        max_attempts: int = CALL_ATTEMPTS,
    ) -> _T:
        """Return the result of `once`; raises its last StoreFailure, `unclear` if any attempt was.

        A later clear refusal does not undo what an earlier attempt may have done.
        """
        unclear = False

        async def attempt() -> _T:
            nonlocal unclear
            try:
                return await once()
            except StoreFailure as failure:
                failure.unclear = unclear = unclear or failure.unclear
                raise

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda e: isinstance(e, StoreFailure) and is_retryable(e)),
            stop=stop_after_attempt(max_attempts),
            wait=lambda state: backoff_seconds(
                state.attempt_number, RETRY_BASE_SECONDS, self._jitter()
            ),
            sleep=anyio.sleep,
            reraise=True,
        )
        return await retrying(attempt)


def is_retryable(failure: StoreFailure) -> bool:
    """Whether to retry a call that is safe to repeat."""
    return isinstance(failure, NoReply) or is_write_retryable(failure)


def is_write_retryable(failure: StoreFailure) -> bool:
    """Whether to retry a create-only write: never after a lost reply."""
    return isinstance(failure, Unreachable) or (isinstance(failure, Refused) and failure.is_busy)


def is_put_retryable(failure: StoreFailure) -> bool:
    """Whether to retry a whole put: a conflict left nothing behind."""
    return is_write_retryable(failure) or failure.is_refused_as("ConditionalRequestConflict")
