"""Whether advisories are known of what is shipped: `make advisories`.

    python tests/advisories.py

Exit 1 where one is known of a locked package, and where the audit itself fails. Where the index of
advisories does not answer, that is said, and nothing is claimed: a silent index is no clean bill,
and no fault of the project.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# What users run; what only tests and benchmarks need is not shipped.
SHIPPED = ("engine", "local", "airflow")
_ANSWER_SECONDS = 30
_PACKAGE = re.compile(r"^[A-Za-z0-9._-]+(?:\[[^]]*\])?==", re.MULTILINE)
# How its traceback ends where nobody answers.
_UNREACHED = re.compile(r"(?:ConnectionError|ServiceError|ConnectTimeout|ReadTimeout)\b")
_MAX_COMPLAINT = 2000


@dataclass(frozen=True, slots=True)
class Audit:
    """What an index of advisories knows of some packages: `known` is a line for each advisory."""

    audited: int
    unaudited: int
    known: tuple[str, ...]

    def __str__(self) -> str:
        if not self.audited:
            return f"NOT AUDITED: no index of advisories answers here ({self.unaudited} packages)"
        rest = f", {self.unaudited} NOT AUDITED" if self.unaudited else ""
        return f"{self.audited} packages audited{rest}, {len(self.known)} advisories"


def read(report: Mapping[str, Any]) -> Audit:
    """Read what pip-audit prints as JSON; a package that it skipped counts as not audited."""
    packages: Sequence[Mapping[str, Any]] = report["dependencies"]
    audited = [package for package in packages if "skip_reason" not in package]
    known = (line for package in audited for line in _advisories(package))
    return Audit(len(audited), len(packages) - len(audited), tuple(known))


def _advisories(package: Mapping[str, Any]) -> Iterator[str]:
    for advisory in package["vulns"]:
        fixes = ", ".join(advisory["fix_versions"]) or "no release"
        yield f"{package['name']} {package['version']}: {advisory['id']}, mended in {fixes}"


def ask(requirements: Path) -> Audit:
    """Ask for all packages of a requirements file, which are not installed for that."""
    command = ("-m", "pip_audit", "--requirement", str(requirements), "--disable-pip")
    options = ("--require-hashes", "--format", "json", "--progress-spinner", "off")
    limit = ("--timeout", str(_ANSWER_SECONDS))
    done = subprocess.run(
        (sys.executable, *command, *options, *limit), capture_output=True, text=True, check=False
    )
    return judge(done.stdout, done.stderr, packages_of(requirements))


def packages_of(requirements: Path) -> int:
    """Count what a requirements file names."""
    return len(_PACKAGE.findall(requirements.read_text(encoding="utf-8")))


def judge(printed: str, complaints: str, packages: int) -> Audit:
    """Read what pip-audit has printed; where no index could be reached, nothing was audited.

    Raises SystemExit where it failed in any other way.
    """
    if printed.strip():
        return read(json.loads(printed))
    if _UNREACHED.search(complaints):
        return Audit(0, packages, ())
    raise SystemExit(f"[advisories] pip-audit failed: {complaints[-_MAX_COMPLAINT:]}")


def main() -> int:
    audits = {name: ask(ROOT / f"requirements/{name}.txt") for name in SHIPPED}
    for name, audit in audits.items():
        print(f"[advisories] requirements/{name}.txt: {audit}")  # noqa: T201
        for line in audit.known:
            print(f"[advisories]   {line}")  # noqa: T201
    return int(any(audit.known for audit in audits.values()))


if __name__ == "__main__":
    sys.exit(main())
