"""The command line that resumes an interrupted run, and how answers and log lines are printed."""

from __future__ import annotations

import json
import logging
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from collector.cli.execution import Answer, Invocation
from collector.cli.streams import configure_logging
from collector.core.runs import Run
from collector.settings import Settings


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("run",), "collector run --run-id run__1"),
        (
            ("--json", "run", "--query", "a b", "--limit=3"),
            "collector --json run --query 'a b' --limit=3 --run-id run__1",
        ),
        (("load", "--run-id", "run__1"), "collector load --run-id run__1"),
        (("load", "--run-id=run__1"), "collector load --run-id=run__1"),
    ],
)
def test_a_run_is_resumed_with_its_arguments_and_its_id(
    arguments: tuple[str, ...], line: str
) -> None:
    assert Invocation(arguments, False, None).resuming(Run("collector", "run__1")) == line


@pytest.mark.parametrize(
    ("env_file", "line"),
    [
        (None, "`collector verify --repair`"),
        (Path("my.env"), "`collector --env-file my.env verify --repair`"),
        (Path("/a b/\\1.env"), "`collector --env-file '/a b/\\1.env' verify --repair`"),
    ],
)
def test_a_command_in_a_message_reads_the_same_file(env_file: Path | None, line: str) -> None:
    invocation = Invocation(("verify",), False, env_file)
    assert invocation.command("verify", "--repair") == line
    assert invocation.hinted("run `collector verify --repair`; then go on") == (
        f"run {line}; then go on"
    )
    assert invocation.hinted(line) == line, "it is named once"


def _of_file(tmp_path: Path, text: str) -> tuple[Invocation, Settings]:
    env_file = tmp_path / "my.env"
    env_file.write_text(text)
    invocation = Invocation(("status",), False, env_file)
    return invocation, invocation.settings()


@pytest.mark.case("PROC-17")
@pytest.mark.parametrize(
    ("text", "warned_of"),
    [
        ("PG_URL=postgresql://db/mine", ["DATABASE_URL", "S3_ENDPOINT_URL"]),
        ("DATABASE_URL=postgresql://db/mine", ["S3_ENDPOINT_URL"]),
        ("DATABASE_URL=postgresql://db/mine\nS3_ENDPOINT_URL=", []),
        ("DATABASE_URL=\nS3_ENDPOINT_URL=http://minio:9000", ["DATABASE_URL"]),
    ],
)
def test_a_file_that_leaves_a_server_unset_is_warned_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str,
    warned_of: list[str],
) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    invocation, settings = _of_file(tmp_path, text)
    invocation.warn_of_embedded(settings)
    lines = capsys.readouterr().err.splitlines()
    before = f"[draenei] neither {tmp_path}/my.env nor the environment sets "
    assert [line.removeprefix(before).split()[0].rstrip(":") for line in lines] == warned_of


def test_without_a_file_nothing_is_warned_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    invocation = Invocation(("status",), False, None)
    invocation.warn_of_embedded(Settings())
    assert capsys.readouterr().err == ""


def test_a_line_of_the_log_names_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _of_file(tmp_path, "WALLHAVEN_QUERY=elf")
    logging.getLogger("collector").warning("%s; `collector doctor` says more", "odd")
    said = capsys.readouterr().err
    assert said == f"[draenei] odd; `collector --env-file {tmp_path}/my.env doctor` says more\n"


def test_letters_that_the_locale_lacks_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    written = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, encoding="ascii"))
    answer = Answer({}, lambda console: console.print("tag: caf\u00e9"))
    Invocation(("status",), False, None).answer(answer)
    sys.stdout.flush()
    assert written.getvalue() == b"tag: caf\\xe9\n"


def test_a_json_line_has_one_time_and_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "INFO")
    logging.getLogger("collector").info("a\nb")
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert sorted(said) == ["levelname", "message", "name", "timestamp"]
    assert said["message"] == r"a\nb"
