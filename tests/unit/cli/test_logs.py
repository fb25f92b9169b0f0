"""What a log line holds."""

from __future__ import annotations

import json
import logging

import pytest

from collector.cli.logs import configure_logging


def test_a_json_line_has_one_time_and_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "INFO")
    logging.getLogger("collector").info("a\nb")
    (line,) = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert sorted(said) == ["levelname", "message", "name", "timestamp"]
    assert said["message"] == r"a\nb"
