"""The commands that look at single items: `explain`, and the dead letters with `dead`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from collector.cli.app import app, invocation_of
from collector.cli.execution import Answer, Exit, Invocation, execute
from collector.core.errors import CODE_MEANING, Code, SettingsError
from collector.core.runs import Json

if TYPE_CHECKING:
    from collector.core.history import Changed, Choice, DeadLetter, History

if TYPE_CHECKING:
    from rich.console import Console

    from collector.runtime.opening import Runtime

dead = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Dead letters: what was given up on."
)
app.add_typer(dead, name="dead")

# A screen or two; `--json` has all of them.
SHOWN_LETTERS = 50
# A reason may be a paragraph; a line of a table has its beginning.
SHOWN_REASON_CHARACTERS = 100

CodeOption = Annotated[str | None, typer.Option("--code", help="Those with this code.")]
AllOption = Annotated[bool, typer.Option("--all", help="All that are open.")]
NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Wallpapers, or numbers of letters.")
]
# Of a row, what tells a person most.
_SHOWN = (
    *("state", "page_url", "url", "pending_url", "resolution", "file_type", "file_size"),
    *("s3_key", "object_sha256", "object_bytes", "stored_at"),
    *("attempts", "next_attempt_at", "lease_until"),
)


@dead.command(name="list")
def list_letters(context: typer.Context, code: CodeOption = None) -> None:
    """List the open ones."""
    from collector.runtime.opening import Need

    _require_code(code)

    async def command(runtime: Runtime) -> Answer:
        letters = await runtime.catalog.dead_letters.open_letters(code)
        return Answer(
            {"open": len(letters), "dead_letters": [letter.as_json() for letter in letters]},
            lambda console: _show("dead letters", letters, console),
        )

    raise typer.Exit(execute(invocation_of(context), Need.SCHEMA, command))


@dead.command()
def requeue(
    context: typer.Context,
    names: NamesArgument = None,
    code: CodeOption = None,
    every: AllOption = False,
) -> None:
    """Try images again that were given up."""
    from collector.runtime.opening import Need

    choice = _choice(names, code, every=every)
    invocation = invocation_of(context)

    async def command(runtime: Runtime) -> Answer:
        return _changed("requeued", await runtime.catalog.dead_letters.requeue(choice), invocation)

    raise typer.Exit(execute(invocation, Need.SCHEMA, command))


@dead.command()
def resolve(
    context: typer.Context,
    names: NamesArgument = None,
    code: CodeOption = None,
    every: AllOption = False,
) -> None:
    """Close them: what they are about stays given up."""
    from collector.runtime.opening import Need

    choice = _choice(names, code, every=every)
    invocation = invocation_of(context)

    async def command(runtime: Runtime) -> Answer:
        return _changed("resolved", await runtime.catalog.dead_letters.resolve(choice), invocation)

    raise typer.Exit(execute(invocation, Need.SCHEMA, command))


def _choice(names: list[str] | None, code: str | None, *, every: bool) -> Choice:
    """Raises SettingsError unless exactly one of ids, --code and --all says which."""
    from collector.core.history import Choice

    _require_code(code)
    if sum((bool(names), code is not None, every)) != 1:
        raise SettingsError("dead", "say which: ids, or --code CODE, or --all")
    return Choice(names or None, code)


def _require_code(code: str | None) -> None:
    if code is not None and code not in list(Code):
        raise SettingsError("--code", f"must be one of: {', '.join(Code)}")


def _changed(done: str, changed: Changed, invocation: Invocation) -> Answer:
    data: dict[str, Json] = {
        done: len(changed.closed),
        "left": [letter.as_json() for letter in changed.left],
        "unknown": list(changed.unknown),
        "dead_letters": [letter.as_json() for letter in changed.closed],
    }

    def show(console: Console) -> None:
        _show(done, changed.closed, console)
        if changed.left:
            _show("left, for they are about metadata", changed.left, console)
            console.print(
                "a listing that has the wallpaper in good shape closes these by itself;"
                f" {invocation.command('run', '--refresh')} reads on where nothing is new"
            )
        for name in changed.unknown:
            console.print(f"{name}: no open dead letter")

    return Answer(data, show, Exit.FAILED if changed.unknown else Exit.DONE)


def _show(title: str, letters: Sequence[DeadLetter], console: Console) -> None:
    from collector.cli.output import show_rows

    show_rows(title, [_short(letter) for letter in letters[:SHOWN_LETTERS]], console)
    if len(letters) > SHOWN_LETTERS:
        console.print(f"and {len(letters) - SHOWN_LETTERS} more; --json has all of them")


def _short(letter: DeadLetter) -> dict[str, Json]:
    return {
        "id": letter.id,
        "wallpaper": letter.wallhaven_id,
        "stage": letter.stage,
        "code": letter.code,
        "tries": letter.attempts,
        "last failed": letter.last_failed_at.isoformat(timespec="seconds"),
        "reason": letter.reason[:SHOWN_REASON_CHARACTERS],
    }


@app.command()
def explain(
    context: typer.Context,
    wallhaven_id: Annotated[str, typer.Argument(metavar="ID", help="Its id at the site.")],
) -> None:
    """Tell the history of one wallpaper."""
    from collector.runtime.opening import Need

    async def command(runtime: Runtime) -> Answer:
        history = await runtime.catalog.items.history(wallhaven_id)
        if not history.is_known:
            return Answer(
                {"wallhaven_id": wallhaven_id, "state": "unknown"},
                lambda console: console.print(f"{wallhaven_id}: no search has listed it here"),
                Exit.FAILED,
            )
        return Answer(history.as_json(), lambda console: _show_history(history, console))

    raise typer.Exit(execute(invocation_of(context), Need.SCHEMA, command))


def _show_history(history: History, console: Console) -> None:
    from collector.cli.output import show_lines, show_mapping

    data = history.as_json()
    shown = {name: data[name] for name in _SHOWN if data.get(name) is not None}
    if history.details and history.details.tags:
        shown["tags"] = ", ".join(history.details.tags)
    show_mapping(history.wallhaven_id, shown, console)
    console.print("what happened")
    for event in history.events():
        console.print(f"  {event.at.isoformat(timespec='seconds')}  {event.what}", soft_wrap=True)
    if problems := _problems(history):
        console.print("what is wrong")
        show_lines(problems, console)


def _problems(history: History) -> dict[str, Json]:
    return {
        letter.code: f"{letter.reason} ({CODE_MEANING[Code(letter.code)]})"
        for letter in history.letters
        if letter.resolved_at is None
    }
