"""The command line that goes on with an interrupted run."""

from __future__ import annotations

import pytest

from collector.cli.execution import Invocation
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
