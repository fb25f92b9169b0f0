"""What a backfill of the settings' search would cost."""

from __future__ import annotations

from collector.core.pacing import Priority
from collector.runtime.backfilling import whole_list
from collector.runtime.needs import Need
from collector.runtime.opening import Runtime
from collector.stages.plan import PlanReport, plan

PLAN_NEEDS = Need.SCHEMA | Need.HTTP


async def run_plan(runtime: Runtime) -> PlanReport:
    """Ask for it, after what daily runs ask, on a runtime opened with PLAN_NEEDS. Raises Outage."""
    return await plan(
        source=whole_list(runtime.settings),
        api=runtime.api(Priority.BACKFILL),
        catalog=runtime.runs,
        requests_per_minute=runtime.settings.wallhaven_requests_per_minute,
    )
