"""The commands about whole lists: `plan`, `backfill` and `enrich`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from collector.cli.app import (
    CollectionOption,
    DagIdOption,
    QueryOption,
    RunIdOption,
    app,
    audit_answer,
    invocation_of,
    new_run_id,
)
from collector.cli.execution import Answer, execute
from collector.core.audit import AuditRow
from collector.core.certificate import CERTIFICATE_FIELDS
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
    int | None, typer.Option("--to-page", min=1, help="Last page; else to the end of the list.")
]
LimitOption = Annotated[
    int, typer.Option("--limit", min=0, help="Most images stored by this call; 0: no limit.")
]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Read anew what was complete; nothing is stored twice.")
]


@app.command()
def backfill(
    context: typer.Context,
    query: QueryOption = None,
    collection: CollectionOption = None,
    from_page: FromPageOption = 1,
    to_page: ToPageOption = None,
    limit: LimitOption = 0,
    again: AgainOption = False,
) -> None:
    """The whole list, oldest first; the same command goes on."""
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
    invocation = invocation_of(context, query, collection)
    whole_list(invocation.settings())
    options = BackfillOptions(from_page, to_page, limit, again=again)
    audits: list[AuditRow] = []

    async def command(runtime: Runtime) -> Answer:
        known = await find_crawl(runtime, options)
        if known is not None and is_over(known, options):
            row = await runtime.catalog.runs.audit_row(known.audit_id)
            return _nothing_to_do(row, invocation.command("run"))
        run = run_for(known, Run(DEFAULT_DAG_ID, new_run_id("backfill")), again=again)
        return _answer(await run_backfill(runtime, run, options, audits.append))

    raise typer.Exit(
        execute(
            invocation,
            BACKFILL_NEEDS,
            command,
            lambda: _answer(audits[-1]) if audits else None,
        )
    )


def _answer(row: AuditRow) -> Answer:
    answer = audit_answer(row)
    return Answer(answer.data, lambda console: _show(row, console), answer.status)


def _show(row: AuditRow, console: Console) -> None:
    from collector.cli.output import show_audit, show_mapping

    show_audit(row, console)
    certificate = row.report.get("certificate")
    if isinstance(certificate, dict):
        # The database keeps them in another order.
        shown = {name: certificate.get(name) for name in CERTIFICATE_FIELDS}
        show_mapping("certificate", shown, console)


def _nothing_to_do(row: AuditRow, run: str) -> Answer:
    def show(console: Console) -> None:
        _show(row, console)
        console.print()
        console.print(
            f"nothing to do: this list was read to its end by {row.run_id}. What is new since"
            f" comes with {run}; to read it all anew, add --again.",
            soft_wrap=True,
        )

    return Answer(row.as_json(), show, audit_answer(row).status)


@app.command()
def enrich(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("--limit", min=1, help="Most wallpapers that the run asks about.")
    ] = DEFAULT_ENRICHMENTS,
    run_id: RunIdOption = None,
    dag_id: DagIdOption = DEFAULT_DAG_ID,
) -> None:
    """A run of its own: tags and uploaders, most favourites first."""
    from collector.runtime.opening import RunOptions
    from collector.runtime.running import ENRICHMENT, STAGE_NEEDS, run_all_stages

    this_run = Run(dag_id, run_id or new_run_id(StageName.ENRICH))
    options = RunOptions(limit=limit)
    audits: list[AuditRow] = []

    async def command(runtime: Runtime) -> Answer:
        row = await run_all_stages(runtime, this_run, options, audits.append, ENRICHMENT)
        return audit_answer(row)

    raise typer.Exit(
        execute(
            invocation_of(context),
            STAGE_NEEDS[StageName.ENRICH],
            command,
            lambda: audit_answer(audits[-1]) if audits else None,
            this_run,
        )
    )


@app.command()
def plan(
    context: typer.Context, query: QueryOption = None, collection: CollectionOption = None
) -> None:
    """Say what mirroring it all would cost; change nothing."""
    from collector.runtime.wiring import PLAN_NEEDS, run_plan

    async def command(runtime: Runtime) -> Answer:
        report = await run_plan(runtime)
        return Answer(report.as_json(), lambda console: _show_plan(report, console))

    raise typer.Exit(execute(invocation_of(context, query, collection), PLAN_NEEDS, command))


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
