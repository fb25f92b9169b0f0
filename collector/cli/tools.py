"""Commands that are no stage of a run: simulator, embedded servers, doctor, demo."""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.console import Console

from collector.cli.app import (
    DagIdOption,
    RunIdOption,
    app,
    audit_answer,
    invocation_of,
    new_run_id,
)
from collector.cli.execution import Answer, Exit, Invocation, conclude
from collector.cli.output import show_audit, show_lines, show_rows
from collector.core.audit import AuditRow
from collector.core.errors import SettingsError
from collector.core.runs import DEFAULT_DAG_ID, Json, Run
from collector.demo import DEMO_WALLPAPERS, DemoResult, run_demo
from collector.doctor import Check, examine
from collector.interrupts import Interrupted, run_interruptible
from collector.local import LocalServerError, LocalServers, open_local_servers
from collector.ports import Progress
from collector.simulator import (
    EmptyFolderError,
    InvalidOptionError,
    SimulatorOptions,
    open_simulator,
)

ImagesOption = Annotated[
    Path | None,
    typer.Option("--images", file_okay=False, exists=True, help="Serve the pictures in here."),
]
WallpapersOption = Annotated[
    int, typer.Option("--wallpapers", min=1, help="How many wallpapers the simulator has.")
]


@app.command()
def simulate(
    context: typer.Context,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = 0,
    wallpapers: WallpapersOption = DEMO_WALLPAPERS,
    seed: Annotated[int, typer.Option("--seed")] = 7,
    images: ImagesOption = None,
    requests_per_minute: Annotated[
        int, typer.Option("--requests-per-minute", min=0, help="Of the API; 0: no limit.")
    ] = 45,
) -> None:
    """Serve a simulated Wallhaven, API and images on one port, until Ctrl-C."""
    try:
        options = SimulatorOptions(
            port=port,
            wallpapers=wallpapers,
            seed=seed,
            images=images,
            requests_per_minute=requests_per_minute,
        )
    except InvalidOptionError as error:
        raise SettingsError(f"--{error.name.replace('_', '-')}", str(error)) from None

    @asynccontextmanager
    async def serve() -> AsyncIterator[Mapping[str, Json]]:
        async with open_simulator(options) as simulator:
            yield {
                "WALLHAVEN_API_URL": simulator.api_url,
                "WALLHAVEN_IMAGE_HOSTS": simulator.image_host,
            }

    try:
        raise typer.Exit(_until_stopped(invocation_of(context), serve()))
    except EmptyFolderError as error:
        raise SettingsError("--images", str(error)) from None


@app.command()
def serve(context: typer.Context) -> None:
    """Keep the embedded servers running until Ctrl-C, to look at rows and objects."""
    invocation = invocation_of(context)
    settings = invocation.settings()

    @asynccontextmanager
    async def servers() -> AsyncIterator[Mapping[str, Json]]:
        async with open_local_servers(settings.collector_home) as local:
            yield where_to_look(local, settings.bucket_name)

    raise typer.Exit(_until_stopped(invocation, servers()))


def where_to_look(servers: LocalServers, bucket: str) -> dict[str, Json]:
    """Return command lines for people to paste while the embedded servers run."""
    found: dict[str, Json] = {}
    if servers.postgres:
        found["rows"] = servers.postgres.psql
    if servers.s3:
        found["objects"] = f"{servers.s3.endpoint_url}/{bucket}"
    return found


def _until_stopped(
    invocation: Invocation, serving: AbstractAsyncContextManager[Mapping[str, Json]]
) -> Exit:
    """Serve, say where, and wait for the signal that ends it: that is success."""

    async def main() -> None:
        async with serving as where:
            invocation.answer(Answer(where, lambda console: show_lines(where, console)))
            await anyio.sleep_forever()

    try:
        run_interruptible(main)
    except Interrupted:
        return Exit.DONE
    except (LocalServerError, OSError) as error:
        typer.echo(f"collector: {error}", err=True)
    return Exit.FAILED


@app.command()
def doctor(context: typer.Context) -> None:
    """Check settings, database, bucket and API; say what to mend."""
    invocation = invocation_of(context)
    settings = invocation.settings()

    async def main(progress: Progress) -> Answer:
        checks = await examine(settings, progress)
        rows: list[dict[str, Json]] = [
            {"check": check.name, "well": check.well, "found": check.found} for check in checks
        ]
        status = Exit.DONE if all(check.well for check in checks) else Exit.FAILED
        return Answer(
            {"well": status is Exit.DONE, "checks": list(rows)},
            lambda console: _show_checks(checks, console),
            status,
        )

    raise typer.Exit(conclude(invocation, main))


def _show_checks(checks: list[Check], console: Console) -> None:
    show_rows(
        "doctor",
        [
            {"": "ok" if check.well else "MEND", "check": check.name, "found": check.found}
            for check in checks
        ],
        console,
    )


@app.command()
def demo(
    context: typer.Context,
    wallpapers: WallpapersOption = DEMO_WALLPAPERS,
    images: ImagesOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier demo first.")] = False,
    run_id: RunIdOption = None,
    dag_id: DagIdOption = DEFAULT_DAG_ID,
) -> None:
    """Run the main job end to end on embedded servers, against the bundled simulator."""
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
        proven = result.verified == result.stored
        return Answer(
            answer.data,
            lambda console: _show_demo(result, console),
            answer.status if proven else Exit.FAILED,
        )

    raise typer.Exit(
        conclude(invocation, main, lambda: audit_answer(audits[-1]) if audits else None)
    )


def _show_demo(result: DemoResult, console: Console) -> None:
    show_audit(result.audit, console)
    console.print(
        f"\nverified: {result.verified} of {result.stored} stored objects have the sha256 of "
        "their row and of their source"
    )
    console.print(f"pictures: {result.pictures}", soft_wrap=True)
    home = shlex.quote(str(result.servers.home))
    console.print("to look around, keep the servers up with")
    console.print(f"  COLLECTOR_HOME={home} {sys.executable} -m collector serve", soft_wrap=True)
    console.print("and in another terminal")
    show_lines(where_to_look(result.servers, result.bucket), console)
