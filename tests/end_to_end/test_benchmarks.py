"""The benchmark that people run on their own store."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_tuning_advises_and_leaves_nothing(
    environment: dict[str, str], collector, tmp_path: Path
) -> None:
    said = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/transfer/tune.py"), "--seconds", "0.05"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    steps = re.findall(r"^ +(\d+) +[\d.]+ +\d+ +[\d.]+s$", said.stdout, re.MULTILINE)
    assert steps == ["1", "2", "4", "8", "16", "32", "64"]
    (in_flight,) = re.findall(r"^COLLECTOR_IN_FLIGHT=(\d+)$", said.stdout, re.MULTILINE)
    assert in_flight in steps
    assert "the API lists at most 18" in said.stdout
    assert collector("migrate").status == 0
    assert collector("objects", "--json").answer["objects"] == []
