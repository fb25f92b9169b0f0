"""What is printed is whole: in a narrow terminal, in a pipe, for a shell, whatever it holds."""

from __future__ import annotations

from io import StringIO

import pytest

from collector.cli.output import PlainConsole, show_exports, show_mapping, show_rows

LONG = "r" * 200


def test_exports_are_quoted_for_a_shell_and_never_wrapped() -> None:
    written = StringIO()
    values = {"WALLHAVEN_API_URL": "http://127.0.0.1:1/api/v1", "WALLHAVEN_QUERY": "it's [b]"}
    show_exports(values, PlainConsole(written, width=20))
    assert written.getvalue().splitlines() == [
        "export WALLHAVEN_API_URL=http://127.0.0.1:1/api/v1",
        "export WALLHAVEN_QUERY='it'\"'\"'s [b]'",
    ]


@pytest.mark.parametrize("force", ["", "1"])
def test_in_a_pipe_each_row_is_one_line(monkeypatch: pytest.MonkeyPatch, force: str) -> None:
    monkeypatch.setenv("FORCE_COLOR", force)
    written = StringIO()
    show_rows("runs", [{"run_id": LONG, "status": "failed"}], PlainConsole(written))
    assert any(LONG in line and "failed" in line for line in written.getvalue().splitlines())


def test_values_in_a_narrow_terminal_are_not_cut() -> None:
    written = StringIO()
    show_mapping("run", {"run_id": LONG, "report": {}}, PlainConsole(written, width=20))
    assert written.getvalue().splitlines() == ["run", f" run_id  {LONG}"]


def test_values_are_printed_as_they_are() -> None:
    written = StringIO()
    show_mapping("run", {"run_id": "night:x:[b]run"}, PlainConsole(written))
    assert written.getvalue().splitlines()[1] == " run_id  night:x:[b]run"


def test_no_value_moves_the_cursor_or_makes_a_line() -> None:
    written = StringIO()
    console = PlainConsole(written)
    show_mapping("run", {"notes": "a\x1b[31m\nb"}, console)
    show_rows("runs", [{"notes": "a\x1b[31m\nb"}], console)
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    assert lines == ["run", " notes  a\\x1b[31m\\nb", "runs", " notes", " a\\x1b[31m\\nb"]
