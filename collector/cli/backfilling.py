"""The command that mirrors a whole list, and says what it has proved of it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from collector.cli.app import (
    CollectionOption,
    QueryOption,
    app,
    audit_answer,
    invocation_of,
    new_run_id,
)
from collector.cli.execution import Answer, execute
from collector.cli.output import show_audit, show_mapping
from collector.core.audit import AuditRow
from collector.core.certificate import CERTIFICATE_FIELDS
from collector.core.errors import SettingsError
from collector.core.runs import DEFAULT_DAG_ID, Run
from collector.runtime import (
    BACKFILL_NEEDS,
    BackfillOptions,
    Runtime,
    find_crawl,
    is_over,
    run_backfill,
    run_for,
    whole_list,
)

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
    if to_page is not None and to_page < from_page:
        raise SettingsError("--to-page", f"must not be below --from-page, {from_page}")
    invocation = invocation_of(context, query, collection)
    whole_list(invocation.settings())
    options = BackfillOptions(from_page, to_page, limit, again=again)
    audits: list[AuditRow] = []

    async def command(runtime: Runtime) -> Answer:
        known = await find_crawl(runtime, options)
        if known is not None and is_over(known, options):
            row = await runtime.catalog.runs.audit_row(known.run_key)
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
