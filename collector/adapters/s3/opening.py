"""From options to an open store: the SDK's client and a session for bodies, closed together."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import anyio.to_thread
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from collector.adapters.s3.bodies import Address, BodySender
from collector.adapters.s3.client import ControlCalls, sdk_errors
from collector.adapters.s3.errors import Place, StoreFailure
from collector.adapters.s3.store import S3Store
from collector.adapters.s3.tries import Tries


@dataclass(frozen=True, slots=True)
class S3Options:
    """How a bucket is reached. Without keys, the SDK's own credential chain is asked."""

    bucket: str
    endpoint_url: str | None = None
    region: str | None = None
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None
    path_style: bool = True
    # Connections for bodies, and as many again for control calls.
    connections: int = 16
    # A store answers a SYN within a round trip or two; a lost one is repeated after 1 and 3 s.
    connect_seconds: float = 5.0
    # Silence after a request; a store that still works on it says nothing meanwhile.
    read_seconds: float = 60.0

    @property
    def host(self) -> str:
        """`host:port` of the endpoint, without credentials."""
        if not self.endpoint_url:
            return "AWS S3"
        return urlsplit(self.endpoint_url).netloc.rpartition("@")[2]


def utc_now() -> datetime:
    """Return this machine's time, which signatures carry."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_s3(
    options: S3Options,
    *,
    jitter: Callable[[], float] = random.random,
    now: Callable[[], datetime] = utc_now,
) -> AsyncIterator[S3Store]:
    """Yield the store of `options.bucket`; nothing is sent yet, so call `check_bucket`.

    Raises Outage(upload) where no credentials are found.
    """
    place = Place(options.bucket, options.host)
    async with AsyncExitStack() as stack:
        try:
            control = await stack.enter_async_context(open_control_calls(options))
            address = await control.address()
        except StoreFailure as failure:
            raise place.judge(failure) from None
        session = await stack.enter_async_context(open_session(options, control, address))
        bodies = BodySender(
            session,
            address,
            control.credentials,
            now,
            grace_seconds=options.connect_seconds + options.read_seconds,
        )
        yield S3Store(control, bodies, place, Tries(jitter))


@asynccontextmanager
async def open_control_calls(options: S3Options) -> AsyncIterator[ControlCalls]:
    """Yield the SDK's client of one bucket; nothing is sent yet. Raises StoreFailure."""
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


@asynccontextmanager
async def open_session(
    options: S3Options, control: ControlCalls, address: Address
) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield the session that bodies go through: same trust and proxy as the control calls."""
    trusted = control.trust() if address.url.startswith("https:") else True
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=options.connections, ssl=trusted),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        timeout=aiohttp.ClientTimeout(
            sock_connect=options.connect_seconds, sock_read=options.read_seconds
        ),
        proxy=control.proxy(address),
    ) as session:
        yield session


async def _load_models(session: Any) -> None:
    """Read the SDK's data off the loop: 60 ms, more from a cold disk; the session keeps it."""
    loader = session.get_component("data_loader")
    for model in ("service-2", "endpoint-rule-set-1"):
        await anyio.to_thread.run_sync(loader.load_service_model, "s3", model)
    for data in ("endpoints", "partitions", "sdk-default-configuration"):
        await anyio.to_thread.run_sync(loader.load_data, data)


def _config(options: S3Options) -> Any:
    return AioConfig(
        signature_version="s3v4",
        # Other stores than AWS refuse the trailers that newer SDKs send by default.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # S3Store owns the tries: stacked on the SDK's, a lost reply would be repeated unseen.
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        max_pool_connections=options.connections,
        s3={"addressing_style": "path" if options.path_style else "virtual"},
    )
