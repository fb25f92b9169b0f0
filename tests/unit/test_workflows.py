"""What a hosting platform would run: pinned, with few rights, and nothing that is not run here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import collector

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = {path.stem: path for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}
PARSED: dict[str, Any] = {
    name: yaml.safe_load(path.read_text()) for name, path in WORKFLOWS.items()
}
CI_JOBS: dict[str, Any] = PARSED["ci"]["jobs"]
NEEDS_DOCKER = {"compose-smoke": ["docker info", "make compose-smoke"]}
# More than reading the code, and the one job of release.yml that may do it.
RIGHTS = {"id-token": "publish", "packages": "image"}


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, workflow in PARSED.items():
        for title, job in workflow["jobs"].items():
            yield name, title, job


def test_every_command_of_ci_is_a_target_that_the_other_ci_runs() -> None:
    run_here = set(re.findall(r"^make [\w-]+", (ROOT / ".ci/run").read_text(), re.MULTILINE))
    wanted = {name: commands(job) for name, job in CI_JOBS.items() if name not in NEEDS_DOCKER}
    assert {command for found in wanted.values() for command in found} == run_here - {
        "make compose-smoke"
    }
    assert all(wanted.values())


def test_containers_are_asked_for_an_engine_first() -> None:
    assert {name: commands(CI_JOBS[name]) for name in NEEDS_DOCKER} == NEEDS_DOCKER


def test_the_tests_run_on_every_python_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    classified = re.findall(r"Python :: (3\.\d+)", " ".join(project["classifiers"]))
    job = CI_JOBS["test"]
    assert job["strategy"]["matrix"]["python"] == classified
    versions = [step["with"].get("python-version") for step in job["steps"] if "with" in step]
    assert "${{ matrix.python }}" in versions


@pytest.mark.case("SEC-11")
@pytest.mark.parametrize("path", WORKFLOWS.values(), ids=WORKFLOWS)
def test_actions_are_pinned_by_commit_and_say_their_version(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    # One version of each action, so that an update changes all of them.
    everywhere = set(re.findall(r"uses: (.*)", "".join(p.read_text() for p in WORKFLOWS.values())))
    names = [action.partition("@")[0] for action in everywhere]
    assert len(names) == len(set(names))


def test_a_job_may_read_the_code_and_little_else() -> None:
    for name, workflow in PARSED.items():
        assert workflow["permissions"] == {}, name
    for name, title, job in jobs():
        more = dict(job["permissions"])
        assert more.pop("contents") == "read"
        for right, value in more.items():
            assert (name, RIGHTS[right], value) == ("release", title, "write")
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            if "actions/checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_no_command_has_an_expression_pasted_into_it() -> None:
    for _, title, job in jobs():
        assert not [command for command in commands(job) if "${{" in command], title


@pytest.mark.parametrize(
    ("tag", "is_released"),
    [
        (f"v{collector.__version__}", True),
        (collector.__version__, False),
        ("v0.0.0", False),
    ],
)
def test_only_the_tag_of_the_version_is_released(
    tag: str, is_released: bool, tmp_path: Path
) -> None:
    (check,) = [it for it in commands(PARSED["release"]["jobs"]["build"]) if "__version__" in it]
    (tmp_path / "python").symlink_to(sys.executable)
    ended = subprocess.run(
        ["bash", "-c", check],
        cwd=ROOT,
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "GITHUB_REF_NAME": tag},
        check=False,
    )
    assert (ended.returncode == 0) is is_released


def test_what_is_released_is_what_make_builds() -> None:
    assert "make dist" in commands(PARSED["release"]["jobs"]["build"])
    rule = re.search(r"^dist:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert rule
    assert "-m hatchling build -d dist" in rule[1]


def test_hooks_run_programs_that_lint_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (repository,) = config["repos"]
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert lint
    for hook in repository["hooks"]:
        program = re.match(r"\.venv/bin/([\w-]+)", hook["entry"])
        assert program, hook
        assert f"$(BIN)/{program[1]}" in lint[1]


def test_the_changelog_has_this_version_or_says_that_it_is_to_come() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.*?)\]", changelog, re.MULTILINE)
    assert headings[0] == "Unreleased"
    released = headings[1:]
    version = collector.__version__
    assert (
        released[0] == version if released else f"The first release will be {version}" in changelog
    )
