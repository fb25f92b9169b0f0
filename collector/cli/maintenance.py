"""The commands `verify` and `janitor`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from collector.cli.app import app, invocation_of
from collector.cli.execution import Answer, Exit, execute
from collector.core.runs import KEEP_DAYS, SILENT_SECONDS, STALE_UPLOAD_SECONDS

if TYPE_CHECKING:
    from collector.core.maintenance import Findings

if TYPE_CHECKING:
    from rich.console import Console

    from collector.runtime.opening import Runtime

# A screen or two; `--json` has more.
SHOWN_DIFFERENCES = 50
# A century: beyond lies what no calendar of the database reaches.
MAX_KEEP_DAYS = 36_525


@app.command()
def verify(
    context: typer.Context,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every object and compare its sha256.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Send for what is missing again, adopt what is ours; delete nothing."
        ),
    ] = False,
    refill: Annotated[
        bool, typer.Option("--refill", help="Repair also where most objects are missing.")
    ] = False,
) -> None:
    """Compare the bucket with the tables, both ways."""
    from collector.runtime.wiring import UPKEEP_NEEDS, run_verify

    invocation = invocation_of(context)
    mending = invocation.command("verify", "--repair")

    async def command(runtime: Runtime) -> Answer:
        findings = await run_verify(runtime, deep=deep, repair=repair or refill, refill=refill)
        return Answer(
            findings.as_json(),
            lambda console: _show(findings, console, mending, deep=deep),
            Exit.FAILED if findings.left else Exit.DONE,
        )

    raise typer.Exit(execute(invocation, UPKEEP_NEEDS, command))


def _show(findings: Findings, console: Console, mending: str, *, deep: bool) -> None:
    from collector.cli.output import show_mapping, show_rows
    from collector.core.maintenance import KIND_MEANING, Kind

    counts = findings.counts()
    nothing_of = {kind.value for kind in Kind if not findings.kinds[kind]}
    shown = {name: count for name, count in counts.items() if name not in nothing_of}
    show_mapping("verify", shown, console)
    for kind in Kind:
        if findings.kinds[kind]:
            console.print(f"  {kind}: {KIND_MEANING[kind]}")
    if findings.listed:
        rows = [found.as_json() for found in findings.listed[:SHOWN_DIFFERENCES]]
        show_rows("differences", rows, console)
    if (more := findings.kinds.total() - SHOWN_DIFFERENCES) > 0:
        console.print(f"and {more} more; --json has the first {len(findings.listed)}")
    if findings.left:
        console.print(f"{mending} puts right what can be, and deletes nothing", soft_wrap=True)
    elif not findings.listed:
        by = "the sha256 of the bytes" if deep else "key and size; --deep reads the bytes"
        console.print(f"bucket and tables agree by {by}")


@app.command()
def janitor(
    context: typer.Context,
    upload_age: Annotated[
        float,
        typer.Option(
            "--upload-age", min=0, help="Seconds after which an upload that nobody noted is stale."
        ),
    ] = STALE_UPLOAD_SECONDS,
    run_silence: Annotated[
        float,
        typer.Option(
            "--run-silence", min=0, help="Seconds of silence after which a run has crashed."
        ),
    ] = SILENT_SECONDS,
    keep_days: Annotated[
        int,
        typer.Option(
            "--keep-days",
            min=0,
            max=MAX_KEEP_DAYS,
            help="Days for which details of runs are kept; 0 keeps them for ever.",
        ),
    ] = KEEP_DAYS,
) -> None:
    """Tidy up after processes that died; trim details of old runs."""
    from collector.cli.output import show_mapping
    from collector.runtime.wiring import UPKEEP_NEEDS, JanitorOptions, run_janitor

    async def command(runtime: Runtime) -> Answer:
        tidied = await run_janitor(runtime, JanitorOptions(upload_age, run_silence, keep_days))
        data = asdict(tidied)
        return Answer(
            data,
            lambda console: show_mapping("janitor", data, console),
            Exit.FAILED if tidied.uploads_left else Exit.DONE,
        )

    raise typer.Exit(execute(invocation_of(context), UPKEEP_NEEDS, command))
