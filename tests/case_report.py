"""A plugin of pytest that writes, for each case that tests are marked with, how they ended.

Used by tests/reliability.py, which names the file in CASE_REPORT. Numbers that tests record go
there, too, by their name. What a test is about travels with its report, also between processes.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest

_CASE = "case"


class _Cases:
    def __init__(self, config: pytest.Config) -> None:
        self._is_worker = hasattr(config, "workerinput")
        self._ended: dict[str, dict[str, bool]] = defaultdict(dict)
        self._numbers: dict[str, list[float]] = defaultdict(list)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            item.user_properties += [(_CASE, mark.args[0]) for mark in item.iter_markers(_CASE)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            return
        for name, value in report.user_properties:
            if name == _CASE:
                held = self._ended[str(value)].get(report.nodeid, True)
                self._ended[str(value)][report.nodeid] = held and report.passed
            elif report.when == "call" and isinstance(value, int | float):
                self._numbers[name].append(value)

    def pytest_sessionfinish(self) -> None:
        if self._is_worker:
            return
        cases = {
            case: {"tests": len(tests), "held": all(tests.values())}
            for case, tests in self._ended.items()
        }
        said = {"cases": cases, "numbers": self._numbers}
        Path(os.environ["CASE_REPORT"]).write_text(json.dumps(said), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Cases(config), "cases")
