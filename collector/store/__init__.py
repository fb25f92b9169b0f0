"""A bucket of any S3-compatible store: the SDK's client and a session for bodies."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from collector.store.bodies import Address, BodySender
from collector.store.bucket import S3Store
from collector.store.client import ControlCalls, S3Options, open_control_calls
from collector.store.failures import Location, Retries, StoreFailure

__all__ = ["S3Options", "S3Store", "open_s3"]


@asynccontextmanager
async def open_s3(
    options: S3Options,
    *,
    jitter: Callable[[], float] = random.random,
) -> AsyncIterator[S3Store]:
    """Open the store of `options.bucket`; sends nothing yet, so call `check_bucket`.

    Raises Outage(upload) if no credentials are found.
    """
    location = Location(options.bucket, options.host)
    async with AsyncExitStack() as stack:
        try:
            control = await stack.enter_async_context(open_control_calls(options))
            address = await control.address()
        except StoreFailure as failure:
            raise location.error_of(failure) from None
        session = await stack.enter_async_context(_open_session(options, control, address))
        bodies = BodySender(
            session,
            address,
            control.credentials,
            grace_seconds=options.connect_seconds + options.read_seconds,
        )
        yield S3Store(control, bodies, location, Retries(jitter))


@asynccontextmanager
async def _open_session(
    options: S3Options, control: ControlCalls, address: Address
) -> AsyncIterator[aiohttp.ClientSession]:
    """Open the session for bodies: it trusts and uses the same proxy as the control calls."""
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
