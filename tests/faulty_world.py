"""A small world whose every edge goes through a peer that can be made to misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import oracle
from peers.exchange import Answer
from peers.http import HttpPeer, open_peer
from peers.postgres import PostgresPeer, open_postgres_peer
from world import EVERYTHING, World

from collector.cli.progress import SilentProgress
from collector.local import LocalS3
from collector.runtime.opening import open_runtime, s3_options
from collector.runtime.wiring import JanitorOptions, run_janitor
from collector.settings import Settings
from collector.simulator import Hooks, SimulatorOptions, open_simulator
from collector.store import S3Store, open_s3

OpenFaults = Callable[..., AbstractAsyncContextManager["FaultyWorld"]]
AT_ONCE = JanitorOptions(upload_age_seconds=0, run_silence_seconds=0)


@dataclass(frozen=True)
class FaultyWorld(World):
    """The world, its peers, and the way past them to the bucket and the tables themselves."""

    api: HttpPeer = field(kw_only=True)
    images: HttpPeer = field(kw_only=True)
    store: HttpPeer = field(kw_only=True)
    database: PostgresPeer = field(kw_only=True)
    bucket: S3Store = field(kw_only=True)
    dsn: str = field(kw_only=True)

    def heal(self) -> None:
        """Let everything work from now on."""
        for peer in (self.api, self.images, self.store):
            peer.heal()
        self.database.heal()

    async def tidy_up(self) -> None:
        """Heal the world, let all leases lapse, and let the janitor pass once."""
        self.heal()
        await self.rows(
            "UPDATE draenei_content.transfers SET lease_until = now() - interval '1 second'"
            " WHERE state = 'claimed'"
        )
        await run_janitor(self.runtime, AT_ONCE)

    async def check(self, **evidence: Any) -> None:
        """Ask the oracle; `evidence` is what the test knows besides bucket and tables."""
        known = oracle.Evidence(
            **{"truth": self.truth(), "commits": self.store.commits, **evidence}
        )
        await oracle.check(self.dsn, self.bucket, known)

    async def converge(self, run_id: str = "after", **evidence: Any) -> None:
        """Tidy up, run once more where nothing misbehaves, and ask the oracle."""
        await self.tidy_up()
        await self.run(run_id)
        await self.check(**evidence)


def _at(url: str) -> tuple[str, int]:
    address = urlsplit(url)
    return address.hostname or "", address.port or 80


@asynccontextmanager
async def open_faulty_world(
    dsn: str,
    s3: LocalS3,
    bucket: str,
    options: SimulatorOptions | None = None,
    hooks: Hooks | None = None,
    **changes: Any,
) -> AsyncIterator[FaultyWorld]:
    """Open a world behind peers; `changes` are settings that the test is about."""
    async with (
        open_simulator(options or SimulatorOptions(), hooks or Hooks()) as simulator,
        open_peer(_at(simulator.url)) as images,
        open_peer(_at(simulator.url), _pointing(simulator.image_host, images)) as api,
        open_peer(_at(s3.endpoint_url)) as store,
        open_postgres_peer(dsn) as database,
    ):
        settings = Settings(
            **{
                "database_url": database.dsn,
                "bucket_name": bucket,
                "s3_endpoint_url": store.url,
                "aws_access_key_id": s3.access_key,
                "aws_secret_access_key": s3.secret_key,
                "aws_default_region": s3.region,
                "wallhaven_api_url": f"{api.url}/api/v1",
                "wallhaven_image_hosts": images.host,
                "wallhaven_requests_per_minute": 6000,
                "collector_retry_base_seconds": 0.01,
                **changes,
            }
        )
        direct = replace(s3_options(settings), endpoint_url=s3.endpoint_url)
        async with open_s3(direct) as past_the_peer:
            await past_the_peer.create_bucket()
            async with open_runtime(settings, EVERYTHING, SilentProgress()) as runtime:
                yield FaultyWorld(
                    simulator,
                    runtime,
                    settings,
                    api=api,
                    images=images,
                    store=store,
                    database=database,
                    bucket=past_the_peer,
                    dsn=dsn,
                )


def _pointing(image_host: str, images: HttpPeer) -> Callable[[Answer], Answer]:
    """Return what makes listings say that images are at the peer."""
    return lambda answer: replace(
        answer, body=answer.body.replace(image_host.encode(), images.host.encode())
    )
