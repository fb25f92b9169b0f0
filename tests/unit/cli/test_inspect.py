"""`config` shows what holds and where it comes from, and no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from collector.cli import run
from collector.settings import Settings

SECRETS = {
    "DATABASE_URL": "postgresql://me:hidden1@db.example:5432/walls",
    "AWS_ACCESS_KEY_ID": "hidden2",
    "AWS_SECRET_ACCESS_KEY": "hidden3",
    "AWS_SESSION_TOKEN": "hidden4",
    "WALLHAVEN_API_KEY": "hidden5",
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_every_setting_is_listed_with_its_origin(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "my.env"
    file.write_text("BUCKET_NAME=walls\nS3_ENDPOINT_URL=\nCOLLECTOR_IN_FLIGHT=4")
    monkeypatch.setenv("COLLECTOR_IN_FLIGHT", "8")
    assert run(["config", "--env-file", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [name.upper() for name in Settings.model_fields]
    assert found["BUCKET_NAME"] == {"value": "walls", "from": str(file)}
    assert found["S3_ENDPOINT_URL"] == {"value": "", "from": str(file)}
    assert found["COLLECTOR_IN_FLIGHT"] == {"value": 8, "from": "environment"}
    assert found["DATABASE_URL"] == {"value": None, "from": "default"}


@pytest.mark.parametrize("style", [[], ["--json"]])
def test_no_secret_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, style: list[str]
) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert run(["config", *style]) == 0
    said = capsys.readouterr().out
    assert "hidden" not in said
    assert "postgresql://me@db.example:5432/walls" in said
    assert said.count("set, not shown") == len(SECRETS) - 1


def test_a_wrong_setting_is_one_line_and_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLLECTOR_IN_FLIGHT", "many")
    assert run(["config"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "COLLECTOR_IN_FLIGHT" in output.err
