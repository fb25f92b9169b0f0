"""Each setting says where its value comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.settings import Settings, load_settings
from collector.settings.origins import origins


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_everything_is_a_default_in_an_empty_environment() -> None:
    assert set(origins(None).values()) == {"default"}
    assert list(origins(None)) == list(Settings.model_fields)


def test_option_before_environment_before_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "my.env"
    lines = [
        "WALLHAVEN_QUERY=a",
        "export BUCKET_NAME=mine",
        "COLLECTOR_IN_FLIGHT=8",
        "S3_ENDPOINT_URL=",
    ]
    file.write_text("\n".join(lines))
    monkeypatch.setenv("bucket_name", "yours")
    monkeypatch.setenv("COLLECTOR_MAX_ATTEMPTS", "")
    found = origins(file, {"wallhaven_query"})
    assert {name: origin for name, origin in found.items() if origin != "default"} == {
        "wallhaven_query": "option",
        "bucket_name": "environment",
        "collector_in_flight": str(file),
        "s3_endpoint_url": str(file),
    }
    settings = load_settings(file)
    assert (settings.bucket_name, settings.collector_in_flight) == ("yours", 8)
    assert settings.s3_endpoint_url == ""


def test_an_empty_variable_hides_the_file_and_means_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "my.env"
    file.write_text("COLLECTOR_IN_FLIGHT=8")
    monkeypatch.setenv("COLLECTOR_IN_FLIGHT", "")
    assert origins(file)["collector_in_flight"] == "default"
    assert load_settings(file).collector_in_flight == 16
