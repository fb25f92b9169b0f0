"""Servers of the fault tests: one PostgreSQL is enough, the protocol is the same on another."""

from __future__ import annotations

from functools import partial
from uuid import uuid4

import pytest
from faulty_world import OpenFaults, open_faulty_world

from collector.core.retry import EdgeHealth
from collector.local import LocalPostgres, LocalS3


@pytest.fixture(scope="session")
def postgres_server(embedded_postgres: LocalPostgres) -> LocalPostgres:
    """The embedded PostgreSQL alone."""
    return embedded_postgres


@pytest.fixture
def open_faults(dsn: str, s3_server: LocalS3) -> OpenFaults:
    """Open a world behind peers, on this test's database and a bucket of its own."""
    return partial(open_faulty_world, dsn, s3_server, f"test-{uuid4().hex[:20]}")


@pytest.fixture
def no_outages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each image answer for itself: whether it is the fault of the host is another case."""
    for name in ("is_down", "never_worked", "ends_failing", "refuses_hosts"):
        monkeypatch.setattr(EdgeHealth, name, property(lambda _: False))
