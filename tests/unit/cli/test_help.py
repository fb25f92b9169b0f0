"""What `--help` shows a newcomer."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.main import get_command

from collector import __version__
from collector.cli import run
from collector.cli.app import COMMANDS, TASKS, app

TERMINAL_COLUMNS = 80


def listed_commands() -> list[str]:
    command: Any = get_command(app)
    text: str = command.get_help(typer.Context(command, terminal_width=TERMINAL_COLUMNS))
    tasks = text[text.index(f"{next(iter(TASKS))}:\n") :].split("\n\n")[: len(TASKS)]
    return [line for task in tasks for line in task.splitlines()[1:]]


def test_commands_are_listed_in_their_order() -> None:
    assert tuple(line.split()[0] for line in listed_commands()) == COMMANDS


def test_every_help_names_the_options_that_any_command_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["-h"], ["run", "-h"], ["dead", "-h"], ["dead", "list", "--help"]):
        assert run(words) == 0
        shown = capsys.readouterr().out
        assert "--json" in shown
        assert "--env-file FILE" in shown


def test_a_shell_completes_the_names_of_commands() -> None:
    asked = {
        "_COLLECTOR_COMPLETE": "complete_bash",
        "COMP_WORDS": "collector ver",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "collector"],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["verify", "version"])


def test_dash_dash_version_is_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_no_description_is_cut_off() -> None:
    assert [line for line in listed_commands() if "..." in line] == []


def test_a_limit_of_zero_is_explained() -> None:
    command: Any = get_command(app)
    (limit,) = [option for option in command.commands["run"].params if option.name == "limit"]
    assert limit.help.endswith("0: no limit.")


# Each costs more than a tenth of a second of CPU, or brings something that does.
HEAVY = {"aiobotocore", "aiohttp", "asyncpg", "pydantic_settings", "rich"}


@pytest.mark.parametrize("words", [["--help"], ["version"], ["run", "--help"]])
def test_what_only_prints_imports_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys; from collector.cli import run; assert run(sys.argv[1:]) == 0;"
        f"assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
