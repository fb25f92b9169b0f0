"""What `--help` shows a newcomer."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.main import get_command

from collector.cli.app import COMMANDS, app

TERMINAL_COLUMNS = 80


def listed_commands() -> list[str]:
    command: Any = get_command(app)
    text: str = command.get_help(typer.Context(command, terminal_width=TERMINAL_COLUMNS))
    return text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()


def test_commands_are_listed_in_their_order() -> None:
    assert tuple(line.split()[0] for line in listed_commands()) == COMMANDS


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
