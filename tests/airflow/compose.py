"""Reads docker-compose.yml as Compose does, and says how its services run without containers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
# $$, ${NAME}, ${NAME-default if unset}, ${NAME:-default if unset or empty}; a default may hold one
# more variable.
_VARIABLE = re.compile(
    r"\$(?:(?P<dollar>\$)"
    r"|\{(?P<name>\w+)(?:(?P<colon>:?)-(?P<default>(?:[^{}]|\{[^{}]*\})*))?\})"
)


@dataclass(frozen=True)
class Service:
    """One service, interpolated."""

    name: str
    command: list[str]
    environment: dict[str, str]
    healthcheck: list[str]
    depends_on: dict[str, str]
    volumes: dict[str, str]
    profiles: list[str]

    @classmethod
    def read(cls, name: str, entry: Mapping[str, Any]) -> Service:
        """Read the entry of a service; shapes that we do not use raise."""
        return cls(
            name,
            [*entry.get("entrypoint", []), *entry.get("command", [])],
            {key: str(value) for key, value in entry.get("environment", {}).items()},
            entry.get("healthcheck", {}).get("test", []),
            {other: need["condition"] for other, need in entry.get("depends_on", {}).items()},
            {_split(volume)[1]: _split(volume)[0] for volume in entry.get("volumes", [])},
            entry.get("profiles", []),
        )


def _split(volume: str) -> tuple[str, str]:
    source, target, *_ = volume.split(":")
    return source, target


def read_services(environment: Mapping[str, str]) -> dict[str, Service]:
    """Return the services of docker-compose.yml, interpolated with `environment`."""
    text = (ROOT / "docker-compose.yml").read_text()
    document = _interpolate(yaml.safe_load(text), environment)
    return {name: Service.read(name, entry) for name, entry in document["services"].items()}


def read_env_file(name: str) -> dict[str, str]:
    """Return the variables of an env file beside docker-compose.yml."""
    lines = (line.partition("=") for line in (ROOT / name).read_text().splitlines())
    return {key: value for key, is_set, value in lines if is_set and not key.startswith("#")}


def _interpolate(node: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _interpolate(value, environment) for key, value in node.items()}
    if isinstance(node, list):
        return [_interpolate(value, environment) for value in node]
    if isinstance(node, str):
        return _VARIABLE.sub(lambda found: _value(found, environment), node)
    return node


def _value(found: re.Match[str], environment: Mapping[str, str]) -> str:
    if found["dollar"]:
        return "$"
    value = environment.get(found["name"])
    is_missing = value is None or (found["colon"] and not value)
    return _interpolate(found["default"] or "", environment) if is_missing else str(value)
