"""A plugin of pytest that writes, for each case that tests are marked with, how they ended.

Used by tests/reliability.py, which names the file in CASE_REPORT.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

import pytest


class _Cases:
    def __init__(self) -> None:
        self.of: dict[str, list[str]] = {}
        self.ended: dict[str, dict[str, bool]] = defaultdict(dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.of[item.nodeid] = [mark.args[0] for mark in item.iter_markers("case")]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            return
        for case in self.of.get(report.nodeid, []):
            held = self.ended[case].get(report.nodeid, True)
            self.ended[case][report.nodeid] = held and report.passed

    def pytest_sessionfinish(self) -> None:
        said = {
            case: {"tests": len(tests), "held": all(tests.values())}
            for case, tests in self.ended.items()
        }
        Path(os.environ["CASE_REPORT"]).write_text(json.dumps(said), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Cases(), "cases")
