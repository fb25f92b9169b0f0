"""The client of the API that the settings name, paced with all others that use it."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from collector.adapters.postgres import Allowance, Database, PostgresBudget
from collector.core.pacing import Priority
from collector.core.runs import StageCall
from collector.ports import Http
from collector.settings import Settings
from collector.stages.api import ApiClient
from collector.stages.pacer import Pacer


def allowance_of(settings: Settings) -> Allowance:
    """Return how many requests that API may get from all of us together."""
    host = urlsplit(settings.wallhaven_api_url).netloc.lower()
    return Allowance(host, settings.wallhaven_requests_per_minute)


def api_client(
    settings: Settings, http: Http, database: Database, priority: Priority, call: StageCall | None
) -> ApiClient:
    """Return a client whose requests are counted for the stage `call`, which has begun."""
    budget = PostgresBudget(database, allowance_of(settings), priority, call)
    return ApiClient(
        http,
        Pacer(budget, time.monotonic),
        epoch_clock=time.time,
        retry_base_seconds=settings.collector_retry_base_seconds,
    )
