"""What a backfill of the settings' search would cost."""

from __future__ import annotations

from collector.runtime.backfilling import whole_list
from collector.runtime.opening import Need, Runtime
from collector.stages.plan import PlanReport, plan

PLAN_NEEDS = Need.SCHEMA | Need.HTTP


async def run_plan(runtime: Runtime) -> PlanReport:
    """Ask for it, on a runtime opened with PLAN_NEEDS. Raises Outage."""
    return await plan(
        source=whole_list(runtime.settings),
        api=runtime.api(),
        catalog=runtime.runs,
        requests_per_minute=runtime.settings.wallhaven_requests_per_minute,
    )
