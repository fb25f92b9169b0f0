"""The command `explain`: the life of one wallpaper."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from collector.cli.app import app, invocation_of
from collector.cli.execution import Answer, Exit, execute
from collector.cli.output import show_lines, show_mapping
from collector.core.errors import CODE_MEANING, Code
from collector.core.lives import Life
from collector.core.runs import Json
from collector.runtime import Need, Runtime

# Of a row, what tells a person most.
_SHOWN = (
    *("state", "page_url", "url", "pending_url", "resolution", "file_type", "file_size"),
    *("s3_key", "object_sha256", "object_bytes", "stored_at"),
    *("attempts", "next_attempt_at", "lease_until"),
)


@app.command()
def explain(
    context: typer.Context,
    wallhaven_id: Annotated[str, typer.Argument(metavar="ID", help="Its id at the site.")],
) -> None:
    """Tell the life of one wallpaper."""

    async def command(runtime: Runtime) -> Answer:
        life = await runtime.catalog.items.life(wallhaven_id)
        if not life.is_known:
            return Answer(
                {"wallhaven_id": wallhaven_id, "state": "unknown"},
                lambda console: console.print(f"{wallhaven_id}: no search has listed it here"),
                Exit.FAILED,
            )
        return Answer(life.as_json(), lambda console: _show(life, console))

    raise typer.Exit(execute(invocation_of(context), Need.SCHEMA, command))


def _show(life: Life, console: Console) -> None:
    data = life.as_json()
    shown = {name: data[name] for name in _SHOWN if data.get(name) is not None}
    if life.details and life.details.tags:
        shown["tags"] = ", ".join(life.details.tags)
    show_mapping(life.wallhaven_id, shown, console)
    console.print("what happened")
    for event in life.events():
        console.print(f"  {event.at.isoformat(timespec='seconds')}  {event.what}", soft_wrap=True)
    if problems := _problems(life):
        console.print("what is wrong")
        show_lines(problems, console)


def _problems(life: Life) -> dict[str, Json]:
    return {
        letter.code: f"{letter.reason} ({CODE_MEANING[Code(letter.code)]})"
        for letter in life.letters
        if letter.resolved_at is None
    }
