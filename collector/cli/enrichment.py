"""The command `enrich`: a run of its own kind, for what is left of the API's budget."""

from __future__ import annotations

from typing import Annotated

import typer

from collector.cli.app import (
    DagIdOption,
    RunIdOption,
    app,
    audit_answer,
    invocation_of,
    new_run_id,
)
from collector.cli.execution import Answer, execute
from collector.core.audit import AuditRow
from collector.core.runs import DEFAULT_DAG_ID, Run, StageName
from collector.runtime import (
    DEFAULT_ENRICHMENTS,
    ENRICHMENT,
    STAGE_NEEDS,
    RunOptions,
    Runtime,
    run_all_stages,
)


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
