"""The SDK's client of one bucket, for calls without an image."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import anyio
import anyio.to_thread
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from botocore import exceptions as sdk
from botocore.httpsession import get_cert_path
from botocore.parsers import ResponseParserError
from botocore.utils import get_environ_proxies

from collector.store.bodies import Address, Credentials
from collector.store.failures import (
    NoReply,
    Unauthorized,
    read_sdk_refusal,
    read_transport_error,
)

# Bounds a whole control call, including the wait for a free connection, which the SDK's own
# timeouts do not bound. A Complete may take the store minutes; its outcome is then unknown, and the
# key is read.
CALL_SECONDS = 120.0
_NO_CREDENTIALS = "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach a bucket. Without keys, the SDK's own credential chain applies."""

    bucket: str
    endpoint_url: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None
    path_style: bool = True
    # For bodies; control calls have as many again.
    connections: int = 16
    # A store answers a SYN within a round trip or two; a lost SYN is repeated after 1 and 3 s.
    connect_seconds: float = 5.0
    # Silence after a request: a store sends nothing while it works on one.
    read_seconds: float = 60.0

    @property
    def host(self) -> str:
        """`host:port` of the endpoint, without credentials."""
        if not self.endpoint_url:
            return "AWS S3"
        return urlsplit(self.endpoint_url).netloc.rpartition("@")[2]


@asynccontextmanager
async def open_control_calls(options: S3Options) -> AsyncIterator[ControlCalls]:
    """Open the SDK's client of one bucket; sends nothing yet. Raises StoreFailure."""
    session = AioSession(profile=options.profile)
    if options.access_key:
        session.set_credentials(options.access_key, options.secret_key, options.session_token)
    async with AsyncExitStack() as stack:
        with sdk_errors():
            await _load_models(session)
            opening = session.create_client(
                "s3",
                region_name=options.region,
                endpoint_url=options.endpoint_url or None,
                config=_config(options),
            )
            client = await stack.enter_async_context(opening)
        yield ControlCalls(session, client, options.bucket)


async def _load_models(session: Any) -> None:
    """Load the SDK's data off the loop: 60 ms, more from a cold disk; the session caches it."""
    loader = session.get_component("data_loader")
    for model in ("service-2", "endpoint-rule-set-1"):
        await anyio.to_thread.run_sync(loader.load_service_model, "s3", model)
    for data in ("endpoints", "partitions", "sdk-default-configuration"):
        await anyio.to_thread.run_sync(loader.load_data, data)


def _config(options: S3Options) -> Any:
    return AioConfig(
        signature_version="s3v4",
        # Stores other than AWS refuse the trailers that newer SDKs send by default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # S3Store owns the retries: the SDK's own would repeat a write unseen after a lost reply.
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        max_pool_connections=options.connections,
        s3={"addressing_style": "path" if options.path_style else "virtual"},
    )


class ControlCalls:
    """Calls to one bucket without an image; each is one attempt, and raises StoreFailure."""

    def __init__(self, session: Any, client: Any, bucket: str) -> None:
        self._session = session
        self._client = client
        self._bucket = bucket
        self._lasting: Credentials | None = None

    async def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Make one call of the SDK's client, such as `head_object`, and return its answer."""
        with sdk_errors(), anyio.fail_after(CALL_SECONDS):
            method = getattr(self._client, operation)
            reply: dict[str, Any] = await method(Bucket=self._bucket, **parameters)
            return reply

    async def credentials(self) -> Credentials:
        """Return the current credentials; the SDK renews temporary ones in time."""
        if self._lasting is not None:
            return self._lasting
        with sdk_errors(), anyio.fail_after(CALL_SECONDS):
            found = await self._session.get_credentials()
            if found is None:
                raise Unauthorized(_NO_CREDENTIALS)
            frozen = await found.get_frozen_credentials()
        credentials = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
        # Every image needs credentials. Those that the SDK renews are of another class.
        if type(found) is AioCredentials:
            self._lasting = credentials
        return credentials

    async def address(self) -> Address:
        """Return the address of the bucket's objects, and the region that signatures name.

        Both come from a URL that the SDK signs locally: it alone knows the rules of partitions,
        dual stack, and bucket names that cannot be host names.
        """
        with sdk_errors(), anyio.fail_after(CALL_SECONDS):
            presigned: str = await self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": "key"}
            )
        url, _, query = presigned.partition("?")
        region = parse_qs(query)["X-Amz-Credential"][0].split("/")[2]
        return Address(url.removesuffix("key"), region)

    def trust(self) -> ssl.SSLContext:
        """Return the SDK's TLS context: it trusts AWS_CA_BUNDLE, or else the SDK's own bundle."""
        bundle = self._session.get_config_variable("ca_bundle")
        return ssl.create_default_context(cafile=bundle or get_cert_path(True))

    def proxy(self, address: Address) -> str | None:
        """Return the proxy that the SDK uses for the bucket's address, if any."""
        proxies: dict[str, str] = get_environ_proxies(address.url)
        return proxies.get(urlsplit(address.url).scheme)


@contextmanager
def sdk_errors() -> Iterator[None]:
    """Raise the SDK's errors as StoreFailure; other exceptions pass unchanged."""
    try:
        yield
    except sdk.ClientError as error:
        raise read_sdk_refusal(error.response) from None
    except (sdk.HTTPClientError, sdk.ConnectionError) as error:
        raise read_transport_error(error.kwargs.get("error"), sent=True) from None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise read_transport_error(error, sent=True) from None
    except (ResponseParserError, sdk.IncompleteReadError):
        raise NoReply("the answer is cut off or not XML", unclear=True) from None
    except (sdk.NoCredentialsError, sdk.PartialCredentialsError):
        raise Unauthorized(_NO_CREDENTIALS) from None
    except sdk.ProfileNotFound as error:
        raise Unauthorized(str(error)) from None
    except sdk.CredentialRetrievalError as error:
        raise Unauthorized(f"no credentials: {type(error).__name__}") from None
