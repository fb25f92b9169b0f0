"""The commands `dead list`, `dead requeue` and `dead resolve`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from collector.cli.app import Commands, app, invocation_of
from collector.cli.execution import Answer, Exit, Invocation, execute
from collector.core.errors import Code, SettingsError
from collector.core.runs import Json

if TYPE_CHECKING:
    from rich.console import Console

    from collector.core.history import Changed, Choice, DeadLetter
    from collector.runtime.opening import Runtime

dead = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    help="Dead letters: items that were given up.",
)
app.add_typer(dead, name="dead")

# One or two screens; `--json` has all letters.
SHOWN_LETTERS = 50
# A reason may be a paragraph; the table shows its beginning.
SHOWN_REASON_CHARACTERS = 100

CodeOption = Annotated[str | None, typer.Option("--code", help="Letters with this code.")]
AllOption = Annotated[bool, typer.Option("--all", help="All open letters.")]
NamesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of wallpapers or of letters.")
]


@dead.command(name="list")
def list_letters(context: typer.Context, code: CodeOption = None) -> Exit:
    """List open dead letters."""
    from collector.runtime.opening import Need

    _require_code(code)

    async def command(runtime: Runtime) -> Answer:
        letters = await runtime.catalog.dead_letters.open_letters(code)
        return Answer(
            {"open": len(letters), "dead_letters": [letter.as_json() for letter in letters]},
            lambda console: _show("dead letters", letters, console),
        )

    return execute(invocation_of(context), Need.SCHEMA, command)


@dead.command()
def requeue(
    context: typer.Context,
    names: NamesArgument = None,
    code: CodeOption = None,
    every: AllOption = False,
) -> Exit:
    """Retry images that were given up."""
    return _change(context, "requeued", _choice(names, code, every=every))


@dead.command()
def resolve(
    context: typer.Context,
    names: NamesArgument = None,
    code: CodeOption = None,
    every: AllOption = False,
) -> Exit:
    """Close dead letters; their items stay given up."""
    return _change(context, "resolved", _choice(names, code, every=every))


def _change(context: typer.Context, done: str, choice: Choice) -> Exit:
    from collector.runtime.opening import Need

    invocation = invocation_of(context)

    async def command(runtime: Runtime) -> Answer:
        letters = runtime.catalog.dead_letters
        change = letters.requeue if done == "requeued" else letters.resolve
        return _changed(done, await change(choice), invocation)

    return execute(invocation, Need.SCHEMA, command)


def _choice(names: list[str] | None, code: str | None, *, every: bool) -> Choice:
    """Raise SettingsError unless exactly one of ids, --code and --all is given."""
    from collector.core.history import Choice

    _require_code(code)
    if sum((bool(names), code is not None, every)) != 1:
        raise SettingsError("dead", "name the letters: ids, or --code CODE, or --all")
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
            _show("left open, because they are about metadata", changed.left, console)
            console.print(
                "these close when a run reads the wallpaper without the fault;"
                f" {invocation.command('run', '--refresh')} reads on past what is known"
            )
        for name in changed.unknown:
            console.print(f"{name}: no open dead letter")

    return Answer(data, show, Exit.FAILED if changed.unknown else Exit.DONE)


def _show(title: str, letters: Sequence[DeadLetter], console: Console) -> None:
    from collector.cli.output import show_rows

    show_rows(title, [_letter_row(letter) for letter in letters[:SHOWN_LETTERS]], console)
    if len(letters) > SHOWN_LETTERS:
        console.print(f"and {len(letters) - SHOWN_LETTERS} more; --json has all of them")


def _letter_row(letter: DeadLetter) -> dict[str, Json]:
    return {
        "id": letter.id,
        "wallpaper": letter.wallhaven_id,
        "stage": letter.stage,
        "code": letter.code,
        "attempts": letter.attempts,
        "last failed": letter.last_failed_at.isoformat(timespec="seconds"),
        "reason": letter.reason[:SHOWN_REASON_CHARACTERS],
    }
