"""Write docs/reliability.md: all cases of the fault catalogue, with the results of their tests.

    python tests/reliability.py            run the tests of all cases, store the results, write
    python tests/reliability.py --render   write the page from the stored results

The cases are in tests/catalogue/*.toml; `@pytest.mark.case(ID)` marks the tests of a case.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = ROOT / "tests/catalogue"
RESULTS = ROOT / "benchmarks/results/reliability.json"
PAGE = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- made by tests/reliability.py -->", "<!-- until here -->"
# In the order of the page. The last area is tested in its own environment.
AREAS = {
    "api": "The Wallhaven API",
    "cdn": "The image host",
    "pg": "PostgreSQL",
    "s3": "The store",
    "proc": "The process",
    "clk": "Clocks",
    "dsk": "Disk and memory",
    "af": "Airflow",
}
KILLS, THREATS = "k", "sec"
PATHS = ("single", "multipart")
# How often SIGTERM is sent at each point, for the figure on the page.
REPEATS = "2"
# Virtual environment (.venv + suffix) and folders of each test run.
SUITES = [
    ("", ["tests/unit", "tests/integration", "tests/end_to_end"]),
    ("-airflow", ["tests/airflow", "--ignore", "tests/airflow/celery"]),
    ("-airflow", ["tests/airflow/celery"]),
]


@dataclass(frozen=True)
class Case:
    """A fault, kill point or threat, and what happens then."""

    id: str
    fault: str
    behaviour: str
    excluded: str | None = None


@dataclass(frozen=True)
class Result:
    """The number of tests of a case, and whether all of them passed."""

    tests: int
    held: bool

    def merged_with(self, other: Result | None) -> Result:
        """Return the result of both suites together."""
        if other is None:
            return self
        return Result(self.tests + other.tests, self.held and other.held)


def cases(area: str) -> list[Case]:
    """Return the cases of an area, in their order."""
    found = tomllib.loads((CATALOGUE / f"{area}.toml").read_text(encoding="utf-8"))
    return [Case(name, **fields) for name, fields in found.items()]


def stored_results() -> dict[str, Result]:
    """Return the results of the last test run, by case."""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {name: Result(**result) for name, result in stored["cases"].items()}


def rendered(page: str, results: Mapping[str, Result]) -> str:
    """Return the page with its tables generated again."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n" + "\n".join(_tables(results)) + f"\n{END}{after}"


def _tables(results: Mapping[str, Result]) -> Iterator[str]:
    yield from _summary(results)
    for area, title in AREAS.items():
        yield from _table(f"### {title}", cases(area), results, ("fault", "what happens"))
    yield from _kills(results)
    yield from _table("## Threats", cases(THREATS), results, ("threat", "defence"))


def _summary(results: Mapping[str, Result]) -> Iterator[str]:
    faults = [case for area in AREAS for case in cases(area)]
    points, threats = cases(KILLS), cases(THREATS)
    paths = [f"{point.id} {path}" for point in points for path in PATHS]
    excluded = [case for case in faults if case.excluded]
    yield "| | listed | tested | held | excluded |"
    yield "|---|---|---|---|---|"
    for name, ids, out in (
        ("faults", [case.id for case in faults], len(excluded)),
        ("kill points on both paths", paths, len(paths) - len(results.keys() & paths)),
        ("threats", [case.id for case in threats], sum(bool(it.excluded) for it in threats)),
    ):
        tested = [results[each] for each in ids if each in results]
        held = sum(result.held for result in tested)
        yield f"| {name} | {len(ids)} | {len(tested)} | {held} | {out} |"
    yield ""
    ends = json.loads(RESULTS.read_text(encoding="utf-8"))["sigterm"]
    yield (
        f"SIGTERM was sent {ends['ends']} times, at each point of a run; the slowest shutdown took"
        f" {ends['longest_seconds']:.2f} s.\n"
    )


def _table(
    title: str, listed: list[Case], results: Mapping[str, Result], heads: tuple[str, str]
) -> Iterator[str]:
    yield f"{title}\n\n| case | {heads[0]} | {heads[1]} | tests |\n|---|---|---|---|"
    for case in listed:
        yield f"| {case.id} | {case.fault} | {case.behaviour} | {_verdict(case, results)} |"
    yield ""


def _verdict(case: Case, results: Mapping[str, Result]) -> str:
    if case.excluded:
        return f"not tested: {case.excluded}"
    result = results.get(case.id)
    if result is None:
        return "NOT TESTED"
    return f"{result.tests}" if result.held else "DID NOT HOLD"


def _kills(results: Mapping[str, Result]) -> Iterator[str]:
    yield "## Kill points\n"
    yield "After `kill -9` at the point, the run is resumed and the janitor runs once.\n"
    yield "| point | killed when | what happens | one PUT | multipart |\n|---|---|---|---|---|"
    for case in cases(KILLS):
        cells = [results.get(f"{case.id} {path}") for path in PATHS]
        marks = [("held" if it.held else "DID NOT HOLD") if it else "not reached" for it in cells]
        yield f"| {case.id} | {case.fault} | {case.behaviour} | {' | '.join(marks)} |"
    yield ""


def _run(environment: str, folders: list[str]) -> tuple[dict[str, Result], dict[str, list[float]]]:
    with TemporaryDirectory() as folder:
        report = Path(folder) / "cases.json"
        subprocess.run(
            [
                *(str(ROOT / f".venv{environment}/bin/python"), "-m", "pytest", "-q"),
                *("-p", "case_report", "-n", "2", "--dist", "loadfile", "-m", "case", *folders),
            ],
            cwd=ROOT,
            env={**os.environ, "CASE_REPORT": str(report), "CASE_REPEATS": REPEATS},
            check=False,
        )
        written = json.loads(report.read_text(encoding="utf-8"))
    return {name: Result(**result) for name, result in written["cases"].items()}, written["numbers"]


def _tested() -> dict[str, Any]:
    """Run all suites and return their results, as they are stored."""
    results: dict[str, Result] = {}
    ends: list[float] = []
    for environment, folders in SUITES:
        found, numbers = _run(environment, folders)
        ends += numbers.get("sigterm_seconds", [])
        for name, result in found.items():
            results[name] = result.merged_with(results.get(name))
    return {
        "cases": {name: asdict(result) for name, result in results.items()},
        "sigterm": {"ends": len(ends), "longest_seconds": round(max(ends), 2)},
    }


def main() -> int:
    """Run, store and write; return 1 if a case did not hold."""
    if "--render" not in sys.argv[1:]:
        RESULTS.write_text(json.dumps(_tested(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8"), stored_results()), encoding="utf-8")
    return 0 if all(result.held for result in stored_results().values()) else 1


if __name__ == "__main__":
    sys.exit(main())
