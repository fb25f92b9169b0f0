"""The commands about whole lists: `plan`, `backfill` and `enrich`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from collector.cli.app import (
    AddressArgument,
    CollectionOption,
    DagIdOption,
    QueryOption,
    RunIdOption,
    app,
    invocation_of,
    new_run_id,
)
from collector.cli.execution import Answer, Exit, audit_answer, execute
from collector.core.audit import AuditRow
from collector.core.errors import SettingsError
from collector.core.runs import DEFAULT_DAG_ID, DEFAULT_ENRICHMENTS, Run, StageName

if TYPE_CHECKING:
    from rich.console import Console

    from collector.core.planning import Estimate
    from collector.runtime.opening import Runtime
    from collector.stages.plan import PlanReport

FromPageOption = Annotated[
    int, typer.Option("--from-page", min=1, help="First page of the list, oldest first.")
]
ToPageOption = Annotated[
    int | None, typer.Option("--to-page", min=1, help="Last page; default: the last of the list.")
]
LimitOption = Annotated[
    int, typer.Option("--limit", min=0, help="Images to store at most in this call; 0: no limit.")
]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Read a complete list again; nothing is stored twice.")
]


@app.command()
def backfill(
    context: typer.Context,
    address: AddressArgument = None,
    query: QueryOption = None,
    collection: CollectionOption = None,
    from_page: FromPageOption = 1,
    to_page: ToPageOption = None,
    limit: LimitOption = 0,
    again: AgainOption = False,
) -> Exit:
    """Mirror the whole list, oldest first. Run it again to resume."""
    from collector.runtime.backfilling import (
        BACKFILL_NEEDS,
        BackfillOptions,
        find_crawl,
        is_over,
        run_backfill,
        run_for,
    )
    from collector.runtime.opening import whole_list

    if to_page is not None and to_page < from_page:
        raise SettingsError("--to-page", f"must not be below --from-page, {from_page}")
    invocation = invocation_of(context, query, collection, address)
    whole_list(invocation.settings())
    options = BackfillOptions(from_page, to_page, limit, again=again)
    audits: list[AuditRow] = []

    async def command(runtime: Runtime) -> Answer:
        known = await find_crawl(runtime, options)
        if known is not None and is_over(known, options):
            row = await runtime.catalog.runs.audit_row(known.audit_id)
            return _nothing_to_do(row, invocation.command("run"))
        run = run_for(known, Run(DEFAULT_DAG_ID, new_run_id("backfill")), again=again)
        return audit_answer(await run_backfill(runtime, run, options, audits.append))

    return execute(invocation, BACKFILL_NEEDS, command, audits)


def _nothing_to_do(row: AuditRow, run: str) -> Answer:
    answer = audit_answer(row)

    def show(console: Console) -> None:
        answer.text(console)
        console.print()
        console.print(
            f"nothing to do: {row.run_id} has read this list to its end. {run} mirrors what is new"
            " since then; --again reads the whole list again.",
            soft_wrap=True,
        )

    return replace(answer, text=show)


@app.command()
def enrich(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Wallpapers to ask about at most.")
    ] = DEFAULT_ENRICHMENTS,
    run_id: RunIdOption = None,
    dag_id: DagIdOption = DEFAULT_DAG_ID,
) -> Exit:
    """A separate run: tags and uploaders, most favourites first."""
    from collector.runtime.opening import RunOptions
    from collector.runtime.running import ENRICHMENT, STAGE_NEEDS, run_all_stages

    this_run = Run(dag_id, run_id or new_run_id(StageName.ENRICH))
    options = RunOptions(limit=limit)
    audits: list[AuditRow] = []

    async def command(runtime: Runtime) -> Answer:
        row = await run_all_stages(runtime, this_run, options, audits.append, ENRICHMENT)
        return audit_answer(row)

    needs = STAGE_NEEDS[StageName.ENRICH]
    return execute(invocation_of(context), needs, command, audits, this_run)


@app.command()
def plan(
    context: typer.Context,
    address: AddressArgument = None,
    query: QueryOption = None,
    collection: CollectionOption = None,
) -> Exit:
    """Estimate what a backfill would cost; change nothing."""
    from collector.runtime.wiring import PLAN_NEEDS, run_plan

    async def command(runtime: Runtime) -> Answer:
        report = await run_plan(runtime)
        return Answer(report.as_json(), lambda console: _show_plan(report, console))

    return execute(invocation_of(context, query, collection, address), PLAN_NEEDS, command)


def _show_plan(report: PlanReport, console: Console) -> None:
    from collector.cli.output import show_lines

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
        f"GB and PUTs are estimated from {plan.sampled_images:,} file sizes, as if nothing were"
        " stored yet. The transfer may take longer than the calls: it depends on your network.",
        soft_wrap=True,
    )
    console.print(f"{report.api_calls_used} API calls were used; nothing was changed.")


def _shown(estimate: Estimate | None, form: str) -> str:
    if estimate is None:
        return "unknown: the API gives too few file sizes"
    if estimate.least == estimate.most:
        return f"{estimate.likely:{form}}"
    return f"about {estimate.likely:{form}} ({estimate.least:{form}} to {estimate.most:{form}})"
