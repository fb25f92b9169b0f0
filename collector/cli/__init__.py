"""Command line: `python -m collector COMMAND`, also installed as `collector`."""

from __future__ import annotations

import sys

from collector.cli import tools as _tools  # its import adds its commands
from collector.cli.app import app
from collector.cli.execution import Exit
from collector.core.errors import SchemaMissing, SettingsError

__all__ = ["main"]

_ALSO_COMMANDS = _tools


def main() -> None:
    """Entry point: `--json` is accepted anywhere, `--env-file` before the command."""
    arguments = sys.argv[1:]
    words = [word for word in arguments if word != "--json"]
    try:
        app(words, prog_name="collector", obj=len(words) != len(arguments))
    except (SettingsError, SchemaMissing) as error:
        sys.stderr.write(f"collector: {error}\n")
        sys.exit(Exit.USAGE)
