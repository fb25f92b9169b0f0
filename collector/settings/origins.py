"""Where the value of each setting comes from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from dotenv import dotenv_values
from pydantic_settings import EnvSettingsSource

from collector.settings.values import Settings

DEFAULT = "default"
ENVIRONMENT = "environment"
OPTION = "option"


def origins(env_file: Path | None, options: Collection[str] = ()) -> dict[str, str]:
    """Return the origin of each setting, by its name in lower case, in the order of Settings.

    That is an option of the command, the environment, the name of the file, or the default, in this
    order. An empty variable means the default, except S3_ENDPOINT_URL. The file must be one that
    load_settings() accepts.
    """
    file = {} if env_file is None else _lower(dotenv_values(env_file, interpolate=False))
    environment = _lower(EnvSettingsSource(Settings).env_vars)

    def origin(name: str) -> str:
        if name in options:
            return OPTION
        for values, found in ((environment, ENVIRONMENT), (file, str(env_file))):
            if name in values:  # it hides what follows, even if it is empty
                return found if values[name] or name == "s3_endpoint_url" else DEFAULT
        return DEFAULT

    return {name: origin(name) for name in Settings.model_fields}


def _lower(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name.lower(): value or "" for name, value in values.items()}
