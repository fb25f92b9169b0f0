"""Lines to paste survive a narrow terminal and a shell."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from collector.cli.output import show_exports


def test_exports_are_quoted_for_a_shell_and_never_wrapped() -> None:
    written = StringIO()
    values = {"WALLHAVEN_API_URL": "http://127.0.0.1:1/api/v1", "WALLHAVEN_QUERY": "it's [b]"}
    show_exports(values, Console(file=written, width=20))
    assert written.getvalue().splitlines() == [
        "export WALLHAVEN_API_URL=http://127.0.0.1:1/api/v1",
        "export WALLHAVEN_QUERY='it'\"'\"'s [b]'",
    ]
