"""The commands `doctor`, `objects` and `demo`."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Annotated

import typer

from collector.cli.app import DagIdOption, RunIdOption, app, invocation_of, new_run_id
from collector.cli.execution import Answer, Exit, audit_answer, conclude, execute
from collector.cli.serving import DEMO_WALLPAPERS, ImagesOption, WallpapersOption, where_to_look
from collector.core.audit import AuditRow
from collector.core.errors import SettingsError
from collector.core.runs import DEFAULT_DAG_ID, Json, Run

if TYPE_CHECKING:
    from rich.console import Console

    from collector.demo import DemoResult
    from collector.doctor import Check
    from collector.ports import Progress
    from collector.runtime.opening import Runtime


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
            {"check": check.name, "well": check.is_ok, "found": check.found} for check in checks
        ]
        all_ok = all(check.is_ok for check in checks)
        return Answer(
            {"well": all_ok, "checks": rows},
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


@app.command()
def objects(
    context: typer.Context,
    key: Annotated[
        str | None, typer.Option("--get", help="Save this object in the current folder.")
    ] = None,
) -> Exit:
    """List the images in the bucket, or save one of them."""
    from collector.core.keys import KEY_PREFIX
    from collector.demo import copy_objects
    from collector.runtime.opening import Need

    bucket = invocation_of(context).settings().bucket_name
    folder = _folder_for(key) if key is not None else None

    async def command(runtime: Runtime) -> Answer:
        if key is None or folder is None:
            return _listed([found async for found in runtime.store.keys(KEY_PREFIX)], bucket)
        await copy_objects(runtime.store, [key], folder)
        file = folder / Path(key).name
        return Answer(
            {"key": key, "file": str(file)},
            lambda console: console.print(str(file), soft_wrap=True),
        )

    return execute(invocation_of(context), Need.STORE, command)


def _folder_for(key: str) -> Path:
    """Return the current folder; raise SettingsError if this object cannot be saved in it."""
    from collector.core.keys import KEY_PREFIX

    name = key.removeprefix(KEY_PREFIX)
    if name == key or not re.fullmatch(r"[\w.]+", name, re.ASCII):
        raise SettingsError("--get", f"must be a key as `objects` lists it: {KEY_PREFIX}ID.EXT")
    if Path(name).exists():
        raise SettingsError(
            "--get", f"{name} exists already and was not overwritten; move it away first"
        )
    try:
        # Access rights do not tell: root has them even on a read-only file system.
        folder = Path.cwd()
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise SettingsError(
            "--get", f"the current folder cannot be written: {error.strerror}"
        ) from None
    return folder


def _listed(objects: list[tuple[str, int]], bucket: str) -> Answer:
    def show(console: Console) -> None:
        if not objects:
            console.print(f"bucket {bucket} has no images")
        for key, size_bytes in objects:
            console.print(f"{size_bytes:>12} {key}", soft_wrap=True)

    listed: list[Json] = [{"key": key, "bytes": size_bytes} for key, size_bytes in objects]
    return Answer({"objects": listed}, show)


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
