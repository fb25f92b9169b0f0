"""The command `demo`."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from collector.cli.app import DagIdOption, RunIdOption, app, invocation_of, new_run_id
from collector.cli.execution import Answer, Exit, audit_answer, conclude
from collector.cli.serving import DEMO_WALLPAPERS, ImagesOption, WallpapersOption, where_to_look
from collector.core.audit import AuditRow
from collector.core.runs import DEFAULT_DAG_ID, Run

if TYPE_CHECKING:
    from rich.console import Console

    from collector.demo import DemoResult
    from collector.ports import Progress


@app.command()
def demo(
    context: typer.Context,
    wallpapers: WallpapersOption = DEMO_WALLPAPERS,
    images: ImagesOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Delete the data of an earlier demo first.")
    ] = False,
    run_id: RunIdOption = None,
    dag_id: DagIdOption = DEFAULT_DAG_ID,
) -> Exit:
    """Run the job on embedded servers and a simulated Wallhaven."""
    from collector.demo import run_demo

    invocation = invocation_of(context)
    settings = invocation.settings()
    audits: list[AuditRow] = []

    async def main(progress: Progress) -> Answer:
        result = await run_demo(
            settings,
            wallpapers=wallpapers,
            images=images,
            fresh=fresh,
            run=Run(dag_id, run_id or new_run_id("demo")),
            progress=progress,
            on_audit=audits.append,
        )
        answer = audit_answer(result.audit)
        is_verified = result.verified == result.stored
        return Answer(
            answer.data,
            lambda console: _show_demo(result, console),
            answer.status if is_verified else Exit.FAILED,
        )

    return conclude(invocation, main, audits)


def _show_demo(result: DemoResult, console: Console) -> None:
    from collector.cli.output import show_audit, show_lines

    show_audit(result.audit, console)
    console.print()
    console.print(
        f"verified: {result.verified} of {result.stored} stored objects have the sha256 of "
        "their row and of their source"
    )
    console.print(f"pictures: {result.pictures}", soft_wrap=True)
    home = shlex.quote(str(result.servers.home))
    console.print("to look around, keep the servers up with")
    console.print(f"  COLLECTOR_HOME={home} {sys.executable} -m collector serve", soft_wrap=True)
    console.print("and in another terminal")
    show_lines(where_to_look(result.servers, result.bucket), console)
