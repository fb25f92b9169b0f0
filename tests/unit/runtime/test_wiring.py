"""A plan asks, and lets daily runs go first."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from collector.core.pacing import Priority
from collector.runtime.opening import Runtime
from collector.runtime.wiring import run_plan
from collector.settings import Settings
from collector.stages.api_client import ApiClient


class AskedError(Exception):
    """Nothing is asked in this test."""


async def test_a_plan_waits_for_daily_runs_as_a_backfill_does() -> None:
    asked: list[Priority] = []

    def api(priority: Priority = Priority.RUN) -> ApiClient:
        asked.append(priority)
        raise AskedError

    runtime = SimpleNamespace(settings=Settings(), runs=None, api=api)
    with pytest.raises(AskedError):
        await run_plan(cast(Runtime, runtime))
    assert asked == [Priority.BACKFILL]
