"""Command line: `python -m collector COMMAND`, also installed as `collector`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from collector.cli import app as _app
from collector.cli import backfilling as _backfilling
from collector.cli import dead as _dead
from collector.cli import demonstration as _demonstration
from collector.cli import inspect as _inspect
from collector.cli import maintenance as _maintenance
from collector.cli import serving as _serving
from collector.cli.execution import Exit, Invocation
from collector.cli.streams import secure_streams
from collector.core.errors import SchemaMissing, SettingsError

__all__ = ["main"]

# Importing a module adds its commands to the application.
_COMMANDS = (_app, _backfilling, _dead, _demonstration, _inspect, _maintenance, _serving)

# The base class of all usage errors; Typer exports only this subclass by name.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

# What an option must be, by the type of pydantic's error, with which Typer checks numbers.
_REQUIRED = {
    "int_parsing": "a whole number",
    "int_parsing_size": "a shorter number",
    "float_parsing": "a number",
    "greater_than_equal": "{ge:g} or more",
    "less_than_equal": "{le:g} or less",
}


def main() -> None:
    """Run the command that the process's arguments name, and exit with its status."""
    secure_streams()
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command; wrong usage and settings are one line on stderr and status 2."""
    try:
        words, invocation = _common_options(arguments)
    except SettingsError as error:
        return _refuse(str(error))
    if words in (["version"], ["--version"]):
        # Typer would load pydantic to read the options of a command that has none.
        _app.print_version(invocation)
        return Exit.DONE
    try:
        status = _app.app(
            words or ["--help"], prog_name="collector", standalone_mode=False, obj=invocation
        )
    except (SettingsError, SchemaMissing) as error:
        return _refuse(invocation.hinted(str(error)))
    except _UsageError as error:
        return _refuse(_usage_problem(error))
    return int(status or Exit.DONE)


def _refuse(problem: str) -> int:
    sys.stderr.write(f"collector: {problem}\n")
    return Exit.USAGE


def _usage_problem(error: Any) -> str:
    """Say what is wrong with the arguments, without pydantic's sentences."""
    details: Mapping[str, Any] = error.__cause__.errors()[0] if error.__cause__ else {}
    required = _REQUIRED.get(details.get("type", ""))
    if required is None:
        return str(error.format_message())
    required = required.format_map(details.get("ctx", {}))
    return f'{error.param.opts[0]}: must be {required}, got "{details["input"]}"'


def _common_options(arguments: Sequence[str]) -> tuple[list[str], Invocation]:
    """Take out `--json` and `--env-file FILE`, which may stand anywhere."""
    words: list[str] = []
    as_json, env_file = False, None
    remaining = iter(arguments)
    for word in remaining:
        if word == "--json":
            as_json = True
        elif word == "--env-file" or word.startswith("--env-file="):
            value = word.partition("=")[2] or next(remaining, "")
            if not value:
                raise SettingsError("--env-file", "needs the name of a file")
            env_file = Path(value)
        else:
            words.append(word)
    return words, Invocation(tuple(arguments), as_json, env_file)
