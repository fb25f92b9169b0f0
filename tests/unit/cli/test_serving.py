"""What people paste to look around on the embedded servers, and to point to a simulator."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from collector.cli.app import app
from collector.cli.execution import Exit, Invocation
from collector.cli.output import show_lines
from collector.cli.serving import _elsewhere, _until_stopped, exports, where_to_look
from collector.core.runs import Json
from collector.local import LocalS3, LocalServers
from collector.settings import Settings
from collector.simulator import (
    Catalogue,
    Inventory,
    Journal,
    Limit,
    Profile,
    Simulator,
    SimulatorOptions,
    read_profile,
    ready_profiles,
)

PAGE = (Path(__file__).resolve().parents[3] / "docs/simulator.md").read_text()
EXAMPLES = re.findall(r"^collector (simulate .*)$", PAGE, re.MULTILINE)


def test_the_line_for_objects_names_home_and_bucket_and_no_secret() -> None:
    home = Path("/a home")
    s3 = LocalS3("http://127.0.0.1:1", "ACCESS", "SECRET", "us-east-1", home / "s3/log", 1)
    found = where_to_look(LocalServers(None, s3, home), "my-bucket")
    assert found["objects"] == (
        "COLLECTOR_HOME='/a home' BUCKET_NAME=my-bucket"
        f" {shlex.quote(sys.executable)} -m collector objects"
    )
    assert (found["s3_endpoint"], found["s3_credentials"]) == (
        "http://127.0.0.1:1",
        "/a home/s3/identity.json",
    )
    assert "ACCESS" not in str(found)
    assert "SECRET" not in str(found)


def simulated(options: SimulatorOptions) -> Simulator:
    catalogue = Catalogue(options)
    inventory = Inventory(catalogue, options.profile.drift, options.seed)
    return Simulator("http://127.0.0.1:1", catalogue, inventory, Journal(lambda: 0.0))


@pytest.mark.parametrize(
    ("limit", "requests_per_minute", "ceiling"),
    [
        (Limit(), None, None),
        (Limit(requests=12), None, None),
        (Limit(window_seconds=6), None, "450"),
        (Limit(window_seconds=6, requests=12), None, "450"),
        (Limit(window_seconds=120), None, None),
        (Limit(window_seconds=6), 45, None),
    ],
)
def test_the_ceiling_is_shortened_with_the_window(
    limit: Limit, requests_per_minute: int | None, ceiling: str | None
) -> None:
    options = SimulatorOptions.of(
        Profile(limit=limit), wallpapers=1, requests_per_minute=requests_per_minute
    )
    shown = exports(simulated(options), options)
    assert shown.pop("WALLHAVEN_REQUESTS_PER_MINUTE", None) == ceiling
    assert shown == {
        "WALLHAVEN_API_URL": "http://127.0.0.1:1/api/v1",
        "WALLHAVEN_IMAGE_HOSTS": "127.0.0.1:1",
    }


@pytest.mark.parametrize("line", EXAMPLES)
def test_the_documented_commands_are_understood(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "rehearsal.toml").write_text(example)
    monkeypatch.chdir(tmp_path)
    name, *words = shlex.split(line)
    command: Any = get_command(app)
    with command.commands[name].make_context(name, words) as context:
        assert read_profile(context.params["profile"]) != Profile()


def test_the_help_names_every_ready_profile() -> None:
    command: Any = get_command(app)
    (option,) = [each for each in command.commands["simulate"].params if each.name == "profile"]
    assert EXAMPLES
    assert all(name in option.help for name in ready_profiles())


@pytest.mark.parametrize(
    ("given", "ignored"),
    [
        ({}, []),
        ({"BUCKET_NAME": "mine", "COLLECTOR_HOME": "/home"}, []),
        (
            {"DATABASE_URL": "postgresql://db/mine", "S3_ENDPOINT_URL": ""},
            ["DATABASE_URL", "S3_ENDPOINT_URL"],
        ),
        ({"AWS_PROFILE": "mine"}, ["AWS_PROFILE"]),
    ],
)
def test_settings_that_lead_elsewhere_are_named(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], ignored: list[str]
) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert _elsewhere(Settings()) == ignored


@pytest.mark.parametrize("as_json", [True, False])
def test_what_cannot_be_served_is_answered(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    @asynccontextmanager
    async def serve() -> AsyncIterator[Mapping[str, Json]]:
        raise OSError("no room")
        yield {}

    invocation = Invocation(("serve",), as_json, None)
    assert _until_stopped(invocation, serve(), show_lines) is Exit.FAILED
    said = capsys.readouterr()
    assert said.err == "collector: no room\n"
    expected = {"status": "failed", "notes": "no room"}
    assert (json.loads(said.out) if as_json else said.out) == (expected if as_json else "")


def test_a_server_says_that_it_is_ready_and_how_it_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @asynccontextmanager
    async def serve() -> AsyncIterator[Mapping[str, Json]]:
        yield {"rows": "psql"}
        raise AssertionError("it is cancelled")

    def stop(where: Mapping[str, Json], console: object) -> None:
        assert where == {"rows": "psql"}
        os.kill(os.getpid(), signal.SIGTERM)

    invocation = Invocation(("serve",), as_json=False, env_file=None)
    assert _until_stopped(invocation, serve(), stop, ("users: @someone",)) is Exit.DONE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "[draenei] ready; Ctrl-C stops it\n[draenei] users: @someone\n"
