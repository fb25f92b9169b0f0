"""The command that says what a backfill would cost."""

from __future__ import annotations

import typer
from rich.console import Console

from collector.cli.app import CollectionOption, QueryOption, app, invocation_of
from collector.cli.execution import Answer, execute
from collector.cli.output import show_lines
from collector.core.planning import Estimate
from collector.runtime import PLAN_NEEDS, Runtime, run_plan
from collector.stages.plan import PlanReport


@app.command()
def plan(
    context: typer.Context, query: QueryOption = None, collection: CollectionOption = None
) -> None:
    """Say what mirroring it all would cost; change nothing."""

    async def command(runtime: Runtime) -> Answer:
        report = await run_plan(runtime)
        return Answer(report.as_json(), lambda console: _show(report, console))

    raise typer.Exit(execute(invocation_of(context, query, collection), PLAN_NEEDS, command))


def _show(report: PlanReport, console: Console) -> None:
    plan, holdings = report.plan, report.holdings
    per_minute = plan.requests_per_minute
    show_lines(
        {
            "search": report.search_key,
            "images": f"{plan.images:,}",
            "pages": f"{plan.pages:,}",
            "API calls": f"{plan.api_calls:,}",
            "hours": f"{plan.hours:,.2f} for these calls, at {per_minute} a minute",
            "GB": _shown(plan.gigabytes, ",.3f"),
            "PUTs": _shown(plan.puts, ",.0f"),
            "in the database": f"{holdings.known_wallpapers:,} wallpapers of any search, "
            f"{holdings.stored_images:,} of them stored",
        },
        console,
    )
    console.print(
        f"GB and PUTs are taken from {plan.sampled_images:,} file sizes, as if nothing were stored"
        " yet. The transfer may take longer than the calls: it depends on your line.",
        soft_wrap=True,
    )
    console.print(f"{report.api_calls_used} API calls were used; nothing was changed.")


def _shown(estimate: Estimate | None, form: str) -> str:
    if estimate is None:
        return "unknown: the API gives too few file sizes"
    if estimate.least == estimate.most:
        return f"{estimate.likely:{form}}"
    return f"about {estimate.likely:{form}} ({estimate.least:{form}} to {estimate.most:{form}})"
