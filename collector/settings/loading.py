"""Load the settings from the environment and from an `--env-file`.

For a wrong value, SettingsError names the variable and what is allowed, but not the value.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv.parser import parse_stream
from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource

from collector.core.errors import SettingsError
from collector.settings.values import Settings

# Only this program's variables have these prefixes, so an unknown one is misspelt.
_OWN_PREFIXES = ("WALLHAVEN_", "COLLECTOR_")
# Far more than all settings with a comment each need. The parser takes quadratic time for some
# lines: a megabyte of blanks, as in a file named by mistake, would take it hours.
MAX_FILE_BYTES = 65_536
MAX_LINE_CHARACTERS = 8_192
# BUCKET is this similar to BUCKET_NAME: misspelt, not a variable of another program.
_MIN_SIMILARITY = 0.7
# A file may hold settings of other programs too. Looking for a similar name costs a millisecond.
MAX_FILE_NAMES = 500


def load_settings(env_file: Path | None = None, **overrides: Any) -> Settings:
    """Load the settings; the environment takes precedence over the file.

    An override, named like a field of Settings, takes precedence over both. Raises SettingsError,
    which names the first wrong or misspelt variable, without its value.
    """
    if env_file is not None and not env_file.is_file():
        raise SettingsError("--env-file", f"{env_file} is not a file")
    try:
        for name in overrides:
            _require_known(name.upper())
        _require_known_names(env_file)
        return Settings(_env_file=env_file, **overrides)
    except ValidationError as error:
        raise _first_problem(error) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError("--env-file", f"cannot be read ({type(error).__name__})") from None


def _require_known_names(env_file: Path | None) -> None:
    for name in map(str.upper, EnvSettingsSource(Settings).env_vars):
        if name.startswith(_OWN_PREFIXES):
            _require_known(name)
    named = set(map(str.upper, _names_in(env_file))) if env_file else set()
    if len(named) > MAX_FILE_NAMES:
        problem = f"sets more than {MAX_FILE_NAMES} names, so it is not a settings file"
        raise SettingsError("--env-file", problem)
    for name in sorted(named):
        if name.startswith(_OWN_PREFIXES) or _nearest(name):
            _require_known(name)


def _names_in(env_file: Path) -> Iterator[str]:
    for binding in parse_stream(StringIO(_text_of(env_file))):
        if binding.error:
            raise SettingsError("--env-file", f"line {binding.original.line} cannot be parsed")
        if binding.key is not None:
            yield binding.key


def _text_of(env_file: Path) -> str:
    if env_file.stat().st_size > MAX_FILE_BYTES:
        problem = f"has more than {MAX_FILE_BYTES:,} bytes, so it is not a settings file"
        raise SettingsError("--env-file", problem)
    text = env_file.read_text(encoding="utf-8")
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > MAX_LINE_CHARACTERS:
            problem = f"line {number} has more than {MAX_LINE_CHARACTERS:,} characters"
            raise SettingsError("--env-file", problem)
    return text


def _require_known(name: str) -> None:
    if name.lower() not in Settings.model_fields:
        nearest = _nearest(name)
        hint = f"did you mean {nearest}?" if nearest else "`collector config` lists all"
        raise SettingsError(name, f"there is no such setting; {hint}")


def _nearest(name: str) -> str | None:
    known = [field.upper() for field in Settings.model_fields]
    return next(iter(get_close_matches(name, known, n=1, cutoff=_MIN_SIMILARITY)), None)


def _first_problem(error: ValidationError) -> SettingsError:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0])
    if first["type"] == "value_error":
        return SettingsError(name.upper(), first["msg"].removeprefix("Value error, "))
    field = Settings.model_fields[name]
    example = field.examples[0] if field.examples else field.default
    return SettingsError(name.upper(), f"must be {field.description}, such as {example}")
