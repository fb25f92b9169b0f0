"""Starts the composed stack on a container engine and asks it what the README asks.

Run by `make compose-smoke`; says "not run" where there is no engine. It uses a project name of
its own and removes what it made, but the stack's ports must be free.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = ["docker", "compose", "-p", "draenei-smoke"]
SIMULATED = ["--profile", "simulator", "--env-file", ".env.simulator"]
# Images are built and pulled before; what is left is the start and one run of 50 pages.
RUN_SECONDS = 300.0
POLL_SECONDS = 5.0
STORED = "SELECT COUNT(*) FROM draenei_content.wallpapers WHERE s3_key IS NOT NULL;"
ENDED = "SELECT status, notes FROM draenei_content.run_audit WHERE status <> 'running';"


def engine_answers() -> bool:
    """Whether a container engine with Compose is there."""
    if shutil.which("docker") is None:
        return False
    asked = [["docker", "info"], ["docker", "compose", "version"]]
    return all(subprocess.run(it, capture_output=True, check=False).returncode == 0 for it in asked)


def compose(*words: str) -> str:
    """Run `docker compose`; return what it wrote to stdout."""
    finished = subprocess.run(
        [*COMPOSE, *SIMULATED, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return finished.stdout


def ask(statement: str) -> str:
    """Return what psql answers to user `airflow`, bare."""
    psql = ["psql", "-U", "airflow", "-d", "airflow", "-Atc", statement]
    return compose("exec", "-T", "postgres", *psql).strip()


def readme_statements() -> list[str]:
    """Return the SQL of the README."""
    return re.findall(r"```sql\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def verify() -> None:
    """Wait for the first daily run; compare table and bucket, and run the README's SQL."""
    deadline = time.monotonic() + RUN_SECONDS
    while not (ended := ask(ENDED)):
        if time.monotonic() > deadline:
            raise TimeoutError("no run has ended: " + compose("logs", "--tail", "20"))
        time.sleep(POLL_SECONDS)
    if not ended.startswith("succeeded"):
        raise ValueError(ended)
    for statement in readme_statements():
        ask(statement)
    listing = compose("run", "--rm", "-T", "minio-init", "ls", "--recursive", "local")
    objects, rows = len(re.findall(r"wallpapers/\w+\.\w+", listing)), int(ask(STORED))
    if not 0 < rows == objects:
        raise ValueError(f"{rows} rows are stored, and {objects} objects are there")
    print(f"compose-smoke: {rows} rows, each with its object")


def main() -> int:
    """Return the exit status."""
    if not engine_answers():
        print("compose-smoke: not run (no container engine with Compose on this machine)")
        return 0
    try:
        compose("up", "--build", "--detach")
        verify()
    finally:
        compose("down", "--volumes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
