"""Reads a profile from a TOML file: a ready one by its name, any other by its path."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from collector.simulator.profile import (
    Account,
    Defaults,
    Drift,
    Limit,
    Listing,
    Outage,
    Profile,
)
from collector.simulator.rules import InvalidKeyError, Section, listed, rules_of, suggestion

_FOLDER = Path(__file__).parent / "profiles"
_SUFFIX = ".toml"
# Far more than all keys with a comment each. The parser squares the parts of a dotted key: one of
# a megabyte would take it hours.
_MAX_FILE_BYTES = 65_536
_MAX_LINE_CHARACTERS = 1_000

# The tables of a profile file; those of the last one may come many times.
SECTIONS: dict[str, type[Section]] = {
    "defaults": Defaults,
    "limit": Limit,
    "drift": Drift,
    "listing": Listing,
    "account": Account,
    "outages": Outage,
}

S = TypeVar("S", bound=Section)


class ProfileError(ValueError):
    """`file` is no profile: `key` is what is wrong in it, None for the file itself."""

    def __init__(self, file: str, problem: str, key: str | None = None) -> None:
        super().__init__(f"{file}: {key} {problem}" if key else f"{file}: {problem}")
        self.file = file
        self.problem = problem
        self.key = key


def ready_profiles() -> tuple[str, ...]:
    """Return the names of the profiles that are part of the package, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob(f"*{_SUFFIX}")))


def read_profile(name: str) -> Profile:
    """Return a ready profile, or that of the file at this path; a ready name wins.

    Raises ProfileError if there is no such file, or if it says anything that no profile says.
    """
    ready = ready_profiles()
    path = _FOLDER / f"{name}{_SUFFIX}" if name in ready else Path(name)
    try:
        content = tomllib.loads(_text_of(path))
    except FileNotFoundError:
        problem = f"no such file, nor a ready profile: {listed(ready)}{suggestion(name, ready)}"
        raise ProfileError(name, problem) from None
    except OSError as error:
        raise ProfileError(name, str(error.strerror)) from None
    except (ValueError, RecursionError) as error:
        raise ProfileError(name, f"is no TOML: {error}") from None
    return profile_of(content, name)


def _text_of(path: Path) -> str:
    """Return the text of a file; raises ValueError where it is longer than any profile."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(f"it has more than {_MAX_FILE_BYTES:,} bytes")
    text = path.read_text(encoding="utf-8")
    if any(len(line) > _MAX_LINE_CHARACTERS for line in text.splitlines()):
        raise ValueError(f"a line has more than {_MAX_LINE_CHARACTERS:,} characters")
    return text


def profile_of(content: Mapping[str, Any], file: str) -> Profile:
    """Return the profile that a parsed file describes. Raises ProfileError, which names `file`."""
    _refuse_unknown(content, tuple(SECTIONS), file, "")
    return Profile(
        defaults=_section(Defaults, content.get("defaults", {}), file, "defaults"),
        limit=_section(Limit, content.get("limit", {}), file, "limit"),
        drift=_section(Drift, content.get("drift", {}), file, "drift"),
        listing=_section(Listing, content.get("listing", {}), file, "listing"),
        account=_section(Account, content.get("account", {}), file, "account"),
        outages=tuple(_outages(content.get("outages", []), file)),
    )


def _outages(tables: object, file: str) -> Iterator[Outage]:
    if not isinstance(tables, list):
        raise ProfileError(file, "must be tables, each headed [[outages]]", "outages")
    for number, table in enumerate(tables, start=1):
        yield _section(Outage, table, file, f"outages {number}")


def _section(kind: type[S], table: object, file: str, name: str) -> S:
    if not isinstance(table, dict):
        raise ProfileError(file, f"must be a table, not {table!r}", name)
    _refuse_unknown(table, tuple(rules_of(kind)), file, f"{name}.")
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
    try:
        return kind(**values)
    except InvalidKeyError as error:
        raise ProfileError(file, error.problem, f"{name}.{error.name}") from None


def _refuse_unknown(
    table: Mapping[str, object], known: tuple[str, ...], file: str, prefix: str
) -> None:
    for key in table:
        if key not in known:
            raise ProfileError(file, f"is unknown{suggestion(key, known)}", f"{prefix}{key}")
