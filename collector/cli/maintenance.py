"""The commands `doctor`, `verify`, `janitor` and `migrate`."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from collector.cli.app import app, invocation_of
from collector.cli.execution import Answer, Exit, conclude, execute
from collector.core.runs import KEEP_DAYS, SILENT_SECONDS, STALE_UPLOAD_SECONDS, Json

if TYPE_CHECKING:
    from rich.console import Console

    from collector.core.maintenance import Findings
    from collector.doctor import Check
    from collector.ports import Progress
    from collector.runtime.opening import Runtime

# One or two screens; `--json` has more.
SHOWN_DIFFERENCES = 50
# A century: a longer period leaves the dates that PostgreSQL can hold.
MAX_KEEP_DAYS = 36_525


@app.command()
def verify(
    context: typer.Context,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every object and compare its sha256.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Requeue missing images, adopt objects; delete nothing."),
    ] = False,
    refill: Annotated[
        bool, typer.Option("--refill", help="Repair even if most objects are missing.")
    ] = False,
) -> Exit:
    """Compare the bucket with the tables, both ways."""
    from collector.runtime.wiring import UPKEEP_NEEDS, run_verify

    invocation = invocation_of(context)
    repairing = invocation.command("verify", "--repair")

    async def command(runtime: Runtime) -> Answer:
        findings = await run_verify(runtime, deep=deep, repair=repair or refill, refill=refill)
        return Answer(
            findings.as_json(),
            lambda console: _show(findings, console, repairing, deep=deep),
            Exit.FAILED if findings.left else Exit.DONE,
        )

    return execute(invocation, UPKEEP_NEEDS, command)


def _show(findings: Findings, console: Console, repairing: str, *, deep: bool) -> None:
    from collector.cli.output import show_mapping, show_rows
    from collector.core.maintenance import KIND_MEANING, Kind

    absent = {kind.value for kind in Kind if not findings.kinds[kind]}
    counts = {name: count for name, count in findings.counts().items() if name not in absent}
    show_mapping("verify", counts, console)
    for kind in Kind:
        if findings.kinds[kind]:
            console.print(f"  {kind}: {KIND_MEANING[kind]}")
    if findings.listed:
        rows = [found.as_json() for found in findings.listed[:SHOWN_DIFFERENCES]]
        show_rows("differences", rows, console)
    if (more := findings.kinds.total() - SHOWN_DIFFERENCES) > 0:
        console.print(f"and {more} more; --json has the first {len(findings.listed)}")
    if findings.left:
        console.print(f"{repairing} repairs what it can and deletes nothing", soft_wrap=True)
    elif not findings.listed:
        by = "the sha256 of the bytes" if deep else "key and size; --deep reads the bytes"
        console.print(f"bucket and tables agree by {by}")


@app.command()
def janitor(
    context: typer.Context,
    upload_age: Annotated[
        float,
        typer.Option(
            "--upload-age", min=0, help="Seconds after which an unrecorded upload is stale."
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
            help="Days to keep details of runs; 0 keeps them for ever.",
        ),
    ] = KEEP_DAYS,
) -> Exit:
    """Clean up after processes that died; trim details of old runs."""
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

    return execute(invocation_of(context), UPKEEP_NEEDS, command)


@app.command(name="migrate")
def migrate_schema(context: typer.Context) -> Exit:
    """Bring the database schema up to date; safe to repeat."""
    from collector.catalog.migrations import known_migrations, migrate
    from collector.runtime.opening import Need

    async def command(runtime: Runtime) -> Answer:
        async with runtime.catalog.database.session() as session:
            applied = await migrate(session)
        version = known_migrations()[-1].version
        text = f"schema version {version}: {', '.join(applied) or 'nothing to do'}"
        data: dict[str, Json] = {"applied": list(applied), "version": version}
        return Answer(data, lambda console: console.print(text))

    return execute(invocation_of(context), Need.DATABASE, command)


@app.command()
def doctor(context: typer.Context) -> Exit:
    """Check settings, database, bucket and API; say what to fix."""
    from collector.doctor import examine

    invocation = invocation_of(context)
    settings = invocation.settings()
    invocation.warn_of_embedded(settings)

    async def main(progress: Progress) -> Answer:
        checks = [
            replace(check, found=invocation.hinted(check.found))
            for check in await examine(settings, progress)
        ]
        rows: list[Json] = [
            {"check": check.name, "ok": check.is_ok, "found": check.found} for check in checks
        ]
        all_ok = all(check.is_ok for check in checks)
        return Answer(
            {"ok": all_ok, "checks": rows},
            lambda console: _show_checks(checks, console),
            Exit.DONE if all_ok else Exit.FAILED,
        )

    return conclude(invocation, main)


def _show_checks(checks: list[Check], console: Console) -> None:
    from collector.cli.output import show_rows

    rows: list[dict[str, Json]] = [
        {"": "ok" if check.is_ok else "FAIL", "check": check.name, "found": check.found}
        for check in checks
    ]
    show_rows("doctor", rows, console)
