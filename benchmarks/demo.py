# ruff: noqa: INP001, S603 - a script
"""The cost of the demo on a fresh clone: seconds of set-up and work, and peak memory.

    python3 benchmarks/demo.py > benchmarks/results/demo.json

It clones the committed project into an empty folder, sets it up there, and runs the demo twice.
Memory is the peak resident size of the collector's process, without the servers that it starts.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# The kernel keeps the peak: polling only has to read it shortly before the process ends.
POLL_SECONDS = 0.02
KIB = 1024


def main() -> None:
    """Print the figures as one JSON object."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        # Servers that run as another user must be able to enter.
        Path(folder).chmod(0o711)
        clone = Path(folder) / "project"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=clone, check=True, capture_output=True, text=True
        )
        figures = {
            "command": "python3 benchmarks/demo.py",
            "date": datetime.now(UTC).date().isoformat(),
            "commit": commit.stdout.strip(),
            "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
            f"Python {platform.python_version()}; packages may come from a cache",
            "runs": [_set_up(clone), _demo(clone, "nothing"), _demo(clone, "everything")],
        }
    json.dump(figures, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _set_up(clone: Path) -> dict[str, Any]:
    began = time.monotonic()
    subprocess.run(["make", "setup"], cwd=clone, check=True, stdout=sys.stderr)
    return {
        "command": "make setup",
        "state": "fresh clone",
        "wall_seconds": round(time.monotonic() - began, 1),
    }


def _demo(clone: Path, stored: str) -> dict[str, Any]:
    argv = [str(clone / ".venv/bin/python"), "-m", "collector", "demo", "--json"]
    environment = {**os.environ, "COLLECTOR_HOME": str(clone / ".collector")}
    began, peak_bytes = time.monotonic(), 0
    process = subprocess.Popen(argv, cwd=clone, env=environment, stdout=subprocess.PIPE)
    while process.poll() is None:
        peak_bytes = max(peak_bytes, _peak_bytes(process.pid))
        time.sleep(POLL_SECONDS)
    assert process.stdout is not None
    audit = json.loads(process.stdout.read())
    return {
        "command": "make demo",
        "state": f"set up, {stored} stored",
        "exit_status": process.returncode,
        "wall_seconds": round(time.monotonic() - began, 1),
        "peak_rss_bytes": peak_bytes,
        "run_audit": {name: audit[name] for name in audit if name != "report"},
        "peak_body_bytes": audit["report"]["stages"]["transfer"]["peak_body_bytes"],
    }


def _peak_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0][1]) * KIB if lines else 0


if __name__ == "__main__":
    main()
