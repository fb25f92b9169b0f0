# ruff: noqa: INP001, S314 - a script; it parses a report of its own
"""The cost of a killed Celery worker: runs `make test-celery` and prints its figures.

python3 benchmarks/celery.py > benchmarks/results/celery.json
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Print the figures as one JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        environment = {
            **os.environ,
            "PYTEST_ADDOPTS": f"--junitxml={report} -o junit_family=xunit1",
        }
        subprocess.run(
            ["make", "test-celery"], cwd=ROOT, env=environment, check=True, stdout=sys.stderr
        )
        properties = ET.parse(report).iter("property")
        measured = {it.attrib["name"]: json.loads(it.attrib["value"]) for it in properties}
    figures = {
        "command": "python3 benchmarks/celery.py",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}",
        "runs": [{"command": "make test-celery", **measured}],
    }
    json.dump(figures, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
