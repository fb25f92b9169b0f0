"""What the Dockerfile promises and a linter does not know."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import pytest

import collector

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("cli", "airflow")


@dataclass(frozen=True)
class Stage:
    """One `FROM ... AS name` and the instructions below it."""

    name: str
    parent: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def arguments(self, instruction: str) -> list[str]:
        return [rest for word, rest in self.steps if word == instruction]


def read_stages() -> dict[str, Stage]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    stages: dict[str, Stage] = {}
    for line in filter(None, joined.splitlines()):
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            parent, _, name = rest.split()
            stage = stages[name] = Stage(name, parent)
        else:
            stage.steps.append((word, rest))
    return stages


def pins(name: str) -> set[str]:
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    return {line.split()[0] for line in lines if re.match(r"[a-z0-9].*==", line)}


STAGES = read_stages()


def lineage(name: str) -> list[Stage]:
    stage = STAGES.get(name)
    return [] if stage is None else [*lineage(stage.parent), stage]


def from_context(stage: Stage) -> list[str]:
    """What `stage` copies from the build context: every word but the last, which is where to."""
    copies = [rest.split() for rest in stage.arguments("COPY") if "--from=" not in rest]
    return [word for words in copies for word in words[:-1] if not word.startswith("--")]


def test_airflow_is_what_a_build_without_a_target_gives() -> None:
    assert list(STAGES)[-1] == "airflow"


def test_the_one_outside_image_is_pinned_to_a_patch_release() -> None:
    outside = {stage.parent for stage in STAGES.values()} - set(STAGES)

    assert len(outside) == 1
    assert re.fullmatch(r"python:3\.12\.\d+-slim-bookworm", outside.pop())


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_another_user_than_root(target: str) -> None:
    user = STAGES[target].arguments("USER")[-1]

    assert all(int(number) > 0 for number in user.split(":"))


@pytest.mark.parametrize("target", TARGETS)
def test_a_command_is_process_1_without_a_shell_before_it(target: str) -> None:
    (command,) = STAGES[target].arguments("CMD")

    assert all(isinstance(word, str) for word in json.loads(command))
    assert not any(stage.arguments("ENTRYPOINT") for stage in lineage(target))


@pytest.mark.parametrize("target", TARGETS)
def test_the_last_run_checks_the_dependencies_after_all_are_copied(target: str) -> None:
    words = [word for word, _ in STAGES[target].steps]
    copied = [
        at
        for at, (word, rest) in enumerate(STAGES[target].steps)
        if word == "COPY" and "venv" in rest
    ]
    last_run = len(words) - 1 - words[::-1].index("RUN")

    assert copied[-1] < last_run
    assert " check " in STAGES[target].steps[last_run][1]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_inherits_no_stage_with_build_tools(target: str) -> None:
    runs = [run for stage in lineage(target) for run in stage.arguments("RUN")]

    assert not [run for run in runs if "apt-get" in run or "pip install" in run]


def test_bytecode_is_never_switched_off() -> None:
    assert "PYTHONDONTWRITEBYTECODE" not in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", STAGES.values(), ids=lambda stage: stage.name)
def test_what_is_copied_exists_and_passes_dockerignore(stage: Stage) -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]

    for source in from_context(stage):
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, f"{name}*") for name in kept), source


@pytest.mark.case("SEC-11")
def test_only_locked_requirements_that_were_copied_are_installed() -> None:
    for stage in STAGES.values():
        for run in stage.arguments("RUN"):
            for name in re.findall(r"-r (\S+)", run):
                assert "--require-hashes" in run
                assert name in from_context(stage)
                assert "--hash=sha256:" in (ROOT / name).read_text(encoding="utf-8")


def test_code_comes_after_dependencies_so_that_a_change_installs_nothing_anew() -> None:
    installing = [
        stage for stage in STAGES.values() if any("-r " in r for r in stage.arguments("RUN"))
    ]

    assert installing
    for stage in installing:
        assert all(source.startswith("requirements/") for source in from_context(stage))


def test_the_label_says_the_version() -> None:
    (label,) = STAGES["runtime"].arguments("LABEL")

    assert f'org.opencontainers.image.version="{collector.__version__}"' in label


@pytest.mark.parametrize(
    ("image", "tested"), [("airflow.txt", "airflow-test.txt"), ("engine.txt", "dev.txt")]
)
def test_the_tests_run_what_the_image_carries(image: str, tested: str) -> None:
    assert pins(image) <= pins(tested)
