"""The command line that goes on with an interrupted run, and how an answer is written."""

from __future__ import annotations

import sys
from io import BytesIO, TextIOWrapper

import pytest

from collector.cli.execution import Answer, Invocation
from collector.core.runs import Run


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("run",), "collector run --run-id run__1"),
        (
            ("--json", "run", "--query", "a b", "--limit=3"),
            "collector --json run --query 'a b' --limit=3 --run-id run__1",
        ),
        (("load", "--run-id", "run__1"), "collector load --run-id run__1"),
        (("load", "--run-id=run__1"), "collector load --run-id=run__1"),
    ],
)
def test_what_was_given_and_the_run_id(arguments: tuple[str, ...], line: str) -> None:
    assert Invocation(arguments, False, None).resuming(Run("collector", "run__1")) == line


def test_a_locale_without_the_letters_escapes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    written = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, encoding="ascii"))
    answer = Answer({}, lambda console: console.print("tag: caf\u00e9"))
    Invocation(("status",), False, None).answer(answer)
    sys.stdout.flush()
    assert written.getvalue() == b"tag: caf\\xe9\n"
